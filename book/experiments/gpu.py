"""What a GPU gives: single steps, a million rows, whole runs, within a few minutes.

    make gpu                        (python -m experiments.gpu --minutes 8)
    make gpu DRY=1                  (… --dry-run: all of it on the CPU, in tiny sizes)

`step` is RELEASED's step beside its own products, alone and with sixteen seeds, in each
precision, compiled or not; `rows` translates and scores 1,000 to 1,000,000 made-up rows
and times self-learning on the bundled ones; `ours` is OURS over sixteen seeds, and
`released` RELEASED from scratch for as long as is left. Every row is on disk as soon as
it is measured and skipped when the script runs again; nothing outlasts the minutes.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from v2v_lite.spaces import DataError

from .gpu_tasks import FULL, QUICK, Plan, Rows, Selflearn, Step, Training, sized
from .recheck import Recheck
from .step import engine, line, measure_step, products
from .store import Store, Task

DATASETS, PARTS = ("wiki",), ("step", "rows", "ours", "released")


class TimeUp(KeyboardInterrupt):
    """Raised in the midst of a task when the minutes are over."""


def schedule(plan: Plan) -> list[tuple[str, Task, float]]:
    """(part, task, seconds that must be left for it to start), in order.

    What is likely to take long leaves time for what comes after: the trainings are
    worth more than the compiled cases, of which all but bf16 wait for a second run.
    """
    steps = [
        Step(seeds, precision, compiled, plan)
        for compiled in plan.compiled
        for seeds in dict.fromkeys((plan.few, plan.many))
        for precision in plan.precisions
    ]
    first = [s for s in steps if not s.compiled]
    second = [s for s in steps if s.compiled and s.precision == "bf16"]
    last = [s for s in steps if s not in first and s not in second]
    rows: list[Task] = [Rows(n, plan) for n in plan.rows]
    todo = [("step", s, 20.0) for s in first]
    todo += [("rows", s, 60.0) for s in (*rows, Selflearn(plan))]
    todo += [("ours", Training("ours", plan), 120.0)]
    todo += [("step", s, 240.0) for s in second]
    todo += [("released", Training("released", plan), 30.0)]
    todo += [("step", s, 60.0) for s in last]
    return [(part, s, 0.0 if plan.tiny else needs) for part, s, needs in todo]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure what `work` lacks until the minutes are over; the table, and all parts if
    it has no row. What there was no time for stands in the table as `unmeasured`."""
    from tqdm.auto import tqdm

    if plan.device == "cuda" and not torch.cuda.is_available():
        fact = "torch finds no CUDA device here, and times of a CPU are not a GPU's"
        raise DataError(f"{fact}; --dry-run (make gpu DRY=1) tries the script without")
    if not plan.minutes > 0:
        raise DataError(f"minutes = {plan.minutes}; give more than 0")
    store, end = Store(work / "gpu.json"), time.perf_counter() + 60 * plan.minutes
    # The minutes are a budget, not a part of what is measured.
    tasks = schedule(replace(plan, minutes=0.0))
    todo = [(s, needs) for part, s, needs in tasks if part in parts]

    def left() -> float:
        return end - time.perf_counter()

    with tqdm(todo, "gpu") as bar, _alarm(max(left(), 1e-3)):
        for task, needs in bar:
            if _whole(store, task) or left() < needs:
                continue
            gc.collect()
            if plan.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            for row in task.rows_so_far(left):
                store.put(task, row)
                bar.set_postfix_str(f"{_label(task)}, {left():.0f} s left")
    found = {task: (part, store.get(task)) for part, task, _ in tasks}
    table: dict = {"device": _device(plan.device)}
    for part in PARTS:
        table[part] = [row for kind, row in found.values() if kind == part and row]
    lacking = [_label(t) for t in found if not _whole(store, t)]
    nothing = not any(row for _, row in found.values())
    return table | {"unmeasured": lacking}, list(PARTS) if nothing else []


def lines(table: dict) -> list[str]:
    """The table in words."""
    text = [line(row) for row in table["step"]]
    for row in table["rows"]:
        if "n" in row:
            text.append(
                f"{row['n']:,} rows of {row['width']}: translated in "
                f"{row['translate_seconds']:.3f} s, "
                f"scored in {row['score_seconds']:.3f} s"
            )
        else:
            about = f"{row['fit_seconds']:.1f} s, top-1 {row['top1']:.3f}"
            text.append(f"self-learning, {row['n_train']:,} rows a side: {about}")
    for row in (*table["ours"], *table["released"]):
        top = sorted(one["top1"] for one in row["kept"])
        chosen = row["kept"][row["chosen"]]
        text.append(
            f"{row['preset']}, {row['seeds']} seeds, {row['steps']:,} steps in "
            f"{row['seconds']:.0f} s: top-1 {top[0]:.3f} to {top[-1]:.3f} of "
            f"{row['pool']:,}, chosen by the score {chosen['top1']:.3f}"
        )
    lacking = ", ".join(table["unmeasured"])
    return [*text, f"no time for: {lacking}" if lacking else "all is measured"]


def recheck(table: dict, work: Path) -> Recheck:
    """The arithmetic of a step alone with one seed, which is the same on any device;
    with a GPU its time too."""
    row, stored, new = table["step"][0], {}, {}
    keep = ("width", "seeds", "batch", "precision")
    about = {key: row[key] for key in keep}
    preset = sized("released", QUICK if row["width"] == QUICK.width else FULL)
    flops = sum(p.flops for p in products(engine(preset, device="cpu", **about)))
    stored["gflop"], new["gflop"] = row["gflop"], flops / 1e9
    tolerance = {"gflop": 1e-3 * row["gflop"]}
    if torch.cuda.is_available() and table["device"] == _device("cuda"):
        again = measure_step(preset, repeats=row["repeats"], device="cuda", **about)
        stored["ratio"], new["ratio"] = row["ratio"], again["ratio"]
        tolerance["ratio"] = 0.15 * row["ratio"]
    why = ".1 % of the products' arithmetic; on the same GPU 15 % of the ratio of times"
    return Recheck(f"released, {row['seeds']} seeds", stored, new, tolerance, why)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    # A task that would outlast the budget is cut; what its rows were so far is kept.
    def ring(*_: object) -> None:
        raise TimeUp

    main = threading.current_thread() is threading.main_thread()
    if not (main and hasattr(signal, "setitimer")):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TimeUp:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _whole(store: Store, task: Task) -> bool:
    row = store.get(task)
    return row is not None and row.get("whole", True)


def _label(task: Task) -> str:
    words = {"Step": "seeds precision compiled", "Rows": "n", "Training": "preset"}
    kind = type(task).__name__
    values = [str(getattr(task, key)) for key in words.get(kind, "").split()]
    return " ".join([kind.lower(), *values])


def _device(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else device


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m experiments.gpu`; 2 without a CUDA device, in one line."""
    from . import run

    parser = argparse.ArgumentParser("experiments.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, help="budget (8; a dry run: 2)")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--work", default="runs/gpu", help="folder of rows so far")
    given = parser.parse_args(argv)
    words = ["gpu", "--work", given.work, "--quick" if given.dry_run else "--write"]
    if given.minutes is not None:
        words += ["--set", f"minutes={given.minutes}"]
    return run.main(words)


if __name__ == "__main__":
    sys.exit(main())
