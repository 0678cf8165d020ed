"""What the OURS preset adds to its initial map, seed by seed.

Four parts. `coarse`: MiniLM to Granite from coarse anchors, many seeds, each compared
with the same initial map trained without an adversarial loss; the initial map itself is
what a learning rate of 0 leaves. `grown`: the same from the grown game, as the preset
has it. `pairs`: every ordered pair as the preset has it, and with the start changed to
anchors and nothing else. `full`: every ordered pair from the full unpaired alignment,
and whether the unsupervised score keeps the trained nets or the initial map.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar

import torch

from v2v_lite.measure import score
from v2v_lite.spaces import NAMES, Split
from v2v_lite.teaching.comparison import short, space_of, split_of, summary
from v2v_lite.vec2vec import OURS, Preset, TrainerConfig

from .recheck import Recheck, spread_of
from .store import Store, Task
from .workers import run_all

DATASETS = ("wiki",)
PARTS = ("coarse", "grown", "pairs", "full")
STARTS = {"coarse": "anchors", "grown": "grown", "full": "selflearn"}  # a part's start
LISTED = ("pairs", "full")  # parts that the table lists row by row
VARIANTS = ("ours", "without adversary")
KEYS = ("top1", "rank")
#: From anchors, which begin lower: smaller batches, many more of them.
ANCHORED = replace(
    OURS,
    adversarial=replace(OURS.adversarial, variance_exponent=(1.4, 0.5)),
    optim=replace(OURS.optim, batch_size=1024, steps=2000),
    init="anchors",
)
#: OURS from the full alignment: singular values kept in the output transform and in
#: what discriminators see, a lower temperature on more rows, and few small steps.
REFINE = replace(
    OURS,
    adversarial=replace(
        OURS.adversarial,
        temperature=0.035,
        singular_value_exponent=(1.0, 1.0),
        variance_exponent=(0.0, 0.0),
    ),
    optim=replace(OURS.optim, lr=0.01, batch_size=2048, steps=60),
    init="selflearn",
    anchor_runs=30,
    output_transform="shared",
)
PRESETS = {preset.init: preset for preset in (ANCHORED, OURS, REFINE)}
ALIKE = "anchors, else alike"  # OURS with its start changed and nothing else
PRESETS[ALIKE] = replace(OURS, init="anchors")


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    pair: tuple[str, str] = ("minilm", "granite")
    seeds: int = 10
    pairs: tuple[tuple[str, str], ...] = tuple(permutations(NAMES, 2))
    pair_seeds: int = 1
    full_seeds: int = 1
    n_train: int = 16_384
    steps: int = ANCHORED.optim.steps
    grown_seeds: int = 16
    grown_steps: int = OURS.optim.steps
    grown_controls: int = 4  # of these seeds, without an adversarial loss
    control_steps: int = 250  # nothing moves after the first
    full_steps: int = REFINE.optim.steps


FULL = Plan()
QUICK = Plan(seeds=2, pairs=(("minilm", "granite"),), n_train=2500, steps=20,
             grown_seeds=2, grown_steps=20, grown_controls=1, control_steps=20,
             full_steps=10)  # fmt: skip


@dataclass(frozen=True)
class Trial(Task):
    """One training of a variant of OURS; its start and its end, scored with pairs."""

    DATASETS: ClassVar = DATASETS
    source: str
    target: str
    seed: int
    variant: str
    start: str
    n_train: int
    steps: int
    eval_every: int

    @property
    def preset(self) -> Preset:
        """The preset of this trial's start, with its length and losses."""
        base = PRESETS[self.start]
        loss = base.loss
        if self.variant != "ours":
            loss = replace(loss, adv_weight=0.0)
        return replace(base, optim=replace(base.optim, steps=self.steps), loss=loss)

    def train(self, report: Callable[[dict], dict]) -> Any:
        """Train on the CPU; `report` is called with the numbers of each evaluation."""
        from v2v_lite.vec2vec import train

        split = split_of(self.source, self.target, self.n_train, self.seed)
        spaces = {self.source: split.source, self.target: split.target}
        config = TrainerConfig(eval_every=self.eval_every, checkpoint_every=10**9)
        return train(
            spaces, self.preset, seed=self.seed, config=config, device="cpu",
            report=lambda model: report(_metrics(model, split)),
        )  # fmt: skip

    def run(self, work: Path) -> dict:
        clock = time.perf_counter()
        found = self.train(lambda numbers: numbers)
        seconds = time.perf_counter() - clock
        logged = [r for r in found.history[0] if "report top1" in r]
        at = [r["step"] for r in logged].index(found.steps[0])
        return {
            "source": self.source, "target": self.target, "seed": self.seed,
            "pool": space_of(self.target, "eval").n,
            "initial": _reported(logged[0]), "last": _reported(logged[-1]),
            "chosen": _reported(logged[at]), "kept_step": found.steps[0],
            "curve": [{"step": r["step"], "score": short(r["score"]), **_reported(r)}
                      for r in logged],
            "seconds": round(seconds, 1), "threads": torch.get_num_threads(),
        }  # fmt: skip


