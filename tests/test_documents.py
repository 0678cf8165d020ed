"""Documents of our own: what the file must be, what it must show, how bad ones fail."""

import json
import re
from collections import Counter

import numpy as np
import pytest
import routine as routine_notes
import torch

from v2v_lite.spaces import DataError, data_folder, encode, load, load_documents
from v2v_lite.spaces.documents import SETS, document_space, read_documents, read_labels

FOLDER = data_folder() / "documents"


@pytest.fixture(scope="module", params=SETS)
def every(request):
    return load_documents(request.param)


def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


def trigrams(text):
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


def test_there_are_enough_of_them():
    sizes = {name: load_documents(name) for name in SETS}
    assert len(sizes["posts"]) >= 1200 and len(sizes["posts"].labels) == 19
    assert len(sizes["emails"]) >= 600 and len(sizes["emails"].labels) == 12
    assert len(sizes["notes"]) >= 1200 and len(sizes["notes"].labels) >= 40
    sensitive = {x.key for x in sizes["emails"].labels if x.sensitive}
    assert len(sensitive) == 5
    share = np.mean([row.labels[0] in sensitive for row in sizes["emails"]])
    assert 0.3 < share < 0.37
    assert all(1 <= len(row.labels) <= 4 for row in sizes["notes"])
    assert all(row.age_group for row in sizes["notes"])
    assert any(len(row.labels) == 2 for row in sizes["posts"])


def test_every_label_is_on_documents_of_both_parts(every):
    for split in ("public", "private"):
        counts = every.part(split).multi_hot().sum(0)
        assert counts.min() >= 10, every.labels[int(counts.argmin())].key


def test_no_two_share_half_of_their_trigrams(every):
    grams = [trigrams(row.text) for row in every]
    where = {}
    for i, found in enumerate(grams):
        for gram in found:
            where.setdefault(gram, []).append(i)
    shared = Counter()
    for rows in where.values():
        for a, i in enumerate(rows):
            shared.update((i, j) for j in rows[a + 1 :])
    for (i, j), count in shared.items():
        limit = 0.5 * min(len(grams[i]), len(grams[j]))
        assert count < limit, (every[i].id, every[j].id)


def test_no_opening_is_a_habit(every):
    bodies = [text.partition("\n\n")[2] or text for text in every.texts]
    for texts in (every.texts, bodies):
        openings = Counter(tuple(words(text)[:5]) for text in texts)
        assert openings.most_common(1)[0][1] <= 0.005 * len(every)


def test_public_and_private_share_no_person_and_no_firm(every):
    for field in ("people", "firms"):
        names = [
            {name for row in every.part(split) for name in getattr(row, field)}
            for split in ("public", "private")
        ]
        assert all(names) and not names[0] & names[1]
    surnames = [
        {name.split()[-1] for row in every.part(split) for name in row.people}
        for split in ("public", "private")
    ]
    assert not surnames[0] & surnames[1]


def test_secrets_are_in_the_text():
    emails, notes = load_documents("emails"), load_documents("notes")
    sensitive = {label.key for label in emails.labels if label.sensitive}
    for row in emails:
        if row.labels[0] in sensitive:
            assert len(row.facts) >= 3, row.id
    assert all(row.facts or row.medication for row in notes)
    for row in (*emails, *notes):
        for value in row.facts.values():
            assert value in row.text


def test_vectors_are_those_of_the_texts(every):
    private = every.part("private")
    space = document_space(private, "wordllama")
    texts = [private[i].text for i in (0, 7, 31)]
    again = encode(texts, "wordllama", progress=False).vectors
    cosines = (again * space.vectors[[0, 7, 31]]).sum(1)
    assert cosines.min() > 0.9995
    labels = document_space(every, "wordllama", "labels")
    assert labels.n == len(every.labels)
    again = encode([every.labels[3].description], "wordllama", progress=False)
    assert (again.vectors[0] @ labels.vectors[3]) > 0.9995
    assert torch.equal(labels.mean, space.mean)


@pytest.mark.parametrize("encoder", ["minilm", "granite", "arctic", "wordllama"])
def test_all_four_encoders_know_them(every, encoder):
    space = document_space(every, encoder)
    assert space.n == len(every)
    parts = [load(encoder, p, f"documents/{every.name}") for p in ("train", "eval")]
    assert [p.n for p in parts] == [len(every.part(s)) for s in ("public", "private")]


