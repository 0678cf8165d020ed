"""Scores of inverted texts against the true documents and mismatched ones."""

import pytest
import torch

from v2v_lite.privacy import (
    contains_fact,
    facts_found,
    medication_found,
    text_leakage,
    token_f1,
)
from v2v_lite.spaces import DataError, Document

WORDS = [f"w{i}" for i in range(40)]


def document(number, text, label="a", **more):
    return Document(f"d{number}", "private", text, (label,), **more)


@pytest.mark.parametrize(
    "text, fact, found",
    [
        ("Started Metformin, 500.", "metformin", True),
        ("metformins", "metformin", False),
        ("It is £71,000 now", "71", False),
        ("It is £71,000 now", "£71,000", True),
        ("BP 12.1", "2.1", False),
        ("PSA 2.1.", "2.1", True),
        ("(anna)", "Anna", True),
    ],
)
def test_facts_are_whole_words(text, fact, found):
    assert contains_fact(text, fact) is found


def test_shares_of_facts():
    d = document(0, "Ann took Lithium 400", facts={"dose": "400"},
                 medication=("lithium",), people=("Ann",))  # fmt: skip
    assert facts_found("lithium for ann", d) == pytest.approx(2 / 3)
    assert medication_found("no", d) == 0
    assert facts_found("x", document(1, "x")) is None


def test_f1_by_hand():
    d = document(0, "a b b c")
    assert token_f1("b b b a", d) == pytest.approx(2 * 3 / 8)
    assert token_f1("", d) == 0 and token_f1("a b b c", d) == 1


def random_documents(n, seed):
    g = torch.Generator().manual_seed(seed)
    draws = torch.randint(0, len(WORDS), (n, 12), generator=g).tolist()
    return [
        document(i, " ".join(WORDS[w] for w in draw), label="ab"[i % 2])
        for i, draw in enumerate(draws)
    ]


def test_the_gain_of_random_texts_is_centred_at_zero():
    z = []
    for seed in range(20):
        documents = random_documents(60, seed)
        texts = [d.text for d in random_documents(60, 100 + seed)]
        z.append(text_leakage(texts, range(60), documents, token_f1).z)
    z = torch.tensor(z)
    assert abs(z.mean()) < 3 / len(z) ** 0.5 and 0.5 < z.std() < 1.6


def test_the_true_texts_leak_and_the_control_is_the_other_documents_of_the_label():
    documents = random_documents(8, 0)
    found = text_leakage(
        [documents[0].text, documents[1].text], [0, 1], documents, token_f1
    )
    pairs = [(i, j) for i in (0, 1) for j in range(8) if j != i and (i - j) % 2 == 0]
    others = [token_f1(documents[i].text, documents[j]) for i, j in pairs]
    assert found.own.mean == 1 and found.n == 2
    assert found.control.mean == pytest.approx(sum(others) / len(others))
    assert found.gain.mean == pytest.approx(1 - found.control.mean)


def test_documents_without_the_thing_do_not_count():
    documents = [document(i, "x 4", facts={"a": "4"} if i else {}) for i in range(4)]
    assert text_leakage(["4", "4", "x"], [0, 1, 2], documents, facts_found).n == 2
    with pytest.raises(DataError, match="1 rows"):
        text_leakage(["4", "4"], [0, 1], documents, facts_found)
    with pytest.raises(DataError, match="2 texts for 1 rows"):
        text_leakage(["4", "4"], [0], documents, facts_found)
