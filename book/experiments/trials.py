"""The tasks of the experiment of geometry: cases, maps of four spaces, Gromov plans."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass, replace
from itertools import combinations, permutations
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align import (
    METHODS,
    AnchorConfig,
    Consensus,
    Phase,
    SelfLearn,
    SelfLearnConfig,
)
from v2v_lite.align.base import Translator, centred
from v2v_lite.align.diagnosis import diagnose
from v2v_lite.measure import score
from v2v_lite.measure.similarity import cka_unbiased, mutual_knn
from v2v_lite.spaces import NAMES, TRAIN_ROWS, Space
from v2v_lite.teaching.comparison import short, space_of

from . import cases
from .store import Task

#: Self-learning on a short list of phases, one try. With fewer runs and rows of the
#: anchors, about one seed in three fails, and nothing compares.
FIT = SelfLearnConfig(
    AnchorConfig(n_runs=24, sample_size=8192, n_clusters=32, n_init=100, vote_rounds=5),
    phases=(Phase(12, 2048, 0.05, 1.0, 0.3), Phase(5, 4096, 0.04, 0.6, 0.3)),
    n_init=1,
)
DATASETS = ("wiki", "documents/posts", "documents/emails", "documents/notes")
PAIRED = ("procrustes", "whitened")
MOST_PAIRS = 8192  # that a paired reference learns from


@dataclass(frozen=True)
class Case(Task):
    """One unpaired fit of a case, its paired references, similarities and diagnosis."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    change: str
    level: float
    n: int
    pool: int
    seed: int
    start: str = "anchors"

    def run(self, work: Path) -> dict:
        sides = cases.make(*[*asdict(self).values()][:-1])
        source, target = sides.train()
        eval_source, eval_target = sides.test()
        row = asdict(self) | {"rows": [source.n, target.n], "pool": eval_source.n}
        start = time.perf_counter()
        config = replace(FIT, start=self.start)
        model = SelfLearn(config).fit(source, target, seed=self.seed)
        row["seconds"] = round(time.perf_counter() - start, 2)
        row["begun"] = model.history[0].name
        row |= _scored(model, eval_source, eval_target)
        for name in PAIRED:
            paired = METHODS[name]().fit(*sides.paired(MOST_PAIRS))
            found = _scored(paired, eval_source, eval_target)
            row |= {f"{name}_{key}": value for key, value in found.items()}
        x, y = centred(eval_source)[0], centred(eval_target)[0]
        row["cka"] = short(cka_unbiased(x, y).value)
        row["mutual_knn"] = short(mutual_knn(x, y, k=10).value)
        half = eval_source.n // 2
        unseen = eval_source.take(slice(half)), eval_target.take(slice(half, None))
        row["diagnosis"] = short(diagnose(model, *unseen, n=1024).score)
        return row


