"""Full unpaired linear maps that other trainings start from, fitted once and kept.

A fit of a pair serves both directions: the shared directions and their strengths are
those of the pair, whichever side is called the source.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align import SelfLearn
from v2v_lite.align.base import Translator
from v2v_lite.spaces import Space, Split, hold_out
from v2v_lite.teaching.comparison import split_of

from .store import Task


@dataclass(frozen=True)
class Start(Task):
    """Self-learning with all its phases between nine tenths of the rows of a split."""

    DATASETS: ClassVar = ("wiki",)
    a: str
    b: str
    n_train: int
    seed: int

    def run(self, work: Path) -> dict:
        (source, target), _, _ = sides_of(self)
        clock = time.process_time()
        model = SelfLearn().fit(source, target, seed=self.seed)
        model.save(self.folder(work))
        seconds = round(time.process_time() - clock, 1)
        return {"objective": model.history[-1].objective, "seconds": seconds,
                "threads": torch.get_num_threads()}  # fmt: skip

    def folder(self, work: Path) -> Path:
        """Where the fit is kept."""
        return work / "fits" / self.key

    def map(self, work: Path) -> torch.Tensor:
        """The fitted map `(d_a, d_b)` of centred rows."""
        return Translator.load(self.folder(work)).weight


def sides_of(start: Start) -> tuple[tuple[Space, Space], tuple[Space, Space], Split]:
    """Rows to fit on, unpaired rows held back, and the whole split."""
    split = split_of(start.a, start.b, start.n_train, start.seed)
    (a, held_a), (b, held_b) = hold_out(split.source), hold_out(split.target)
    return (a, b), (held_a, held_b), split
