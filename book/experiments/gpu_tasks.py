"""What `gpu` measures: steps, made-up rows, self-learning, whole trainings.

A task yields its row; a training yields its row so far with each evaluation, so that a
run that is cut leaves what it found.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from v2v_lite.align import METHODS
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.measure import score
from v2v_lite.spaces.rows import unit
from v2v_lite.spaces.splits import hold_out
from v2v_lite.teaching.comparison import short, split_of
from v2v_lite.vec2vec import (
    OURS,
    RELEASED,
    Preset,
    Trainer,
    TrainingDiverged,
    preset_named,
)

from .step import engine, measure_step, peak_memory, wait
from .store import Task

DATASETS = ("wiki",)
BLOCK = 65_536  # rows that are translated together
END = 2.0  # seconds that a training leaves beside those of its last evaluation
Left = Callable[[], float]  # seconds of the budget that are left


@dataclass(frozen=True)
class Plan:
    """What is measured, and in how many minutes; `tiny` nets are for a dry run."""

    minutes: float = 8.0
    device: str = "cuda"
    tiny: bool = False
    width: int = 768
    batch: int = 256
    repeats: int = 5
    few: int = 1  # seeds
    many: int = 16
    precisions: tuple[str, ...] = ("no", "bf16", "fp16")
    compiled: tuple[bool, ...] = (False, True)
    rows: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    pair: tuple[str, str] = ("minilm", "granite")
    n_train: int = 16_384
    ours_steps: int = OURS.optim.steps
    released_steps: int = RELEASED.optim.steps
    every: float = 45.0  # seconds between two evaluations


FULL = Plan()
QUICK = Plan(
    minutes=2.0, device="cpu", tiny=True, width=24, batch=16, repeats=1, many=2,
    precisions=("no",), compiled=(False,), rows=(300, 600), n_train=1_000,
    ours_steps=2, released_steps=2, every=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Timed(Task):
    """Yields its row, or its row so far with `whole` False until the last."""

    DATASETS: ClassVar = DATASETS

    def rows_so_far(self, left: Left) -> Iterator[dict]:
        """The row, or its states."""
        raise NotImplementedError

    def run(self, work: Path) -> dict:
        *_, last = self.rows_so_far(lambda: math.inf)
        return last


@dataclass(frozen=True)
class Step(Timed):
    """A training step of RELEASED on random rows."""

    seeds: int
    precision: str
    compiled: bool
    plan: Plan

    def rows_so_far(self, left: Left) -> Iterator[dict]:
        p, preset = self.plan, sized("released", self.plan)
        torch.compiler.reset()  # each case compiles for itself
        start = time.perf_counter()
        found = measure_step(
            preset, p.width, self.seeds, p.batch, p.repeats, p.device, self.precision,
            self.compiled,
        )  # fmt: skip
        del found["products"]
        yield found | {"measuring_seconds": time.perf_counter() - start}


@dataclass(frozen=True)
class Rows(Timed):
    """Translating and scoring n made-up rows: neither depends on what was learned."""

    n: int
    plan: Plan

    def rows_so_far(self, left: Left) -> Iterator[dict]:
        p = self.plan
        run = engine(sized("released", p), p.width, 1, p.batch, p.device)
        model, device = run.translator(run.nets, 0, "a", "b"), run.device
        g = torch.Generator(device).manual_seed(0)
        x = unit(torch.randn(self.n, p.width, generator=g, device=device))
        noise = torch.randn(self.n, p.width, generator=g, device=device)
        score(model.translate(x[:256]), x[:256])  # first calls also load kernels
        parts = x.split(BLOCK)
        made, seconds = timed(
            lambda: torch.cat([model.translate(rows) for rows in parts]), device
        )
        target = unit(made + noise / p.width**0.5)
        block = 16_384 if device.type == "cuda" else 2_048
        found, scoring = timed(lambda: score(made, target, block=block), device)
        yield {
            "n": self.n, "width": p.width, "translate_seconds": seconds,
            "score_seconds": scoring, "top1": short(found.top1.mean),
            "memory_gb": peak_memory(device),
        }  # fmt: skip


@dataclass(frozen=True)
class Selflearn(Timed):
    """Self-learning on the bundled pair. Its batches are capped: rows beyond them cost
    a covariance and no more, so larger n are not measured."""

    plan: Plan

    def rows_so_far(self, left: Left) -> Iterator[dict]:
        p, device = self.plan, torch.device(self.plan.device)
        split = split_of(*p.pair, p.n_train, 0)
        few = AnchorConfig(n_runs=4, n_clusters=8, n_init=3, n_restarts=2)
        short_ = SelfLearnConfig(few, phases=(Phase(2, 256, 0.05, 1.0, 0.0),) * 2)
        model = METHODS["selflearn"](*[short_] * p.tiny)
        sides = split.source.to(device), split.target.to(device)
        _, seconds = timed(lambda: model.fit(*sides, seed=0), device)
        translated = model.translate(split.eval_source.to(device))
        yield {
            "pair": p.pair, "n_train": p.n_train, "fit_seconds": seconds,
            **_numbers(translated, split.eval_target.vectors.to(device)),
        }  # fmt: skip


@dataclass(frozen=True)
class Training(Timed):
    """A preset over many seeds as one program; the pairs' numbers decide nothing."""

    preset: str
    plan: Plan

    def rows_so_far(self, left: Left) -> Iterator[dict]:
        p, start = self.plan, time.perf_counter()
        trainer, split = self._trainer()
        state, ready = trainer.state, time.perf_counter()
        steps, shown, took = trainer.preset.optim.steps, -math.inf, 0.0
        curve: list[dict] = []
        row: dict = {}
        with trainer.engine.around_loop(0, False):
            while True:
                begun = time.perf_counter()
                over = state.step == steps or left() < END + 1.5 * took
                if over or begun - shown >= p.every:
                    try:
                        trainer.evaluate()
                    except TrainingDiverged as error:
                        yield row | {"whole": True, "diverged": str(error)}
                        return
                    shown = time.perf_counter()
                    took = shown - begun
                    curve.append(_point(trainer, shown - ready))
                    row = self._row(trainer, curve, ready - start)
                    row |= {"pool": split.eval_target.n, "whole": over}
                    yield row
                if over:
                    return
                state.meter.add(state.step, trainer.step())

    def _trainer(self):
        p = self.plan
        split = split_of(*p.pair, p.n_train, 0)
        target = split.eval_target.vectors.to(p.device)
        preset = sized(self.preset, p)
        steps = {"ours": p.ours_steps, "released": p.released_steps}[self.preset]
        preset = replace(preset, optim=replace(preset.optim, steps=steps))
        both = {p.pair[0]: split.source, p.pair[1]: split.target}
        held = {name: hold_out(space) for name, space in both.items()}
        trainer = Trainer(
            {name: one[0] for name, one in held.items()}, preset,
            seeds=tuple(range(p.many)), device=p.device,
            held_out={name: one[1] for name, one in held.items()},
            report=lambda model: _numbers(
                model.translate(split.eval_source.to(p.device)), target
            ),
        )  # fmt: skip
        return trainer, split

    def _row(self, trainer: Trainer, curve: list[dict], start: float) -> dict:
        state, steps = trainer.state, [point["step"] for point in curve]
        kept = [
            {key: curve[steps.index(at)][key][k] for key in ("top1", "rank")}
            for k, at in enumerate(state.best_steps)
        ]
        best = max(range(len(kept)), key=lambda k: state.best_scores[k])
        return {
            "preset": self.preset, "pair": self.plan.pair,
            "n_train": self.plan.n_train, "seeds": len(kept),
            "precision": trainer.accelerator.mixed_precision,
            "steps": state.step, "planned_steps": trainer.preset.optim.steps,
            "start_seconds": start, "seconds": curve[-1]["seconds"],
            "memory_gb": peak_memory(trainer.device), "curve": curve,
            "kept": [one | {"step": s, "score": short(value)} for one, s, value in
                     zip(kept, state.best_steps, state.best_scores, strict=True)],
            "chosen": best,
        }  # fmt: skip


def sized(name: str, plan: Plan) -> Preset:
    """The preset, or one of its kind with tiny nets and batches."""
    preset = preset_named(name)
    if not plan.tiny:
        return preset
    net = replace(preset.net, hidden_dim=16, latent_dim=preset.net.latent_dim and 16)
    judges = replace(preset.adversarial, hidden_dim=16)
    optim = replace(preset.optim, batch_size=64)
    return replace(preset, net=net, adversarial=judges, optim=optim, anchor_draws=1)


def timed(work: Callable, device: torch.device) -> tuple:
    """What `work()` returns, and its seconds."""
    wait(device)
    start = time.perf_counter()
    found = work()
    wait(device)
    return found, time.perf_counter() - start


def _point(trainer: Trainer, seconds: float) -> dict:
    last = [records[-1] for records in trainer.state.history]
    keys = {"score": "score", "top1": "report top1", "rank": "report rank"}
    values = {k: [short(r[name]) for r in last] for k, name in keys.items()}
    return {"step": trainer.state.step, "seconds": round(seconds, 1)} | values


def _numbers(translated: Tensor, target: Tensor) -> dict[str, float]:
    found = score(translated, target)
    return {"top1": short(found.top1.mean), "rank": short(found.rank.mean)}
