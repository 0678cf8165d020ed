"""`v2v bench vec2vec`: what the SOUND preset adds to its start, seed by seed.

Two parts. `coarse`: MiniLM to Granite from coarse anchors, many seeds, each beside the
same start trained without the game; the start itself is what a learning rate of 0
leaves. `full`: every ordered pair from the full unpaired alignment, and whether the
unsupervised score keeps the training's nets or falls back to the start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import torch

from ..measure import score
from ..spaces import NAMES, Split
from ..vec2vec.machine import Loop
from ..vec2vec.presets import SOUND, Preset
from .pool import Store, run_all
from .results import DATASETS, MADE_BY, code_hash, data_hash
from .table import short, space_of, split_of, summary

PARTS = ("coarse", "full")
VARIANTS = ("sound", "without the game")
KEYS = ("top1", "rank")
#: SOUND from the full alignment: strengths kept in the read-out, judges that look
#: through them at more rows and closer, small steps, as there is less way to go.
FULL = replace(
    SOUND,
    game=replace(SOUND.game, temperature=0.035, focus=(1.0, 1.0), spread=(0.0, 0.0)),
    optim=replace(SOUND.optim, lr=0.01, batch=2048, steps=60),
    start="selflearn",
    anchor_runs=30,
    read_out="shared",
)


@dataclass(frozen=True)
class Plan:
    """What is measured; the defaults are the book's."""

    pair: tuple[str, str] = ("minilm", "granite")
    seeds: int = 10
    pairs: tuple[tuple[str, str], ...] = tuple(permutations(NAMES, 2))
    full_seeds: int = 1
    n_train: int = 16_384
    steps: int = SOUND.optim.steps
    control_steps: int = 250  # without the game nothing moves after the first
    full_steps: int = FULL.optim.steps


QUICK = Plan(seeds=2, pairs=(("minilm", "granite"),), n_train=2500, steps=20,
             control_steps=20, full_steps=10)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One training of a variant of SOUND; its start and its end, scored with pairs."""

    source: str
    target: str
    seed: int
    variant: str
    start: str
    n_train: int
    steps: int

    @property
    def key(self) -> str:
        words = self.variant.replace(" ", "-")
        ends = f"{self.source}-{self.target}-{self.n_train}"
        return f"vec2vec-{words}-{self.start}-{ends}-{self.steps}-{self.seed}"

    @property
    def code(self) -> str:
        return code_hash(MADE_BY["vec2vec"]) + data_hash(DATASETS["vec2vec"])

    @property
    def preset(self) -> Preset:
        """SOUND or FULL with this trial's length, and with the game or without."""
        base = FULL if self.start == FULL.start else SOUND
        loss = base.loss
        if self.variant != "sound":
            loss = replace(loss, output_game=0.0)
        optim = replace(base.optim, steps=self.steps)
        return replace(base, optim=optim, loss=loss)

    def run(self, work: Path) -> dict:
        from ..vec2vec.trainer import train

        split = split_of(self.source, self.target, self.n_train, self.seed)
        spaces = {self.source: split.source, self.target: split.target}
        loop = Loop(evaluate_every=max(1, self.steps // 6), save_every=10**9)
        clock = time.perf_counter()
        found = train(
            spaces, self.preset, seed=self.seed, loop=loop, device="cpu",
            report=lambda model: _told(model, split),
        )  # fmt: skip
        seconds = time.perf_counter() - clock
        told = [r for r in found.history[0] if "report top1" in r]
        at = [r["step"] for r in told].index(found.steps[0])
        return {
            "source": self.source, "target": self.target, "seed": self.seed,
            "pool": space_of(self.target, "eval").n,
            "start": _brief(told[0]), "last": _brief(told[-1]),
            "end": _brief(told[at]), "kept": found.steps[0],
            "curve": [{"step": r["step"], "score": short(r["score"]), **_brief(r)}
                      for r in told],
            "seconds": round(seconds, 1), "threads": torch.get_num_threads(),
        }  # fmt: skip


def run(
    plan: Plan, work: Path, parts: tuple[str, ...] = PARTS, jobs: int = 1
) -> tuple[dict, list[str]]:
    """Measure the parts into `work`; the table so far, and the parts it still lacks.

    With `jobs=1` a trial has all threads, as its time is part of the result.
    """
    store = Store(work / "vec2vec.json")
    for part in parts:
        run_all(_trials(part, plan), store, 0 if jobs == 1 else jobs, part)
    table, missing = {"n_train": plan.n_train, "steps": plan.steps}, []
    table |= {"control steps": plan.control_steps}
    table |= {"full steps": plan.full_steps, "full lr": FULL.optim.lr}
    for part in PARTS:
        rows = {trial: store.get(trial) for trial in _trials(part, plan)}
        if None in rows.values():
            missing.append(part)
        else:
            table[part] = _coarse(rows) if part == "coarse" else [*rows.values()]
    return table, missing


def lines(table: dict) -> list[str]:
    """The table as text."""
    text = []
    for name, found in table.get("coarse", {}).items():
        if name != "runs":
            s = found["top1"]
            text.append(
                f"{name:17} {found['seeds']} seeds, top-1 {s['median']:.3f} "
                f"({s['min']:.3f} to {s['max']:.3f}), "
                f"rank {found['rank']['median']:.1f}"
            )
    for row in table.get("full", ()):
        text.append(
            f"{row['source']} to {row['target']}: start {row['start']['top1']:.3f}, "
            f"last {row['last']['top1']:.3f}, kept step {row['kept']}"
        )
    return text


def _trials(part: str, plan: Plan) -> list[Trial]:
    size = plan.n_train
    if part == "coarse":
        lengths = {VARIANTS[0]: plan.steps, VARIANTS[1]: plan.control_steps}
        return [
            Trial(*plan.pair, seed, variant, SOUND.start, size, steps)
            for seed in range(plan.seeds)
            for variant, steps in lengths.items()
        ]
    return [
        Trial(*pair, seed, "sound", FULL.start, size, plan.full_steps)
        for pair in plan.pairs
        for seed in range(plan.full_seeds)
    ]


def _coarse(rows: dict[Trial, dict]) -> dict:
    """Summaries of the start, of what is left without the game, and of SOUND."""

    def of(variant: str, when: str) -> dict:
        some = [row for trial, row in rows.items() if trial.variant == variant]
        return summary([row[when] | {"pool": row["pool"]} for row in some], KEYS)

    return {
        "start": of("sound", "start"),
        "without the game": of("without the game", "last"),
        "sound": of("sound", "end"),
        "runs": [{"variant": trial.variant} | row for trial, row in rows.items()],
    }


def _told(model, split: Split) -> dict[str, float]:
    found = score(model.translate(split.eval_source), split.eval_target)
    return {key: getattr(found, key).mean for key in KEYS}


def _brief(record: dict) -> dict[str, float]:
    return {key: short(record[f"report {key}"]) for key in KEYS}