@dataclass(frozen=True)
class Pairwise(Task):
    """One directed fit between two of four spaces whose texts are all different."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    rows: int
    seed: int

    def run(self, work: Path) -> dict:
        spaces = quarters(self.rows, self.seed)
        start = time.perf_counter()
        model = SelfLearn(FIT).fit(
            spaces[self.source], spaces[self.target], seed=self.seed
        )
        model.save(work / "fits" / self.key)
        return {"seconds": round(time.perf_counter() - start, 2)}


@dataclass(frozen=True)
class Synchronised(Task):
    """What synchronising does to the twelve maps of four spaces."""

    DATASETS: ClassVar = DATASETS
    rows: int
    pool: int
    seed: int

    def run(self, work: Path) -> dict:
        spaces = quarters(self.rows, self.seed)
        maps = {}
        for pair in permutations(NAMES, 2):
            fit = Pairwise(*pair, self.rows, self.seed)
            maps[pair] = Translator.load(work / "fits" / fit.key)
        six = {pair: maps[pair] for pair in combinations(NAMES, 2)}
        found = {"pairwise": maps, "six maps": Consensus().fit(spaces, six)}
        found["twelve maps"] = Consensus().fit(spaces, maps)
        row = asdict(self)
        for name, model in found.items():
            row[name] = {pair: self._score(model, spaces, pair) for pair in maps}
        weakest = min(maps, key=lambda pair: row["pairwise"][pair]["top1"])
        row["weakest"] = list(weakest)
        row["with a third"] = {
            third: self._score(_three(spaces, maps, weakest, third), spaces, weakest)
            for third in NAMES
            if third not in weakest
        }
        for name in found:
            row[name] = {" to ".join(pair): s for pair, s in row[name].items()}
        return row | closure(found["six maps"], maps)

    def _score(self, model, spaces: dict[str, Space], pair: tuple[str, str]) -> dict:
        made = model[pair] if isinstance(model, dict) else model.translator(*pair)
        rows = slice(TRAIN_ROWS, TRAIN_ROWS + self.pool)
        return _scored(made, *(space_of(name).take(rows) for name in pair))


def _three(spaces, maps, pair: tuple[str, str], third: str) -> Consensus:
    names = (*pair, third)
    chosen = {key: map_ for key, map_ in maps.items() if set(key) <= set(names)}
    return Consensus().fit({name: spaces[name] for name in names}, chosen)


@dataclass(frozen=True)
class Gromov(Task):
    """Gromov-Wasserstein with the same texts on both sides, their order hidden."""

    DATASETS: ClassVar = DATASETS
    method: str
    source: str
    target: str
    rows: int
    seed: int

    def run(self, work: Path) -> dict:
        g = torch.Generator().manual_seed(self.seed)
        texts = torch.randperm(TRAIN_ROWS, generator=g)[: self.rows]
        order = torch.randperm(self.rows, generator=g)
        source, truth = (
            space_of(name).take(texts) for name in (self.source, self.target)
        )
        model = METHODS[self.method]().fit(source, truth.take(order), seed=self.seed)
        stage = model.history[0]
        row = asdict(self) | _scored(model, source, truth)
        return row | {"objective": stage.objective, "seconds": stage.seconds}


def quarters(rows: int, seed: int) -> dict[str, Space]:
    """The four bundled spaces, each with training rows of texts of its own."""
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(TRAIN_ROWS, generator=g)
    parts = order.split(TRAIN_ROWS // len(NAMES))
    return {
        name: Space(space.vectors, space.provenance, ids=space.ids)
        for name, part in zip(NAMES, parts, strict=True)
        for space in [space_of(name).take(part[:rows])]
    }


def closure(consensus: Consensus, maps: dict) -> dict:
    """How far cycles of three maps are from the identity, as a share of its norm.

    Of rotations: round triangles of spaces as wide as the frame; through WordLlama,
    which is narrower, with what its frame alone implies; and of the pairwise maps.
    """
    wide = [n for n in NAMES if consensus.members[n].space.d == 384]
    (narrow,) = set(NAMES) - set(wide)
    r, eye = consensus.rotation, torch.eye(384)
    triangles = [
        (r(i, j) @ r(j, k) @ r(k, i) - eye).norm() / eye.norm()
        for i, j, k in permutations(wide, 3)
    ]
    q = consensus.members[narrow].frame
    through, implied = [], []
    for i, j in permutations(wide, 2):
        a, b = (consensus.members[name].frame for name in (i, j))
        lost = a @ (eye - q.T @ q) @ b.T
        through.append((r(i, narrow) @ r(narrow, j) - r(i, j)).norm() / r(i, j).norm())
        implied.append(lost.norm() / r(i, j).norm())
    apart = [
        _apart(maps[i, j].weight @ maps[j, k].weight, maps[i, k].weight)
        for i, j, k in permutations(NAMES, 3)
    ]
    return {
        "triangles": short(max(t.item() for t in triangles)),
        "via_narrow_space": short(max(t.item() for t in through)),
        "implied": short(max(t.item() for t in implied)),
        "pairwise_apart": short(statistics.median(apart)),
    }


def _apart(one: torch.Tensor, two: torch.Tensor) -> float:
    # 1 - cosine of two maps as matrices: the pairwise ones are no rotations.
    return 1 - torch.cosine_similarity(one.flatten(), two.flatten(), dim=0).item()


def _scored(model: Translator, source: Space, target: Space) -> dict:
    found = score(model.translate(source.vectors), target)
    numbers = {key: getattr(found, key).mean for key in ("top1", "rank", "foscttm")}
    return {key: short(value) for key, value in numbers.items()}