def measure(
    plan: Plan, work: Path, parts: Sequence[str] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks.

    With `jobs=1` a trial has all threads, as its time is part of the result.
    """
    store = Store(work / "vec2vec.json")
    for part in parts:
        run_all(_trials(part, plan), store, jobs, part)
    table, missing = {"n_train": plan.n_train, "steps": plan.steps}, []
    table |= {"grown_steps": plan.grown_steps, "control_steps": plan.control_steps}
    table |= {"full_steps": plan.full_steps, "full_lr": REFINE.optim.lr}
    for part in PARTS:
        rows = {trial: store.get(trial) for trial in _trials(part, plan)}
        if None in rows.values():
            missing.append(part)
        else:
            table[part] = _listed(rows) if part in LISTED else _summaries(rows)
    return table, missing


def lines(table: dict) -> list[str]:
    """The table as text."""
    text = []
    for part in PARTS[:2]:
        for name, found in table.get(part, {}).items():
            if name != "runs":
                s = found["top1"]
                text.append(
                    f"{part:7} {name:17} {found['seeds']} seeds, top-1 "
                    f"{s['median']:.3f} ({s['min']:.3f} to {s['max']:.3f}), "
                    f"rank {found['rank']['median']:.1f}"
                )
    for row in (row for part in LISTED for row in table.get(part, ())):
        text.append(
            f"{row['source']} to {row['target']} from {row['start']}: "
            f"initial {row['initial']['top1']:.3f}, "
            f"last {row['last']['top1']:.3f}, kept step {row['kept_step']}"
        )
    return text


def _trials(part: str, plan: Plan) -> list[Trial]:
    if part in LISTED:
        return _of_all_pairs(part, plan)
    size, start = plan.n_train, STARTS[part]
    seeds, controls, steps = plan.seeds, plan.seeds, plan.steps
    if part == "grown":
        seeds, controls = plan.grown_seeds, plan.grown_controls
        steps = plan.grown_steps
    lengths = {VARIANTS[0]: steps, VARIANTS[1]: plan.control_steps}
    return [
        Trial(*plan.pair, seed, variant, start, size, length, _often(start, length))
        for seed in range(seeds)
        for variant, length in lengths.items()
        if variant == VARIANTS[0] or seed < controls
    ]


def _of_all_pairs(part: str, plan: Plan) -> list[Trial]:
    lengths = dict.fromkeys((OURS.init, ALIKE), plan.grown_steps)
    seeds = plan.pair_seeds
    if part == "full":
        lengths, seeds = {STARTS[part]: plan.full_steps}, plan.full_seeds
    return [
        Trial(
            *pair, seed, VARIANTS[0], start, plan.n_train, steps, _often(start, steps)
        )
        for start, steps in lengths.items()
        for pair in plan.pairs
        for seed in range(seeds)
    ]


def _often(start: str, steps: int) -> int:
    """How many steps lie between two evaluations.

    With large batches as the library does it: mostly at the end alone.
    """
    large = start in (OURS.init, ALIKE)
    return TrainerConfig().eval_every if large else sixth(steps)


def sixth(steps: int) -> int:
    """How many steps lie between two evaluations."""
    return max(1, steps // 6)


def _listed(rows: dict[Trial, dict]) -> list[dict]:
    return [{"start": trial.start} | row for trial, row in rows.items()]


def _summaries(rows: dict[Trial, dict]) -> dict:
    """Summaries of the initial map, without an adversarial loss, and of OURS."""

    def of(variant: str, when: str) -> dict:
        some = [row for trial, row in rows.items() if trial.variant == variant]
        return summary([row[when] | {"pool": row["pool"]} for row in some], KEYS)

    return {
        "initial map": of("ours", "initial"),
        "without adversary": of("without adversary", "last"),
        "ours": of("ours", "chosen"),
        "runs": [{"variant": trial.variant} | row for trial, row in rows.items()],
    }


def _metrics(model, split: Split) -> dict[str, float]:
    found = score(model.translate(split.eval_source), split.eval_target)
    return {key: getattr(found, key).mean for key in KEYS}


def _reported(record: dict) -> dict[str, float]:
    return {key: short(record[f"report {key}"]) for key in KEYS}


class Enough(Exception):
    """Raised from a report, to end a training that has been seen long enough."""


def recheck(table: dict, work: Path) -> Recheck:
    """Seed 0: the initial map from anchors; the grown one, and the first evaluation."""
    plan = replace(FULL, n_train=table["n_train"])
    before, now, spread = {}, {}, {}
    for part, evaluations in (("coarse", 1), ("grown", 2)):
        runs = [run for run in table[part]["runs"] if run["variant"] == VARIANTS[0]]
        found = _first(_trials(part, plan)[0], evaluations)
        for i, numbers in enumerate(found):
            name = f"{part}, step {runs[0]['curve'][i]['step']}"
            over = [run["curve"][i]["top1"] for run in runs]
            before[name], now[name] = over[0], short(numbers["top1"])
            spread[name] = spread_of(over, 0.005)
    return Recheck(
        f"top-1 of seed {runs[0]['seed']}", before, now, spread,
        "3 standard deviations over the seeds of the row at that step",
    )  # fmt: skip


def _first(trial: Trial, evaluations: int) -> list[dict[str, float]]:
    """The numbers of a training's first evaluations, after which it is ended."""
    found: list[dict[str, float]] = []

    def report(numbers: dict[str, float]) -> dict[str, float]:
        found.append(numbers)
        if len(found) == evaluations:
            raise Enough
        return numbers

    with suppress(Enough):
        trial.train(report)
    return found
