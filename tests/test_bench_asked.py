"""The experiment that asks for drugs first, on few rows, and its stored result."""

import pytest

from experiments import asked
from v2v_lite.spaces import DataError
from v2v_lite.teaching import results

pytest.importorskip("wordllama")


def test_it_asks_confirms_and_writes(tmp_path):
    plan = asked.Plan((), "wordllama", 12, 6, 3_000)
    table, lacks = asked.measure(plan, tmp_path, jobs=0)
    plain, row = table["rows"]
    assert lacks == [] and (plain["rows"], row["rows"]) == (12, 6)
    own = {how: row[how]["facts"]["own"]["mean"] for how in ("search", "confirmed")}
    assert row["written"]["facts"]["own"]["mean"] >= max(own.values())
    over = row["answers"]["over_nearest"]["mean"]
    apart = (row[how]["facts"]["gain"]["mean"] for how in ("answers", "nearest"))
    assert over == pytest.approx(next(apart) - next(apart))
    assert row["nearest"]["over_nearest"]["mean"] == 0


def test_the_committed_result_is_whole():
    try:
        table = results.load("asked")["table"]
    except DataError:
        pytest.skip("not measured yet")
    assert [row["victim"] for row in table["rows"]] == [
        "true", "granite", "arctic", "true",
    ]  # fmt: skip
    assert [row["rows"] for row in table["rows"]] == [300, 300, 300, 60]
