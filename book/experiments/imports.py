"""What `import v2v_lite` costs compared with `import torch`, in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2v_lite import align, spaces  # noqa: F401  what is timed
from v2v_lite import measure as measures  # noqa: F401
from v2v_lite.spaces.files import DataError

from .recheck import Recheck

DATASETS, PARTS = (), ()
MODULES = {
    "torch": "torch",
    "v2v_lite": "v2v_lite.spaces, v2v_lite.measure, v2v_lite.align",
}


@dataclass(frozen=True)
class Plan:
    """How often each import is timed, in turn."""

    repeats: int = 5


FULL = Plan()
QUICK = Plan(repeats=1)


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Median seconds of both imports and their ratio.

    `import v2v_lite` alone loads nothing until a floor is asked for, so the floors are
    asked for here.
    """
    if plan.repeats < 1:
        raise DataError(f"repeats = {plan.repeats}, but at least 1 is needed")
    code = (
        "import time; start = time.perf_counter(); import {0}; "
        "print(time.perf_counter() - start)"
    )
    taken: dict[str, list[float]] = {name: [] for name in MODULES}
    for _ in range(plan.repeats):
        for name, modules in MODULES.items():
            call = [sys.executable, "-c", code.format(modules)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            taken[name].append(float(done.stdout))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "repeats": plan.repeats,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "ratio": round(seconds["v2v_lite"] / seconds["torch"], 3),
    }, []


def lines(table: dict) -> list[str]:
    """The table in a line."""
    s = table["seconds"]
    line = f"torch {s['torch']:.2f} s, v2v_lite {s['v2v_lite']:.2f} s"
    return [f"{line}, ratio {table['ratio']:.2f}"]


def recheck(table: dict, work: Path) -> Recheck:
    """The ratio again."""
    new, _ = measure(Plan(table["repeats"]), work)
    return Recheck(
        f"{table['repeats']} imports of each",
        {"ratio": table["ratio"]},
        {"ratio": new["ratio"]},
        {"ratio": 0.15},
        "15 % of the time that torch takes",
    )
