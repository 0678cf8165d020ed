"""Unpaired translators learned on `data/wiki`, kept for the attacks that share them.

A module of its own, so that nothing which comes after a fit makes the fit stale.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from v2v_lite.align import LinearTranslator, SelfLearn, Translator
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.teaching.comparison import row_of, split_of

from .store import Task

#: Less of everything: a tenth of the default's time, and less precise.
BRIEF = SelfLearnConfig(
    anchors=AnchorConfig(n_runs=20, vote_rounds=4),
    phases=(Phase(12, 2048, 0.05, 1.0, 0.3), Phase(10, 4096, 0.04, 0.6, 0.3)),
    n_init=1,
)


@dataclass(frozen=True)
class WikiFit(Task):
    """A translator between two encoders, on sentences that the sides do not share."""

    DATASETS: ClassVar = ("wiki",)
    victim: str
    attacker: str
    n_train: int
    seed: int
    brief: bool = True

    def run(self, work: Path) -> dict:
        split = split_of(self.victim, self.attacker, self.n_train, self.seed)
        model = SelfLearn(BRIEF if self.brief else None)
        model.fit(split.source, split.target, seed=self.seed)
        model.save(work / "fits" / self.key)
        seconds = sum(stage.seconds for stage in model.history)
        return {"victim": self.victim} | row_of(model, split, seconds)

    def load(self, work: Path) -> LinearTranslator:
        """The translator that `run` has saved."""
        model = Translator.load(work / "fits" / self.key)
        assert isinstance(model, LinearTranslator)
        return model
