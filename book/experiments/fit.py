"""The fit beyond the ordinary: wide rows, an axis without meaning, and both starts.

`width` maps MiniLM and Granite into more dimensions, as many on both sides or not, and
fits there; `nuisance` adds a direction to the target that has nothing to do with the
text. That lowers `paired`, Procrustes with all pairs, as well, since the pool has it:
so each map is scored in the other pool, too (`other`), the map of a fit that never met
the direction in the pool that has it. `starts` sets the best of anchors and the grown
game beside two draws of anchors, on one pair, for their time. To be affordable all
leave out self-learning's last phase, which is the longest, and `starts` most of the
third; its rows are fewer.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch

from v2v_lite.align.linalg import random_orthogonal
from v2v_lite.align.paired import Procrustes
from v2v_lite.align.selflearn import PHASES, SelfLearn, SelfLearnConfig
from v2v_lite.measure import Score, score
from v2v_lite.spaces import Space, unit
from v2v_lite.teaching.comparison import NUMBERS, short, space_of, split_of

from .recheck import Recheck
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ("width", "nuisance", "paired", "starts")
NOISE = 0.01
SHORT = (*PHASES[:2], replace(PHASES[2], n_iter=4))
TRIES = {"anchors": 2, "best": 1}  # initialisations of a kind


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    main: tuple[str, str] = ("minilm", "granite")
    widths: tuple[tuple[int, int], ...] = (
        (384, 384), (1536, 1536), (3072, 3072), (4096, 4096), (1536, 384), (384, 3072)
    )  # fmt: skip
    n_wide: int = 16_384
    n_nuisance: int = 8_192
    share: float = 0.14
    nuisance_seeds: int = 2
    pairs: tuple[tuple[str, str], ...] = (("minilm", "wordllama"),)
    n_starts: int = 4_096
    seeds: int = 1


FULL = Plan()
QUICK = Plan(
    widths=((384, 384), (640, 384)), n_wide=2_000, n_nuisance=2_000, n_starts=2_000,
    nuisance_seeds=1, pairs=(("minilm", "granite"),),
)  # fmt: skip


@dataclass(frozen=True)
class Fit(Task):
    """One fit; widths (0, 0) leave rows as they are, `share` 0 adds no direction.

    `other` is the share of a direction that the pool of a second score has: its map is
    the fit's, with that direction left out where the fit did not meet it.
    """

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    n_train: int
    seed: int
    start: str = "anchors"
    n_init: int = 1
    short: bool = False
    widths: tuple[int, int] = (0, 0)
    share: float = 0.0
    drop: bool = True
    other: float | None = None

    def run(self, work: Path) -> dict:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        sides = [[split.source, split.eval_source], [split.target, split.eval_target]]
        sides = [
            widened(side, width, self.seed + k) if width > side[0].d else side
            for k, (side, width) in enumerate(zip(sides, self.widths, strict=True))
        ]
        plain = sides[1]
        (x, test_x), (y, test_y) = sides[0], with_nuisance(plain, self.share, self.seed)
        phases = SHORT if self.short else PHASES[:3]
        config = SelfLearnConfig(
            phases=phases, n_init=self.n_init, start=self.start, drop_nuisance=self.drop
        )
        began = time.perf_counter(), time.process_time()
        model = SelfLearn(config).fit(x, y, seed=self.seed)
        taken = time.perf_counter() - began[0], time.process_time() - began[1]
        found = score(model.translate(test_x), test_y)
        row = {"source": self.source, "target": self.target, "seed": self.seed}
        row |= {"n_train": self.n_train, "start": self.start, "n_init": self.n_init}
        row |= {"width": x.d, "target_width": y.d}
        row |= {"share": self.share, "drop": self.drop}
        row |= {"begun": model.history[0].name, "detail": model.history[0].detail}
        row |= {"objective": short(model.history[-1].objective)}
        row |= {"seconds": round(taken[0], 1), "cpu": round(taken[1], 1)}
        row |= numbers(found)
        if self.other is not None:
            y, test_y = with_nuisance(plain, self.other, self.seed)
            weight = model.weight
            if self.other:
                axis = nuisance_axis(y.d, self.seed)[0]
                weight = weight - (weight @ axis.T) @ axis
            moved = SelfLearn.from_map(weight, x, y).translate(test_x)
            row["other"] = {"share": self.other} | numbers(score(moved, test_y))
        return row


def numbers(found: Score) -> dict:
    """What a row keeps of a score."""
    row = {"pool": found.pool, "top1_se": short(found.top1.se)}
    return row | {key: short(getattr(found, key).mean) for key in NUMBERS}


@dataclass(frozen=True)
class Paired(Task):
    """The ceiling: Procrustes with the pairs of as many texts, `share` as in Fit."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    n_train: int
    seed: int
    share: float = 0.0

    def run(self, work: Path) -> dict:
        split = split_of(self.source, self.target, self.n_train, self.seed)
        sides = [[space_of(name, "train").take(slice(self.n_train)), test]
                 for name, test in ((self.source, split.eval_source),
                                    (self.target, split.eval_target))]  # fmt: skip
        (x, test_x), (y, test_y) = (
            sides[0], with_nuisance(sides[1], self.share, self.seed)
        )  # fmt: skip
        found = score(Procrustes().fit(x, y).translate(test_x), test_y)
        return {"seed": self.seed, "share": self.share} | numbers(found)


