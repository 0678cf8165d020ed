"""Methods by the name that a user gives, and the time that they will take.

`v2v align` and `v2v rehearse` make the same translator of the same words.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal

import v2v_lite as v2v

from . import base

Start = Literal["best", "anchors", "grown"]
START_SECONDS = 15  # of one core, to find where to start
LONG = 120  # seconds that are worth a word


def made(name: str, start: Start = "best") -> v2v.align.Translator:
    """A translator of that method, before its fit; UsageError for a wrong one."""
    known = v2v.align.METHODS
    methods: dict[str, Any] = {n: known[n] for n in sorted(known)}
    methods.pop("linear")  # a map that is given is not learned
    choices = [n for n in methods if not methods[n].paired]
    if name not in choices:
        raise base.UsageError(f"no method {name!r}; choose {', '.join(choices)}")
    method = methods[name]
    if name == "selflearn":
        tries = 1 if start == "best" else 2
        return method(v2v.align.SelfLearnConfig(start=start, n_init=tries))
    if start != "best":
        fact = f"--start {start} is an option of selflearn"
        raise base.UsageError(f"{fact}, not of {name}; leave it out")
    return method()


def expected_time(
    model: v2v.align.Translator, source: v2v.spaces.Space, target: v2v.spaces.Space
) -> str:
    """ ", about N minutes" where a fit of self-learning will be long, else nothing.

    Its products with plans are counted, and one like them is timed.
    """
    import torch

    if not isinstance(model, v2v.align.SelfLearn) or source.vectors.is_cuda:
        return ""
    costs = [0]  # no phases at all take no time
    for phase in model.config.phases:
        sizes = [min(phase.batch_size, side.n) for side in (source, target)]
        costs.append(phase.n_iter * sizes[0] * sizes[1])
    width = min(source.d, target.d, v2v.align.linalg.WIDE)
    probe = torch.ones(1024, 1024)
    for _ in range(2):  # the first wakes the threads
        began = time.perf_counter()
        probe @ probe
    speed = 2 * len(probe) ** 3 / (time.perf_counter() - began)
    seconds = 4 * width * (2 * sum(costs) - costs[-1]) / speed + 2 * START_SECONDS
    return f", about {seconds / 60:.0f} minutes" if seconds > LONG else ""


def remarks(model: v2v.align.Translator) -> Iterator[str]:
    """What a fit left out."""
    detail = model.history[0].detail if model.history else {}
    for side in ("source", "target"):
        if axes := detail.get(f"{side}_without"):
            which = ", ".join(str(i + 1) for i in axes)
            yield f"left out, as the {side} alone has it: leading axis {which}"
