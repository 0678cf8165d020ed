r"""Before the first step: the run to resume, the rows to train on, the initial maps.

Initial maps are found between two spaces without a pair. Between whitened spaces a
right map is nearly a rotation, and an unpaired method finds more than that: the
singular values of its map $M = U \sigma V^\top$ say how far each direction is shared.
The nets start from the rotation $UV^\top$, the discriminators see rows filtered by
$\sigma$ (`nets.SpectralFilter`), and translations can be scaled by it
(`result.output_matrices`).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..align.anchors import find_anchors
from ..align.linalg import whitening
from ..align.selflearn import SelfLearn, SelfLearnConfig
from ..spaces.files import ConfigError, DataError
from ..spaces.rows import unit
from ..spaces.space import Space
from ..spaces.splits import hold_out
from . import checkpoint
from .config import OURS, Preset, from_dict, preset_named
from .result import SpaceStats
from .state import TrainState

__all__ = [
    "CHECKPOINTS", "check_spaces", "check_same_data", "initial_maps", "load_saved",
    "settle", "split",
]  # fmt: skip

CHECKPOINTS = "checkpoints"  # a run's folder of them
Maps = dict[tuple[str, str], Tensor]
Saved = tuple[dict[str, Any], dict[str, Any]]  # a checkpoint's tree and header


def initial_maps(
    spaces: dict[str, Space], stats: dict[str, SpaceStats], preset: Preset,
    seeds: tuple[int, ...], progress: bool = False,
) -> Maps:  # fmt: skip
    """Maps `(S, d_s, d_t)` from each space to the last, between transformed rows; none
    if `preset.init` is random. They are found on the CPU, one per seed."""
    if preset.init == "random":
        return {}
    *sources, target = spaces
    maps, known = {}, spaces[target].to("cpu")
    for name in sources:
        sides = spaces[name].to("cpu"), known, stats[name]
        found = [_find(*sides, preset, seed, progress) for seed in seeds]
        maps[name, target] = torch.stack(found)
    return maps


def _find(
    source: Space, target: Space, stats: SpaceStats, preset: Preset, seed: int,
    progress: bool,
) -> Tensor:  # fmt: skip
    config = SelfLearnConfig()
    config = replace(config, anchors=replace(config.anchors, n_runs=preset.anchor_runs))
    if preset.init == "anchors" and stats.whitening is not None:
        x, y = (unit(one.vectors - one.mean) for one in (source, target))
        whitenings = [whitening(z, preset.whitening_rows / len(z)) for z in (x, y)]
        generator = torch.Generator().manual_seed(seed)
        drawn = [
            find_anchors(x, y, config.anchors, generator, *whitenings).cross()
            for _ in range(preset.anchor_draws)
        ]
        return max(drawn, key=lambda cross: torch.linalg.matrix_norm(cross, "nuc"))
    if preset.init == "anchors":
        config = replace(config, phases=())
    weight = SelfLearn(config).fit(source, target, seed=seed, progress=progress).weight
    # Undo self-learning's own whitening of the source if the nets' rows have one.
    if stats.whitening is None:
        return weight
    return torch.linalg.solve(stats.whitening, weight)


def saved_steps(out: Path | None) -> list[Path]:
    """The checkpoints in a run's folder, oldest first."""
    return [] if out is None else checkpoint.checkpoints(out / CHECKPOINTS)


def load_saved(out: Path | None, resume: bool) -> Saved | None:
    """The newest checkpoint in `out`, or None for a new run.

    Raises DataError for a new run in a folder that holds one."""
    if resume:
        if out is None:
            raise ConfigError("resume: give the run's folder as `out`")
        return checkpoint.load(out / CHECKPOINTS, TrainState.HEADER)
    if saved_steps(out):
        raise DataError(f"{out} holds a run; resume it, or choose another folder")
    return None


def settle(
    preset: Preset | str | None, seeds: int | None, seed: int, saved: Saved | None
) -> tuple[Preset, tuple[int, ...]]:
    """The preset and the seeds' numbers: those asked for, or the checkpoint's."""
    preset = preset_named(preset) if isinstance(preset, str) else preset
    if seeds is not None and seeds < 1:
        raise ConfigError(f"seeds = {seeds}, but at least 1 is needed")
    if saved is None:
        return preset or OURS, tuple(range(seed, seed + (seeds or 1)))
    kept, numbers = from_dict(Preset, saved[1]["preset"]), tuple(saved[1]["seeds"])
    if preset not in (None, kept):
        one, two = (checkpoint.flat(asdict(p)) for p in (kept, preset or kept))
        told = ", ".join(
            f"{key.replace(checkpoint.BETWEEN, '.')} is {one[key]!r}, not {two[key]!r}"
            for key in one
            if one[key] != two[key]
        )
        raise ConfigError(
            f"the run to resume has another preset: {told}; leave the preset out, or "
            "train anew in another folder"
        )
    if seeds not in (None, len(numbers)):
        raise ConfigError(
            f"the run to resume has the seeds {list(numbers)}, not {seeds} seeds; "
            "leave them out, or train anew in another folder"
        )
    return kept, numbers


def split(
    spaces: dict[str, Space], held_out: dict[str, Space] | None, preset: Preset
) -> tuple[dict[str, Space], dict[str, Space]]:
    """The spaces to train on, and rows of each that no step sees."""
    if held_out is None and len(spaces) > 1:
        both = {name: hold_out(space) for name, space in spaces.items()}
        spaces = {name: pair[0] for name, pair in both.items()}
        held_out = {name: pair[1] for name, pair in both.items()}
    held_out = held_out or {}
    if [(k, s.d) for k, s in held_out.items()] != [(k, s.d) for k, s in spaces.items()]:
        raise DataError(
            f"held-out rows are of {held_out}; give rows of the same spaces: {spaces}"
        )
    for name, space in spaces.items():
        if space.n < preset.optim.batch_size:
            raise DataError(
                f"{name} has {space.n} rows to train on, but a batch takes "
                f"{preset.optim.batch_size}; lower optim.batch_size or give more rows"
            )
    return spaces, held_out


def check_spaces(spaces: dict[str, Space], preset: Preset) -> None:
    """Raise unless the preset can be trained between so many spaces."""
    if len(spaces) < 2:
        raise DataError(f"{len(spaces)} spaces; give two or more by name")
    if preset.output_transform == "shared" and len(spaces) > 2:
        raise ConfigError(
            f"preset.output_transform = 'shared' is of one pair, but {len(spaces)} "
            "spaces are given; set it to 'variance', or train pair by pair"
        )


def check_same_data(
    header: dict[str, Any], spaces: dict[str, Space], digest: str
) -> None:
    """Raise DataError unless the data are those of the checkpoint."""
    widths = {name: space.d for name, space in spaces.items()}
    if header["hash"] != digest:  # of names, dimensions and rows
        raise DataError(
            f"the run to resume is of {header['widths']}, and the rows given, of "
            f"{widths}, are not those that the run was trained on; give its own rows, "
            "or train anew in another folder"
        )
