"""The training of vec2vec: one loop, many seeds, any number of processes.

Nothing in a step waits for the device: rows lie there and are drawn there, losses are
summed there and read at the logging interval, when a loss that is not finite comes to
light, too. Which weights are kept, which seed is chosen and when to stop is decided by
`align.diagnose` on rows held back, which needs no pair (chapter 11).

Several processes (`accelerate launch`) divide each step's batch among them, so that a
preset means the same on one GPU as on eight. Their gradients are averaged: those of the
whole batch, but for losses that look across rows (Gram matrices, MMD, batch norm, the
relativistic game), which see the rows of one process.
"""

from __future__ import annotations

import os
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..align.diagnosis import Diagnosis, label_of
from ..spaces.files import DataError, write_json
from ..spaces.space import Space
from ..spaces.splits import hold_out
from . import checkpoint
from .machine import Interrupted, Loop, Stop, average_buffers
from .presets import SOUND, Preset
from .run import CHECKPOINTS, Report, Run
from .state import preset_named, preset_of
from .step import discriminator_losses, generator_losses
from .translator import Vec2Vec

HISTORY = "history.json"


def train(
    spaces: dict[str, Space],
    preset: Preset | str | None = None,
    *,
    seeds: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    loop: Loop | None = None,
    held: dict[str, Space] | None = None,
    resume: bool = False,
    report: Report | None = None,
    progress: bool = False,
    device: str = "auto",
) -> Trained:
    """Train nets of the seeds `seed`, `seed + 1`, ... between unpaired spaces.

    `spaces` are two or more by name, the known one last; `preset` is one or its name
    (SOUND). `held` are rows of each that no step sees (default: taken by `hold_out`).
    `out` gets checkpoints, at the end also the chosen translator and the history. With
    `resume` its newest checkpoint goes on, bit for bit on a CPU; preset and seeds are
    then its own. `report` makes numbers of a translator, from pairs perhaps, that go
    into the history and decide nothing. Raises DataError for bad input, Diverged for a
    loss that is not finite, Interrupted on SIGINT or SIGTERM, once the state is saved.
    """
    out = None if out is None else Path(out)
    loaded = _loaded(out, resume)
    preset, numbers = _settled(preset, seeds, seed, loaded)
    spaces, held = _sides(spaces, held, preset)
    run = Run(spaces, held, preset, loop or Loop(), out, device, report)
    if loaded:
        _check_same(run, loaded[1])
    run.begin(numbers, loaded, progress and run.main)
    state, every, steps = run.state, run.loop, preset.optim.steps
    with run.at_work(progress) as bar, Stop() as stop:
        if state.step == 0:
            run.evaluate()
            run.save()
        while state.step < steps and not run.out_of_patience:
            losses = step(run)
            state.meter.add(state.step, losses)
            bar.update()
            last = state.step == steps
            if last or state.step % every.log_every == 0:
                bar.set_postfix(run.read())
            if last or state.step % every.evaluate_every == 0:
                run.evaluate()
            if last or state.step % every.save_every == 0:
                run.save()
            if stop.agreed(run.accelerator, state.step, every.log_every):
                run.save()
                raise Interrupted(
                    f"stopped by {stop.asked or 'a signal'} after step {state.step}; "
                    f"{run.kept()}"
                )
        run.save()
    return _trained(run)


def step(run: Run) -> dict[str, Tensor]:
    """One update of both sides; the losses `{name: (S,)}` at which they were made.

    The nets run once, then the discriminators learn from what came out, then the nets
    against the discriminators that have learned. If the rows come in parts, the nets
    run twice, so that the discriminators have seen all parts first.
    """
    state, preset, parts = run.state, run.preset, range(run.loop.accumulate)
    players, found = state.players, {}
    state.set_rates()
    once = len(parts) == 1
    if "discriminators" in run.optims:
        for part in parts:
            with run.accelerator.autocast(), torch.set_grad_enabled(once):
                flow = run.flow(part)
            with run.accelerator.autocast():
                losses = discriminator_losses(players, flow, preset)
            run.backward(losses["discriminator"])
            _add(found, losses, len(parts))
        run.update("discriminators", players.discriminators())
    for part in parts:
        with run.accelerator.autocast():
            if not (once and "discriminators" in run.optims):
                flow = run.flow(part)
            losses = generator_losses(players, flow, preset)
        run.backward(losses["generator"])
        _add(found, losses, len(parts))
    run.update("nets", [*players.nets.parameters()], preset.optim.clip)
    average_buffers(run.accelerator, players.nets)
    state.step += 1
    state.follow()
    return found


