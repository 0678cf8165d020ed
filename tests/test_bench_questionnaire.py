"""The experiments of the questionnaire and of the fingerprint, and what they stored."""

import pytest

from experiments import fingerprint, questionnaire
from v2v_lite.spaces import DataError, document_space
from v2v_lite.teaching import results


def stored(name):
    try:
        return results.load(name)["table"]
    except DataError:
        pytest.skip("not measured yet")


def test_one_slot_of_the_true_vectors():
    public, private = questionnaire.sides("notes")
    own, true = (document_space(part, "minilm").vectors for part in (public, private))
    found = questionnaire.asked("notes", "age", 1, true, own)
    ours, rival = found["regression"], found["lookup"]
    assert ours["n"] == len(private) and found["known"] == 1
    assert ours["gain"] == pytest.approx(ours["own"] - ours["same label"])
    assert ours["gain"] > 4 * ours["se"]
    more = ours["gain"] - rival["gain"]
    assert found["over_lookup"]["mean"] == pytest.approx(more, abs=1e-6)
    assert found["calibration"]["right"] == pytest.approx(ours["own"], abs=1e-6)


def test_the_stored_questionnaire_is_whole_and_beats_the_lookup():
    table = stored("questionnaire")
    fits, reads = questionnaire.tasks_of(questionnaire.FULL)
    assert len(table["fits"]) == len(fits) and len(table["rows"]) == len(reads)
    for victim in table["victims"]:
        about = table, "notes", victim, "adapted", "drugs"
        more, _ = questionnaire.over_seeds(*about, "over_lookup", "mean")
        error, _ = questionnaire.over_seeds(*about, "over_lookup", "se")
        assert more > 3 * error
    assert len(questionnaire.lines(table)) == 20


def test_recheck_of_the_questionnaire(tmp_path, monkeypatch):
    table = stored("questionnaire")
    row = next(r for r in table["rows"] if "true" in r["ways"])
    monkeypatch.setattr(questionnaire.Reading, "run", lambda *_: row)
    assert questionnaire.recheck(table, tmp_path).agrees


def test_bundled_encoders_are_named(tmp_path):
    plan = fingerprint.Plan(trials=3, made=False)
    table, lacks = fingerprint.measure(plan, tmp_path)
    assert not lacks and set(table["encoders"]) == set(fingerprint.REAL)
    for some in table["encoders"].values():
        for row in some.values():
            assert row["right"]["mean"] == row["unknown"]["mean"] == 1
            assert row["own"][1] < table["limit"]
            other = row["nearest other"]
            assert other is None or other > table["limit"]
    assert fingerprint.measure(plan, tmp_path)[0] == table
    assert len(fingerprint.lines(table)) == 24


def test_the_stored_fingerprints_are_whole():
    table = stored("fingerprint")
    assert len(table["encoders"]) == 14 and set(table["real"]) == set(fingerprint.REAL)
