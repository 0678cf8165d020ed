"""One row of a table: a method fitted on a split and scored on the pool; summaries.

The demo, the chapters and the experiments share it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch

from ..align import METHODS
from ..align.base import Translator
from ..measure import score
from ..spaces import EVAL_ROWS, Space, Split, load, unpaired

OURS, MINI = "selflearn", "mini"
BASELINES = ("identity", "mean", "random")
PAIRED = ("procrustes", "whitened", "ridge", "mlp")
KINDS = dict.fromkeys(BASELINES, "baseline") | {MINI: "published", OURS: "ours"}
KINDS |= dict.fromkeys(PAIRED, "paired")
NUMBERS = ("top1", "top5", "rank", "cosine", "centred_cosine", "foscttm")


#: An experiment asks for the same four spaces a thousand times.
space_of = lru_cache(maxsize=8)(load)


def split_of(
    source: str, target: str, n_train: int | None, seed: int, n_eval: int = EVAL_ROWS
) -> Split:
    """The unpaired split of two bundled spaces."""
    return unpaired(space_of(source), space_of(target), n_eval, seed, n_train)


def fit(
    model: Translator, split: Split, source: str, target: str, progress: bool = False
) -> float:
    """Fit on the split and return the seconds it took.

    A paired reference learns from as many rows as the unpaired methods see on both
    sides together, with their partners: twice `n_train` pairs.
    """
    x, y = split.source, split.target
    if model.paired:
        both = torch.cat([x.known_ids, y.known_ids])
        x, y = (rows_with(space_of(s, "train"), both) for s in (source, target))
    start = time.perf_counter()
    model.fit(x, y, seed=split.seed, progress=progress)
    return time.perf_counter() - start


def row_of(model: Translator, split: Split, seconds: float) -> dict:
    """The numbers of a fitted model on the split's evaluation pairs."""
    found = score(model.translate(split.eval_source), split.eval_target)
    row: dict[str, float] = {"seed": split.seed, "pool": found.pool}
    row |= {key: short(getattr(found, key).mean) for key in NUMBERS}
    row |= {f"{key}_se": short(getattr(found, key).se) for key in ("top1", "rank")}
    return row | {"seconds": round(seconds, 2), "threads": torch.get_num_threads()}


def measure(
    method: str, source: str, target: str, n_train: int | None = None, seed: int = 0,
    progress: bool = False,
) -> tuple[dict, Translator]:  # fmt: skip
    """Fit a method on the split of `seed`; its row of numbers and the translator.

    >>> row, _ = measure("mean", "minilm", "wordllama", n_train=100)
    >>> row["pool"], row["top1"] < 0.01
    (4096, True)
    """
    split = split_of(source, target, n_train, seed)
    model = METHODS[method]()
    seconds = fit(model, split, source, target, progress)
    return row_of(model, split, seconds), model


def summary(rows: Iterable[dict], keys: Sequence[str] = (*NUMBERS, "seconds")) -> dict:
    """Median, min and max over seeds of each number, and how many seeds."""
    rows = list(rows)
    found: dict[str, Any] = {"seeds": len(rows), "pool": rows[0]["pool"]}
    for key in keys:
        values = [row[key] for row in rows]
        middle = short(statistics.median(values))
        found[key] = {"median": middle, "min": min(values), "max": max(values)}
    return found


def lines(summaries: dict[str, dict]) -> list[str]:
    """The summaries by method as an aligned text table: median (min to max)."""
    head = f"{'method':<11}{'kind':<10}{'seeds':>5}  {'top-1':<24}{'rank':<25}"
    text = [head + f"{'cosine':>7}{'centred':>9}{'seconds':>9}"]
    for name, s in summaries.items():
        top1, rank = _spread(s["top1"], ".3f"), _spread(s["rank"], ".2f")
        text.append(
            f"{name:<11}{KINDS[name]:<10}{s['seeds']:>5}  {top1:<24}{rank:<25}"
            f"{s['cosine']['median']:>7.3f}{s['centred_cosine']['median']:>9.3f}"
            f"{s['seconds']['median']:>9.1f}"
        )
    return text


def short(value: float) -> float:
    """Five significant digits: more than any spread resolves."""
    return float(f"{value:.5g}")


def _spread(s: dict, form: str) -> str:
    middle, low, high = (format(s[key], form) for key in ("median", "min", "max"))
    return middle if low == high else f"{middle} ({low} to {high})"


def rows_with(space: Space, ids: torch.Tensor) -> Space:
    """The rows whose texts are among `ids`, around the mean of these rows alone.

    They keep the space's order, which is the same for both encoders: pairs stay pairs.
    """
    return space.take(torch.isin(space.known_ids, ids)).with_mean()
