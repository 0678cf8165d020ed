"""vec2vec as a method like any other: `Vec2Vec(preset).fit(x, y).translate(rows)`."""

from __future__ import annotations

from ..align.base import Clock, Rows, Stages, as_space
from ..align.few_pairs import Pairs, check_pairs
from ..spaces.space import Space
from .config import Preset
from .result import PairTranslator
from .trainer import train


class Vec2Vec(PairTranslator):
    """Train by a preset (OURS) between two unpaired spaces, and keep the best seed.

    `fit` is `trainer.train` without a folder. A training with more spaces, seeds or
    checkpoints gives its translators by `TrainResult.translator`.
    """

    name = "vec2vec"

    def __init__(self, preset: Preset | None = None, seeds: int = 1) -> None:
        super().__init__()
        self.preset, self.seeds = preset, seeds
        self._known: dict[str, Space] = {}

    def fit(
        self, source: Rows, target: Rows, *, seed: int = 0, progress: bool = False,
        pairs: Pairs | None = None,
    ) -> Vec2Vec:  # fmt: skip
        """Learn from unpaired rows, and from `pairs` (i, j) where some are known, as
        `SelfLearn.fit`; their rows are among those that are trained on or held out."""
        source, target = as_space(source, "source"), as_space(target, "target")
        i, j = check_pairs(pairs, source.n, target.n)
        known = {"source": source.take(i), "target": target.take(j)} if len(i) else {}
        self._known = known
        return super().fit(source, target, seed=seed, progress=progress)

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        clock = Clock()
        found = train(
            {"source": source, "target": target}, self.preset,
            seeds=self.seeds, seed=seed, progress=progress, pairs=self._known,
            device="cpu" if source.vectors.device.type == "cpu" else "auto",
        )  # fmt: skip
        best = found.translator()
        vars(self).update(vars(best))
        score, step = found.scores[found.best], found.steps[found.best]
        return [clock.stage("train", score, step=step, seed=best.seed)]