@dataclass(frozen=True, eq=False)
class Trained:
    """What training leaves, a seed each: its best nets, and how it came to them.

    `scores` are the unsupervised scores of the seeds' best nets, means over pairs, each
    beside the other seeds' (agreement counts); `best` is the index of the highest.
    `steps` says when those nets were reached; `history` holds the records of losses and
    evaluations, `{"step": .., name: ..}`.
    """

    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    best: int
    steps: tuple[int, ...]
    diagnoses: tuple[tuple[Diagnosis, ...], ...]  # (seed, pair)
    history: tuple[list[dict], ...]
    run: Run

    def translator(
        self, source: str | None = None, target: str | None = None, k: int | None = None
    ) -> Vec2Vec:
        """The translator between two spaces (the first to the last) by the k-th seed
        (the best)."""
        names = self.run.state.best.names
        source, target = source or names[0], target or names[-1]
        if not {source, target} <= set(names) or source == target:
            raise DataError(
                f"from {source!r} to {target!r}; give two of {', '.join(names)}"
            )
        k = self.best if k is None else k
        return self.run.translator(self.run.state.best, k, source, target)

    def spread(self) -> dict[str, float]:
        """Median, min and max over seeds of the scores, and the share of them that the
        diagnosis calls aligned."""
        words = [label_of(score) for score in self.scores]
        return {
            "median": statistics.median(self.scores),
            "min": min(self.scores),
            "max": max(self.scores),
            "aligned": words.count("aligned") / len(words),
        }


def _trained(run: Run) -> Trained:
    state = run.state
    table = [run.beside(pair) for pair in run.pairs]
    diagnoses = tuple(zip(*table, strict=True))
    scores = tuple(statistics.fmean(d.score for d in row) for row in diagnoses)
    best = max(range(len(scores)), key=scores.__getitem__)
    found = Trained(
        state.seeds, scores, best, tuple(state.steps), diagnoses,
        tuple(state.history), run,
    )  # fmt: skip
    if run.out is not None and run.main:
        about = {
            "preset": asdict(run.preset),
            "seeds": state.seeds,
            "best": state.seeds[best],
            "scores": scores,
            "steps": state.steps,
            "spread": found.spread(),
            "history": state.history,
        }
        write_json(run.out / HISTORY, about)
        found.translator().save(run.out)
    return found


def _loaded(out: Path | None, resume: bool) -> tuple[dict, dict] | None:
    folder = None if out is None else out / CHECKPOINTS
    if resume:
        if folder is None:
            raise DataError("resume: give the run's folder as `out`")
        return checkpoint.load(folder)
    if folder is not None and checkpoint.checkpoints(folder):
        raise DataError(f"{out} holds a run; resume it, or choose another folder")
    return None


def _settled(
    preset: Preset | str | None, seeds: int | None, seed: int, loaded: tuple | None
) -> tuple[Preset, tuple[int, ...]]:
    # The preset and the seeds' numbers: those asked for, or the checkpoint's.
    preset = preset_named(preset) if isinstance(preset, str) else preset
    if seeds is not None and seeds < 1:
        raise DataError(f"seeds = {seeds}, but at least 1 is needed")
    if loaded is None:
        return preset or SOUND, tuple(range(seed, seed + (seeds or 1)))
    kept, numbers = preset_of(loaded[1]["preset"]), tuple(loaded[1]["seeds"])
    if preset not in (None, kept):
        raise DataError(
            f"the run to resume has another preset: {_differences(kept, preset)}; "
            "leave the preset out, or train anew in another folder"
        )
    if seeds not in (None, len(numbers)):
        raise DataError(
            f"the run to resume has the seeds {list(numbers)}, not {seeds} seeds; "
            "leave them out, or train anew in another folder"
        )
    return kept, numbers


def _differences(kept: Preset, asked: Preset) -> str:
    one, two = (checkpoint.flat(asdict(preset)) for preset in (kept, asked))
    return ", ".join(
        f"{key.replace(checkpoint.BETWEEN, '.')} is {one[key]!r}, not {two[key]!r}"
        for key in one
        if one[key] != two[key]
    )


def _sides(
    spaces: dict[str, Space], held: dict[str, Space] | None, preset: Preset
) -> tuple[dict[str, Space], dict[str, Space]]:
    # The spaces to train on, and rows of each that are not.
    if len(spaces) < 2:
        raise DataError(f"{len(spaces)} spaces; give two or more by name")
    if held is None:
        both = {name: hold_out(space) for name, space in spaces.items()}
        spaces = {name: pair[0] for name, pair in both.items()}
        held = {name: pair[1] for name, pair in both.items()}
    if [(k, s.d) for k, s in held.items()] != [(k, s.d) for k, s in spaces.items()]:
        raise DataError(
            f"held rows are of {held}; give rows of the same spaces: {spaces}"
        )
    for name, space in spaces.items():
        if space.n < preset.optim.batch:
            raise DataError(
                f"{name} has {space.n} rows to train on, but a batch takes "
                f"{preset.optim.batch}; lower optim.batch or give more rows"
            )
    return spaces, held


def _check_same(run: Run, about: dict) -> None:
    # That the data are those the checkpoint was trained on.
    if about["widths"] != run.widths or list(about["widths"]) != list(run.widths):
        raise DataError(
            f"the run to resume is of {about['widths']}, but the spaces given are "
            f"{run.widths}; give its own spaces"
        )
    if about["hash"] != run.hash:
        raise DataError(
            "the rows given are not those that the run to resume was trained on; give "
            "its own rows, or train anew in another folder"
        )


def _add(found: dict[str, Tensor], losses: dict[str, Tensor], parts: int) -> None:
    for name, value in losses.items():
        value = value.detach() / parts
        found[name] = found[name] + value if name in found else value
