"""The experiment that asks for drugs first, on few rows, and its stored result."""

import pytest

from experiments import asked
from v2v_lite.privacy import contains_fact
from v2v_lite.spaces import DataError, load_documents
from v2v_lite.teaching import results

pytest.importorskip("wordllama")


def test_it_asks_confirms_and_writes(tmp_path):
    plan = asked.Plan((), "wordllama", 12, 3_000, own=60)
    table, lacks = asked.measure(plan, tmp_path, jobs=0)
    (row,) = table["rows"]
    assert lacks == [] and row["rows"] == 12
    own = {how: row[how]["facts"]["own"]["mean"] for how in ("search", "confirmed")}
    assert row["written"]["facts"]["own"]["mean"] >= max(own.values())
    over = row["answers"]["over_nearest"]["mean"]
    apart = (row[how]["facts"]["gain"]["mean"] for how in ("answers", "nearest"))
    assert over == pytest.approx(next(apart) - next(apart))
    assert row["nearest"]["over_nearest"]["mean"] == 0
    named = [one["own"]["mean"] for one in row["lengths"]]
    assert [one["k"] for one in row["lengths"]] == [*asked.LENGTHS]
    assert named == sorted(named) and named[0] < named[-1]  # a longer list has them all
    assert all(0 <= one["right"] <= 1 for one in row["lengths"])
    assert row["words"]["token_f1"]["own"]["mean"] > 0


def test_copies_name_other_drugs_and_say_which():
    public = load_documents("notes", "public")
    texts, answers = asked.copies(public, 1)
    notes = [note for note in public if note.medication]
    assert len(texts) == len(answers) == len(notes)
    for text, named, note in zip(texts, answers, notes, strict=True):
        assert all(contains_fact(text, drug) for drug in named)
        gone = {name.lower() for name in note.medication}
        gone = {name for name in gone if not any(name in new for new in named)}
        assert not any(contains_fact(text, name) for name in gone)
    assert sum(text.lower() != note.text.lower() for text, note in
               zip(texts, notes, strict=True)) > len(notes) // 2  # fmt: skip


def test_the_committed_result_is_whole():
    try:
        table = results.load("asked")["table"]
    except DataError:
        pytest.skip("not measured yet")
    assert [row["victim"] for row in table["rows"]] == [
        "true", "granite", "arctic",
    ]  # fmt: skip
    assert [row["rows"] for row in table["rows"]] == [300, 300, 300]
    assert all({"words", "frequent", "lengths"} <= set(row) for row in table["rows"])


def test_the_share_of_right_answers_by_hand():
    private = load_documents("notes", "private")
    rows = [i for i, note in enumerate(private) if len(note.medication) == 1][:2]
    drugs = [(private[i].medication[0].lower(), "no such drug") for i in rows]
    found = asked.of_length([drugs, [("never",), ("never",)]], rows, private)
    assert found["k"] == 2 and found["right"] == pytest.approx(2 / 6)
