"""What a similarity costs compared with the matrix products that it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from v2v_lite.measure import similarity
from v2v_lite.measure.neighbors import BLOCK, blocks
from v2v_lite.spaces.bundled import load
from v2v_lite.spaces.files import DataError

from .recheck import Recheck

DATASETS, PARTS = ("wiki",), ()
MB = 1024.0


@dataclass(frozen=True)
class Plan:
    """Two bundled spaces, and how many rows of each (0: all 36,864)."""

    source: str = "minilm"
    target: str = "granite"
    n: int = 0


FULL = Plan()
QUICK = Plan(n=600)


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Seconds of both, their ratio, and the peak of memory in MB above the vectors'.

    Seconds are the process's own, so that other work on the
    machine counts little; one run, each product right before the measure that needs it.
    """
    if plan.n and plan.n < 20:
        raise DataError(f"n = {plan.n} rows, but at least 20 are needed")
    n, source, target = plan.n, plan.source, plan.target
    x, y = (load(name).vectors[: n or None] for name in (source, target))
    float64 = [z.double() - z.double().mean(dim=0) for z in (x, y)]
    need: dict[str, Callable] = {
        # The leaner first: a peak can only be seen where it rises above the last.
        "cka_unbiased": lambda: [a.T @ b for a, b in _pairs(*float64)],
        "mutual_knn": lambda: [_gram(z) for z in (x, y)],
    }
    table: dict = {"source": source, "target": target, "n": len(x), "d": x.shape[1],
                   "threads": torch.get_num_threads()}  # fmt: skip
    for name, products in need.items():
        products_s = _seconds(products)
        before = _peak()
        found: list = []
        call = getattr(similarity, name)
        whole = _seconds(lambda call=call, into=found: into.append(call(x, y)))
        table[name] = {
            "value": round(found[0].value, 4),
            "seconds": round(whole, 2),
            "products": round(products_s, 2),
            "ratio": round(whole / products_s, 2),
            "peak_mb": round(max(_peak() - before, 0)),
        }
    return table, []


def lines(table: dict) -> list[str]:
    """The table in words: one line per measure."""
    return [
        f"{name}: {row['seconds']} s, the products alone {row['products']} s "
        f"(ratio {row['ratio']}), peak {row['peak_mb']} MB"
        for name, row in table.items()
        if isinstance(row, dict)
    ]


def recheck(table: dict, work: Path) -> Recheck:
    """The whole table again: values as they were, ratios of times nearly."""
    plan = Plan(table["source"], table["target"])
    new, _ = measure(plan, work)
    names = [name for name, row in table.items() if isinstance(row, dict)]
    return Recheck(
        f"{plan.source} and {plan.target}, all {table['n']:,} rows",
        {f"{n} {k}": table[n][k] for n in names for k in ("value", "ratio")},
        {f"{n} {k}": new[n][k] for n in names for k in ("value", "ratio")},
        {f"{n} value": 2e-4 for n in names}
        | {f"{n} ratio": 0.3 * table[n]["ratio"] for n in names},
        "values .0002, as they draw nothing; 30 % of a ratio of two single times",
    )


def _gram(x: Tensor) -> None:
    # All inner products, a block at a time into the same memory, as `topk` makes them.
    block = x.new_empty(min(BLOCK, len(x)), min(BLOCK, len(x)))
    for rows in blocks(len(x), BLOCK):
        for columns in blocks(len(x), BLOCK):
            size = rows.stop - rows.start, columns.stop - columns.start
            torch.mm(x[rows], x[columns].T, out=block[: size[0], : size[1]])


def _pairs(x: Tensor, y: Tensor):
    return (x, x), (y, y), (x, y)


def _seconds(work: Callable) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _peak() -> float:
    # The most this process has held, in MB (Linux counts in kB, macOS in bytes).
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / MB / (MB if sys.platform == "darwin" else 1)
