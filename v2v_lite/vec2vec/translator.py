"""vec2vec as a method like any other: `Vec2Vec(preset).fit(x, y).translate(rows)`."""

from __future__ import annotations

from ..align.base import Clock, Stages
from ..spaces.space import Space
from .config import Preset
from .result import PairTranslator
from .trainer import train

__all__ = ["Vec2Vec"]


class Vec2Vec(PairTranslator):
    """Train by a preset (OURS) between two unpaired spaces, and keep the best seed.

    `fit` is `trainer.train` without a folder. A training with more spaces, seeds or
    checkpoints gives its translators by `TrainResult.translator`.
    """

    name = "vec2vec"

    def __init__(self, preset: Preset | None = None, seeds: int = 1) -> None:
        super().__init__()
        self.preset, self.seeds = preset, seeds

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        clock = Clock()
        found = train(
            {"source": source, "target": target}, self.preset,
            seeds=self.seeds, seed=seed, progress=progress,
            device="cpu" if source.vectors.device.type == "cpu" else "auto",
        )  # fmt: skip
        best = found.translator()
        vars(self).update(vars(best))
        score, step = found.scores[found.best], found.steps[found.best]
        return [clock.stage("train", score, step=step, seed=best.seed)]