def test_a_zero_shot_guess_is_well_above_the_majority_label(every):
    private = every.part("private")
    rows = document_space(private, "minilm")
    labels = document_space(every, "minilm", "labels")
    guess = ((rows.vectors - rows.mean) @ (labels.vectors - labels.mean).T).argmax(1)
    hot = private.multi_hot()
    hit = hot[torch.arange(len(private)), guess].float().mean()
    majority = hot.float().mean(0).max()
    assert hit > 3 * majority


def test_small_enough():
    files = [p for p in FOLDER.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) <= 8.5e6


LINES = [
    {"id": "a", "split": "public", "text": "Goal after goal.", "labels": ["sports"]},
    {"id": "b", "split": "private", "text": "Two eggs, a pan.", "labels": ["food"]},
]


def spoil(index, **change):
    return [line | (change if i == index else {}) for i, line in enumerate(LINES)]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (spoil(1, text=" "), "line 2: text is ' '"),
        (spoil(1, labels=5), "line 2: labels is 5, but list is needed"),
        (spoil(1, labels=[["food"]]), "line 2: not a document"),
        (spoil(1, facts={"dish": 5}), "line 2: not a document"),
        (spoil(0, labels=["cheese"]), "line 1: unknown label 'cheese'"),
        (spoil(0, labels=[]), "line 1: no label"),
        (spoil(1, id="a"), "line 2: id 'a' is that of line 1"),
        (spoil(1, split="secret"), "line 2: split 'secret'"),
        (spoil(1, facts={"dish": "soup"}), "line 2: 'soup' is not in the text"),
        (spoil(1, age_group="old"), "line 2: age_group 'old'"),
        (spoil(1, colour="red"), "line 2.*colour"),
    ],
)
def test_a_bad_row_is_named(tmp_path, lines, message):
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    labels = read_labels(FOLDER / "labels.json", "posts")
    with pytest.raises(DataError, match=message) as error:
        read_documents(path, labels)
    assert "posts.jsonl" in str(error.value)


def test_a_file_cut_short_is_named(tmp_path):
    whole = (FOLDER / "posts.jsonl").read_bytes()
    (tmp_path / "documents").mkdir()
    for name in ("labels.json", "posts.jsonl"):
        (tmp_path / "documents" / name).write_bytes((FOLDER / name).read_bytes())
    manifest = (data_folder() / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(manifest)
    assert len(load_documents("posts", folder=tmp_path)) > 1000
    cut = tmp_path / "documents" / "posts.jsonl"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"posts\.jsonl, line \d+: not valid JSON"):
        load_documents("posts", folder=tmp_path)
    cut.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 1])
    with pytest.raises(DataError, match=r"posts\.jsonl: cut short"):
        load_documents("posts", folder=tmp_path)
    cut.unlink()
    with pytest.raises(DataError, match=r"posts\.jsonl: the file is missing"):
        load_documents("posts", folder=tmp_path)


def test_unknown_names():
    with pytest.raises(
        DataError, match="documents/posts, documents/emails, documents/notes"
    ):
        load_documents("letters")
    with pytest.raises(DataError, match="public"):
        load_documents("posts", "secret")


def test_routine_notes_are_dull_and_a_set_of_their_own():
    notes, routine = load_documents("notes"), load_documents("routine")
    assert routine.labels == notes.labels
    assert [len(routine.part(s)) for s in ("public", "private")] == [100, 200]
    known = {name.split()[-1] for row in notes for name in row.people}
    parts = [
        {name.split()[-1] for row in routine.part(s) for name in row.people}
        for s in ("public", "private")
    ]
    assert not parts[0] & parts[1] and not known & (parts[0] | parts[1])
    assert all(row.facts["patient"] in row.text and row.age_group for row in routine)
    assert routine.part("private").multi_hot().sum(0).min() >= 2
    test_no_two_share_half_of_their_trigrams(routine)
    for encoder in ("minilm", "granite", "arctic", "wordllama"):
        assert document_space(routine.part("private"), encoder).n == 200


def test_routine_notes_are_those_of_their_program():
    made = routine_notes.written()
    kept = [json.loads(x) for x in (FOLDER / "routine.jsonl").read_text().splitlines()]
    assert made == kept
