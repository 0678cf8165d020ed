"""Before the first step: the run to resume, its preset and seeds, rows to train on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

import torch

from ..spaces.files import ConfigError, DataError
from ..spaces.space import Space
from ..spaces.splits import hold_out
from ..spaces.tables import spans
from . import checkpoint
from .config import Preset
from .presets import OURS, from_dict, preset_named
from .state import TrainState

CHECKPOINTS = "checkpoints"  # a run's folder of them
ANEW = "train anew in another folder"
Saved: TypeAlias = tuple[dict[str, Any], dict[str, Any]]  # a tree and its header
Sketch: TypeAlias = dict[str, list]


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
        one, two = (checkpoint.flat(asdict(p), ".") for p in (kept, preset or kept))
        keys = [key for key in one if one[key] != two[key]]
        told = ", ".join(f"{key} is {one[key]!r}, not {two[key]!r}" for key in keys)
        fact = f"the run to resume has another preset: {told}"
        raise ConfigError(f"{fact}; leave the preset out, or {ANEW}")
    if seeds not in (None, len(numbers)):
        fact = f"the run to resume has the seeds {list(numbers)}, not {seeds} seeds"
        raise ConfigError(f"{fact}; leave them out, or {ANEW}")
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
        fact = f"held-out rows are of {held_out}"
        raise DataError(f"{fact}; give rows of the same spaces: {spaces}")
    size = preset.optim.batch_size
    for name, space in spaces.items():
        if space.n < size:
            fact = f"{name} has {space.n} rows to train on, but a batch takes {size}"
            raise DataError(f"{fact}; lower optim.batch_size or give more rows")
    return spaces, held_out


def check_spaces(spaces: dict[str, Space], preset: Preset) -> None:
    """Raise unless the preset can be trained between so many spaces."""
    if len(spaces) < 2:
        raise DataError(f"{len(spaces)} spaces; give two or more by name")
    if preset.output_transform == "shared" and len(spaces) > 2:
        fact = f"'shared' is of one pair, but {len(spaces)} spaces are given"
        mend = "set it to 'variance', or train pair by pair"
        raise ConfigError(f"preset.output_transform = {fact}; {mend}")


def check_same_data(saved: Saved, spaces: dict[str, Space], data: Sketch) -> None:
    """Raise DataError unless the data are those of the checkpoint, but for rounding."""
    widths, header = {name: space.d for name, space in spaces.items()}, saved[1]
    kept = header["data"]
    old, new = (torch.tensor(one["sums"]).double() for one in (kept, data))
    same = kept["shapes"] == data["shapes"] and old.shape == new.shape
    if not same or not torch.allclose(old, new, rtol=0, atol=1e-3):
        fact = f"the run to resume is of {header['widths']}, and the rows given, of "
        fact += f"{widths}, are not those that the run was trained on"
        raise DataError(f"{fact}; give its own rows, or {ANEW}")


def sketch(spaces: Iterable[tuple[str, Space]]) -> Sketch:
    r"""What tells the data that a run saw from others, on any machine.

    Names and shapes, and of each space the sums $w^\top X P$ and $\mu P$, with random
    numbers w `(n,)` and P `(d, 16)` that are the same everywhere. Rows scaled to length
    one by another processor or another torch differ in their last bits, which a hash of
    bytes would not forgive; here one row that is another, or has moved, shows.
    """
    shapes: list[list] = []
    sums: list[float] = []
    for name, space in spaces:
        g = torch.Generator().manual_seed(0)
        w, axes = (
            torch.rand(size, generator=g, dtype=torch.float64) - 0.5
            for size in ((space.n,), (space.d, 16))
        )
        total = space.mean.cpu().double()[None] @ axes
        for span in spans(space.n):
            rows = space.vectors[span].cpu().double()
            total = torch.cat([total, w[None, span] @ rows @ axes])
        shapes.append([name, space.n, space.d])
        sums += torch.stack([total[0], total[1:].sum(dim=0)]).flatten().tolist()
    return {"shapes": shapes, "sums": sums}