def widened(spaces: Sequence[Space], width: int, seed: int) -> list[Space]:
    """Spaces mapped into more dimensions, lengths kept, with NOISE of length in all."""
    g = torch.Generator().manual_seed(seed)
    into, mapped = random_orthogonal(spaces[0].d, width, generator=g), list[Space]()
    for space in spaces:
        noise = torch.randn(space.n, width, generator=g) * NOISE / width**0.5
        rows = Space.of(space.vectors @ into + noise, encoder=space.name)
        mapped.append(rows.with_mean(mapped[0].mean) if mapped else rows)
    return mapped


def with_nuisance(spaces: Sequence[Space], share: float, seed: int) -> list[Space]:
    """Spaces whose rows have moved along one direction, by Gaussian amounts that make
    `share` of the variance of unit centred rows, nearly."""
    if not share:
        return list(spaces)
    first, moved = spaces[0], list[Space]()
    axis, g = nuisance_axis(first.d, seed)
    spread = (first.vectors - first.mean).square().sum(dim=1).mean()
    size = (share * spread / (1 - share)).sqrt() * 1.1  # length one takes some back
    for space in spaces:
        amounts = size * torch.randn(space.n, 1, generator=g)
        rows = Space.of(space.vectors + amounts * axis, encoder=space.name)
        moved.append(rows.with_mean(moved[0].mean) if moved else rows)
    return moved


def nuisance_axis(d: int, seed: int) -> tuple[torch.Tensor, torch.Generator]:
    """The direction `(1, d)` that is added, and the generator, to go on with."""
    g = torch.Generator().manual_seed(seed)
    return unit(torch.randn(1, d, generator=g)), g


def tasks_of(part: str, plan: Plan) -> list[Task]:
    """The tasks of a part."""
    p, seeds = plan, range(plan.nuisance_seeds)
    if part == "width":
        return [Fit(*p.main, p.n_wide, 0, widths=widths) for widths in p.widths]
    if part == "nuisance":
        ones = [Fit(*p.main, p.n_nuisance, seed) for seed in seeds]
        return [
            replace(one, **how)
            for one in ones
            for how in (
                {"other": p.share},
                {"share": p.share, "other": 0.0},
                {"share": p.share, "drop": False},
            )
        ]
    if part == "paired":
        return [
            Paired(*p.main, p.n_nuisance, seed, share)
            for seed in seeds
            for share in (0.0, p.share)
        ]
    return [
        Fit(*pair, p.n_starts, seed, start, n_init, short=True)
        for seed in range(p.seeds)
        for pair in p.pairs
        for start, n_init in TRIES.items()
    ]


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 2
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks."""
    store = Store(work / "fit.json")
    for part in parts:
        run_all(tasks_of(part, plan), store, jobs, part)
    return assemble(plan, store)


def assemble(plan: Plan, store: Store) -> tuple[dict, list[str]]:
    """The table from the rows in the store, and the parts that lack some."""
    table: dict = {"noise": NOISE, "share": plan.share}
    missing = []
    for part in PARTS:
        rows = [store.get(task) for task in tasks_of(part, plan)]
        if None in rows:
            missing.append(part)
        else:
            table[part] = rows
    return table, missing


def lines(table: dict) -> list[str]:
    """The table in short, for people."""
    text = []
    for row in table.get("paired", ()):
        text.append(f"paired, axis of {row['share']:.0%}: top-1 {row['top1']:.3f}")
    for part in ("width", "nuisance", "starts"):
        for row in table.get(part, ()):
            about = f"{row['source']} to {row['target']}, {row['width']}-d"
            if row["target_width"] != row["width"]:
                about += f" to {row['target_width']}-d"
            if part == "nuisance":
                about += f", axis of {row['share']:.0%}" if row["share"] else ""
                about += "" if row["drop"] else ", kept"
                if other := row.get("other"):
                    about += f" (where it is {other['share']:.0%}: {other['top1']:.3f})"
            text.append(
                f"{part}: {about}, {row['start']}: top-1 {row['top1']:.3f}, rank "
                f"{row['rank']:.1f} in {row['cpu']:.0f} s of one core"
            )
    return text


def recheck(table: dict, work: Path) -> Recheck:
    """The fit with a nuisance axis that is dropped."""
    stored = table["nuisance"][1]
    one = Fit(stored["source"], stored["target"], stored["n_train"], stored["seed"])
    row = replace(one, share=stored["share"]).run(work)
    keys = {"top1": 0.03, "rank": 1.0}
    return Recheck(
        f"axis of {stored['share']:.0%} on the target, dropped",
        {key: stored[key] for key in keys},
        {key: row[key] for key in keys},
        keys,
        "the spread of self-learning over seeds at this number of rows",
    )
