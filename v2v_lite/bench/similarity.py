"""What a similarity costs beside the matrix products that it cannot do without."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..measure import similarity
from ..measure.neighbors import BLOCK, blocks
from ..spaces.bundled import load
from ..spaces.space import Space

MB = 1024.0


def measure(source: str = "minilm", target: str = "granite", n: int = 0) -> dict:
    """Seconds of both, their ratio, and the peak of memory in MB above the vectors'.

    `n` rows (0: all 36,864). Seconds are the process's own, so that neighbours on the
    machine count little; one run, each product right before the measure that needs it.
    """
    x, y = (
        Space.concat([load(name, "train"), load(name, "eval")]).vectors[: n or None]
        for name in (source, target)
    )
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
    return table


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
