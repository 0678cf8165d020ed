"""Lists of words: expected F1 by brute force, clues by hand, a list that is read."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from experiments import words
from v2v_lite.privacy import token_f1, tokens
from v2v_lite.spaces import document_space, load_documents, unit

pytest.importorskip("wordllama")
pytest.importorskip("sklearn")


@given(st.lists(st.floats(0.001, 1), min_size=1, max_size=12))
def test_the_list_has_the_largest_expected_f1(p):
    items = [(f"w{i}", 1) for i in range(len(p))]
    chosen = words.best(torch.tensor(p, dtype=torch.float64), items).split()
    order = sorted(p, reverse=True)
    value = {k: 2 * sum(order[:k]) / (k + sum(p)) for k in range(1, len(p) + 1)}
    assert value[len(chosen)] == pytest.approx(max(value.values()))
    left = {p[int(word[1:])] for word in {name for name, _ in items} - {*chosen}}
    assert min(p[int(word[1:])] for word in chosen) >= max(left, default=0)


def test_occurrences_are_counted():
    items = words.items_of(["a cat, a dog", "a cat"])
    assert set(items) == {("a", 1), ("a", 2), ("cat", 1), (",", 1), ("dog", 1)}
    table = words.present(["a", "a a a cat"], items)
    rows = [{item for item, is_in in zip(items, row, strict=True) if is_in}
            for row in table.tolist()]  # fmt: skip
    assert rows == [{("a", 1)}, {("a", 1), ("a", 2), ("cat", 1)}]


def test_errors_have_their_cosine():
    g = torch.Generator().manual_seed(0)
    rows, centre = torch.randn(20, 30, generator=g), torch.randn(30, generator=g)
    moved = words.away(rows, centre, 0.4, g)
    cosine = (unit(moved - centre) * unit(rows - centre)).sum(1)
    assert torch.allclose(cosine, torch.full((20,), 0.4), atol=1e-5)


def test_a_list_that_is_read_beats_one_that_is_not():
    public = load_documents("notes", "public")
    own = words.Own(public.texts, document_space(public, "wordllama").vectors)
    asked, known = own.take(range(600, 640)), own.take(range(200))
    lists = words.likely(known, asked.vectors, "wordllama", True)
    usual = words.frequent(known)
    assert all(tokens(one) for one in lists)
    read, constant = (
        sum(token_f1(a, public[i]) for a, i in zip(some, range(600, 640), strict=True))
        for some in (lists, [usual] * 40)
    )
    assert read > constant
    shuffled = words.likely(known, asked.vectors.roll(1, 0), "wordllama", True)
    wrong = sum(
        token_f1(a, public[i]) for a, i in zip(shuffled, range(600, 640), strict=True)
    )
    assert read > wrong
