"""The experiment `gpu`: its dry run on the CPU, its budget, what it skips."""

import itertools
import json
import time
from dataclasses import dataclass, replace

import pytest
import torch

pytest.importorskip("accelerate")
from experiments import gpu, gpu_tasks
from experiments.store import Store
from v2v_lite.spaces import DataError
from v2v_lite.teaching import results

TINY = replace(gpu_tasks.QUICK, rows=(300,), many=2)


@pytest.fixture(scope="module")
def dry(tmp_path_factory):
    """The work folder of a dry run, and its table."""
    work = tmp_path_factory.mktemp("gpu")
    assert gpu.main(["--dry-run", "--work", str(work)]) == 0
    return work, json.loads((work / "quick/result/gpu.json").read_text())["table"]


def test_a_dry_run_goes_through_everything(dry):
    _, table = dry
    assert table["device"] == "cpu" and table["unmeasured"] == []
    assert [row["seeds"] for row in table["step"]] == [1, 2]
    assert all(row["ratio"] > 0 and row["memory_gb"] is None for row in table["step"])
    *made_up, bundled = table["rows"]
    assert [row["n"] for row in made_up] == list(gpu_tasks.QUICK.rows)
    assert bundled["pair"] == ["minilm", "granite"] and bundled["fit_seconds"] > 0
    for part in ("ours", "released"):
        (row,) = table[part]
        assert row["whole"] and row["steps"] == row["planned_steps"] == 2
        assert [point["step"] for point in row["curve"]] == [0, 1, 2]


def test_the_kept_nets_and_the_chosen_seed_follow_the_score(dry):
    (row,) = dry[1]["released"]
    at = {point["step"]: point for point in row["curve"]}
    for k, kept in enumerate(row["kept"]):
        assert kept["score"] == max(point["score"][k] for point in row["curve"])
        assert kept["top1"] == at[kept["step"]]["top1"][k]
    scores = [kept["score"] for kept in row["kept"]]
    assert scores[row["chosen"]] == max(scores)


def test_what_is_measured_is_not_measured_again(dry, monkeypatch, capsys):
    work, table = dry
    for kind in (gpu.Step, gpu.Rows, gpu.Selflearn, gpu.Training):
        monkeypatch.delattr(kind, "rows_so_far")
    assert gpu.main(["--dry-run", "--work", str(work)]) == 0
    again = json.loads((work / "quick/result/gpu.json").read_text())["table"]
    assert again == table
    out = capsys.readouterr().out
    assert "all is measured" in out and "released, 2 seeds, 2 steps" in out


def test_the_arithmetic_of_a_dry_run_is_rechecked(dry, tmp_path):
    table = dry[1]
    assert gpu.recheck(table, tmp_path).agrees
    other = {**table, "step": [{**table["step"][0], "gflop": 1.0}]}
    assert not gpu.recheck(other, tmp_path).agrees


def test_without_a_gpu_one_line_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--work", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert "no CUDA device" in told.err and "--dry-run" in told.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_minutes_that_are_none(minutes, tmp_path, capsys):
    words = ["--dry-run", "--work", str(tmp_path), f"--minutes={minutes}"]
    assert gpu.main(words) == 2
    assert "minutes" in capsys.readouterr().err


# ---- the budget


def test_a_task_without_enough_time_is_left_for_the_next_run(tmp_path):
    plan = replace(gpu_tasks.FULL, device="cpu", minutes=1 / 60)
    table, missing = gpu.measure(plan, tmp_path)  # a second: no task may start
    assert missing == list(gpu.PARTS) and table["step"] == []
    assert len(table["unmeasured"]) == len(gpu.schedule(plan)) == 12 + 4 + 1 + 2
    assert "step 16 bf16 True" in table["unmeasured"]


def test_the_book_s_plan_leaves_time_for_the_trainings():
    tasks = gpu.schedule(gpu_tasks.FULL)
    parts = [part for part, _, _ in tasks]
    before = [task for _, task, _ in tasks[: parts.index("released")]]
    assert [s.precision for s in before if getattr(s, "compiled", False)] == [
        "bf16"
    ] * 2
    assert max(needs for _, _, needs in tasks) < 60 * gpu_tasks.FULL.minutes


def test_a_task_is_cut_when_the_minutes_are_over():
    start = time.monotonic()
    with gpu._alarm(0.2):
        time.sleep(20)
    assert time.monotonic() - start < 10
    with pytest.raises(KeyboardInterrupt), gpu._alarm(20):
        raise KeyboardInterrupt  # Ctrl-C is no end of the minutes


@dataclass(frozen=True)
class Fast(gpu_tasks.Training):
    """A training without the cost of its evaluations."""

    def _trainer(self):
        trainer, split = super()._trainer()
        state = trainer.state

        def evaluate():
            for records in state.history:
                numbers = {"score": 0.5, "report top1": 0.1, "report rank": 9.0}
                records.append({"step": state.step, **numbers})
            state.keep_best([0.5] * len(state.seeds))

        trainer.evaluate = evaluate
        return trainer, split


def test_a_training_ends_with_its_time(monkeypatch):
    plan = replace(TINY, released_steps=1000)
    seconds = itertools.count(gpu_tasks.END + 4.7, -1.0)  # one less at every look
    *sofar, last = Fast("released", plan).rows_so_far(lambda: next(seconds))
    assert [row["whole"] for row in sofar] == [False] * 5 and last["whole"]
    assert last["steps"] == 5 and last["planned_steps"] == 1000
    assert [point["step"] for point in last["curve"]] == [0, 1, 2, 3, 4, 5]


def test_a_training_that_was_cut_is_made_again(tmp_path, monkeypatch):
    task, plan = gpu.Training("released", replace(TINY, minutes=0.0)), TINY
    monkeypatch.setattr(gpu, "schedule", lambda plan: [("released", task, 0.0)])
    ends = iter([False, False, True])
    monkeypatch.setattr(
        gpu.Training, "rows_so_far", lambda *_: iter([{"whole": next(ends)}])
    )
    for _ in range(2):
        table, _ = gpu.measure(plan, tmp_path, ("released",))
        assert table["unmeasured"] == ["training released"]
    table, _ = gpu.measure(plan, tmp_path, ("released",))
    assert table["unmeasured"] == [] and table["released"] == [{"whole": True}]


# ---- compiled, and on a GPU


def test_a_compiled_step_is_measured(monkeypatch):
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compile_(self, backend="eager")
    )
    (row,) = gpu.Step(1, "no", True, TINY).rows_so_far(lambda: 60.0)
    assert row["compiled"] and "compiled" in gpu.line(row)


@pytest.mark.gpu
def test_on_a_gpu_memory_and_seconds_are_told(tmp_path):
    plan = replace(TINY, device="cuda", precisions=("bf16",))
    table, _ = gpu.measure(plan, tmp_path, ("step", "rows"))
    assert all(row["memory_gb"] > 0 for row in table["step"])
    assert table["device"] == torch.cuda.get_device_name()
    assert Store(tmp_path / "gpu.json").rows


def test_the_result_is_known_and_may_be_absent():
    assert "gpu" in results.NAMES
    if not (results.results_folder() / "gpu.json").is_file():
        with pytest.raises(DataError, match="not measured yet"):
            results.load("gpu")
