"""vec2vec as a method like any other: `Vec2Vec(preset).fit(x, y).translate(rows)`."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..align.base import Stage
from ..spaces.space import Space
from .config import Preset
from .result import PairTranslator, TrainResult
from .trainer import train

__all__ = ["Vec2Vec"]


class Vec2Vec(PairTranslator):
    """Train by a preset (OURS) between two unpaired spaces, and keep the best seed.

    `fit` is `trainer.train` without a folder; what a training with more spaces, seeds
    or checkpoints has found becomes a Vec2Vec by `from_result`.
    """

    name = "vec2vec"

    def __init__(self, preset: Preset | None = None, seeds: int = 1) -> None:
        super().__init__()
        self.preset, self.seeds = preset, seeds

    @classmethod
    def from_result(
        cls, result: TrainResult, source: str | None = None, target: str | None = None,
        k: int | None = None,
    ) -> Vec2Vec:  # fmt: skip
        """The translator between two of a result's spaces by its k-th (best) seed."""
        model = cls(result.preset, len(result.seeds))
        vars(model).update(vars(result.translator(source, target, k)))
        return model

    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]:
        clock = time.perf_counter()
        found = train(
            {"source": source, "target": target}, self.preset,
            seeds=self.seeds, seed=seed, progress=progress,
            device="cpu" if source.vectors.device.type == "cpu" else "auto",
        )  # fmt: skip
        best = found.translator()
        vars(self).update(vars(best))
        seconds = time.perf_counter() - clock
        detail = {"step": found.steps[found.best], "seed": best.seed}
        return [Stage("train", found.scores[found.best], seconds, detail)]
