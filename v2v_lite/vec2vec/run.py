"""What surrounds the training loop: data, start, evaluation, checkpoints, records."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..align.diagnosis import Diagnosis, diagnose
from ..align.sinkhorn import reduced_precision_matmul
from ..spaces.files import DataError
from ..spaces.space import Space
from . import checkpoint
from .machine import Loop, accelerator_of, average_gradients, clip_by_seed
from .nets import Nets
from .presets import Preset
from .schedule import Batches, mix
from .start import View, read_out, start_maps
from .state import State, fingerprint
from .step import Flow, forward
from .translator import Vec2Vec

if TYPE_CHECKING:
    from tqdm import tqdm

CHECKPOINTS = "checkpoints"
TOLD = ("score", "density", "anchor", "closeness", "cycle", "csls")
Report = Callable[[Vec2Vec], dict[str, float]]


class Diverged(DataError):
    """A loss or a weight that is not finite; the message names step and seed."""


class Run:
    """A run on its machine: spaces, Accelerate, state, and what the loop asks of them.

    `begin` makes or loads the state.
    """

    state: State

    def __init__(
        self, spaces: dict[str, Space], held: dict[str, Space], preset: Preset,
        loop: Loop, out: Path | None, device: str, report: Report | None,
    ) -> None:  # fmt: skip
        self.preset, self.loop, self.out, self.report = preset, loop, out, report
        board = out if loop.tensorboard else None
        self.accelerator = accelerator_of(preset.optim.precision, device, board)
        self.device, count = self.accelerator.device, self.accelerator.num_processes
        self.share, rest = divmod(preset.optim.batch, count * loop.accumulate)
        if rest or self.share < 2:
            raise DataError(
                f"optim.batch = {preset.optim.batch} does not go evenly, by 2 rows or "
                f"more, into {count} processes' {loop.accumulate} parts; choose a "
                f"multiple of {count * loop.accumulate}"
            )
        if preset.read_out == "shared" and len(spaces) > 2:
            raise DataError(
                f"preset.read_out = 'shared' is of one pair, but {len(spaces)} spaces "
                "are given; set it to 'variance', or train pair by pair"
            )
        self.hash = fingerprint([*spaces.items(), *held.items()])
        self.spaces = {name: space.to(self.device) for name, space in spaces.items()}
        self.held = {
            name: replace(space.to(self.device), mean=self.spaces[name].mean)
            for name, space in held.items()
        }
        self.views = {
            name: View.of(space.to("cpu"), preset) for name, space in spaces.items()
        }
        *others, last = spaces
        self.pairs = [(name, last) for name in others]
        self.widths = {name: space.d for name, space in spaces.items()}

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.accelerator.is_main_process

    @property
    def out_of_patience(self) -> bool:
        """Whether no seed has done better for so long that it is time to stop."""
        return 0 < self.loop.patience <= self.state.waited

    @contextmanager
    def at_work(self, progress: bool) -> Iterator[tqdm]:
        """Gives the loop its bar; afterwards torch's generators are as they were."""
        from tqdm.auto import tqdm

        devices = [] if self.device.type == "cpu" else [self.device]
        steps, quiet = self.preset.optim.steps, not (progress and self.main)
        try:
            with (
                torch.random.fork_rng(devices),
                reduced_precision_matmul()
                if self.preset.optim.coarse
                else nullcontext(),
                tqdm(
                    None, "train", steps, initial=self.state.step, disable=quiet
                ) as bar,
            ):
                yield bar
        finally:
            # Not end_training: it would end the processes' group for a second run too.
            for tracker in self.accelerator.trackers:
                tracker.finish()

    # ---- begin

    def begin(self, seeds: tuple[int, ...], loaded: tuple | None, bars: bool) -> None:
        """Make the state of `seeds`, or take it from a checkpoint's tree and about."""
        maps = {} if loaded else self._maps(seeds, bars)
        whites = {name: view.white for name, view in self.views.items()}
        self.state = State(self.widths, self.preset, seeds, self.device, maps, whites)
        self.saved = -1  # the step of the last checkpoint
        if loaded:
            self.state.restore(*loaded)
            self.saved = self.state.step
            if self.accelerator.scaler is not None:
                self.accelerator.scaler.load_state_dict(loaded[1]["scaler"])
        optims = self.state.optims
        self.optims = {k: self.accelerator.prepare(adam) for k, adam in optims.items()}
        rows = {
            name: self.views[name].rows(space.vectors)
            for name, space in self.spaces.items()
        }
        self.batches = Batches(rows, seeds, self.preset.optim.batch)
        if self.loop.compile:
            nets, players = self.state.players.nets, self.state.players
            judges = [d.layers for d in (*players.outputs, *players.latents)]
            for net in (*nets.inputs, nets.backbone, *nets.outputs, *judges):
                net.compile()
        if self.loop.tensorboard:
            self.accelerator.init_trackers("tensorboard")

    def _maps(self, seeds: tuple[int, ...], bars: bool) -> dict:
        # Found once, by the main process, and handed to the others.
        found = {
            pair: torch.zeros(len(seeds), *(self.widths[name] for name in pair))
            for pair in (self.pairs if self.preset.start != "random" else ())
        }
        if self.main:
            found = start_maps(self.spaces, self.views, self.preset, seeds, bars)
        reduce, at = self.accelerator.reduce, self.device
        return {pair: reduce(maps.to(at)).cpu() for pair, maps in found.items()}

    # ---- within a step

    def flow(self, part: int) -> Flow:
        """The pass through the nets of a part of this process's rows of this step.

        Noise and dropout depend on the step and the part alone, so that a resumed run
        repeats them, and a second pass the first.
        """
        step, rank = self.state.step, self.accelerator.process_index
        at = (part * self.accelerator.num_processes + rank) * self.share
        torch.manual_seed(mix(*self.state.seeds, step, at))
        batch = self.batches.at(step, slice(at, at + self.share))
        return forward(self.state.players.nets, batch, self.preset.loss)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part's loss `(S,)` to those of the step.

        The sum over seeds: no weight is shared, so no gradient mixes.
        """
        self.accelerator.backward(loss.sum() / self.loop.accumulate)

    def update(self, side: str, weights: list[Tensor], clip: float = 0.0) -> None:
        """One step of the optimiser of `side`, by the gradients of all processes."""
        optim = self.optims[side]
        average_gradients(self.accelerator, weights)
        if clip:
            self.accelerator.unscale_gradients(optim)
            clip_by_seed(weights, clip)
        optim.step()
        optim.zero_grad()

    # ---- between steps

    def read(self) -> dict[str, float]:
        """Write the mean losses since the last reading into the history.

        Raises Diverged where one was not finite. Returns the totals' means over seeds.
        """
        self.check()
        state = self.state
        sums = state.meter.values["sums"]
        sums.copy_(self.accelerator.reduce(sums, "mean"))
        means = state.meter.means()
        for k, losses in enumerate(means):
            self._note(k, losses)
        totals = [name for name in ("generator", "discriminator") if name in means[0]]
        return {
            name: statistics.fmean(losses[name] for losses in means) for name in totals
        }

    def check(self) -> None:
        """Raise Diverged if a loss was, or a weight is, not finite."""
        state = self.state
        if state.meter.values:
            bad = self.accelerator.gather(state.meter.values["bad"][None])
            state.meter.values["bad"] = bad.amax(dim=0)
        found = state.meter.first_bad()
        if found is None:
            weights = [w.flatten(1) for w in state.players.nets.parameters()]
            whole = torch.stack([w.isfinite().all(dim=1) for w in weights]).all(dim=0)
            lost = (~whole).nonzero().flatten().tolist()
            found = (state.step, "of the next step", lost[0]) if lost else None
        if found is not None:
            step, name, k = found
            raise Diverged(
                f"step {step}: the loss {name!r} of seed {state.seeds[k]} is not "
                f"finite; {self.kept()}. Lower optim.lr or optim.d_lr, set optim.clip, "
                "or use precision 'no' or 'bf16'"
            )

    def evaluate(self) -> None:
        """Judge each seed's nets without pairs, and keep those that are its best."""
        from accelerate.utils import gather_object

        self.check()
        state, rank = self.state, self.accelerator.process_index
        mine = range(rank, len(state.seeds), self.accelerator.num_processes)
        found = [(k, *self._judged(k)) for k in mine]
        for k, record, told in sorted(gather_object(found), key=lambda f: f[0]):
            self._note(k, record | told)
        state.keep_best([records[-1]["score"] for records in state.history])

    def _judged(self, k: int) -> tuple[dict, dict]:
        # Means over pairs of the diagnosis of the k-th seed, and what `report` says.
        nets = self.state.model
        models = {pair: self.translator(nets, k, *pair) for pair in self.pairs}
        found = [
            diagnose(model, *(self.held[name] for name in pair))
            for pair, model in models.items()
        ]
        record = {
            name: statistics.fmean(getattr(one, name) for one in found) for name in TOLD
        }
        told = {} if self.report is None else {
            f"report {key}" if len(models) == 1 else f"report {pair[0]} {key}": value
            for pair, model in models.items()
            for key, value in self.report(model).items()
        }  # fmt: skip
        return record, told

    def translator(self, nets: Nets, k: int, source: str, target: str) -> Vec2Vec:
        """The translator of an ordered pair by the k-th copy of `nets`."""
        pair, seed = (source, target), self.state.seeds[k]
        views = self.views[source], self.views[target]
        glasses = self.state.players.glasses_of(target)
        back = read_out(views[1], self.preset, glasses, k)
        return Vec2Vec.of(nets, k, self.spaces, pair, views, back, seed)

    def beside(self, pair: tuple[str, str]) -> list[Diagnosis]:
        """The diagnosis of each seed's best nets, the other seeds' as its rivals."""
        state, sides = self.state, [self.held[name] for name in pair]
        models = [
            self.translator(state.best, k, *pair) for k in range(len(state.seeds))
        ]
        return [
            diagnose(model, *sides, other_seeds=models[:k] + models[k + 1 :])
            for k, model in enumerate(models)
        ]

    def save(self) -> None:
        """Write a checkpoint, if there is a folder, none of this step, nothing lost."""
        if self.saved == self.state.step:
            return
        self.check()
        if self.out is not None and self.main:
            about = {"hash": self.hash, **self.state.about()}
            if self.accelerator.scaler is not None:
                about["scaler"] = self.accelerator.scaler.state_dict()
            folder = self.out / CHECKPOINTS
            checkpoint.save(folder, self.state.step, self.state.tree(), about)
        self.saved = self.state.step
        self.accelerator.wait_for_everyone()

    def kept(self) -> str:
        """What is left of the run on the disk, in words."""
        found = checkpoint.checkpoints(self.out / CHECKPOINTS) if self.out else []
        return f"{found[-1]} is kept" if found else "nothing was saved"

    def _note(self, k: int, record: dict[str, float]) -> None:
        state = self.state
        state.history[k].append({"step": state.step, **record})
        if self.loop.tensorboard:
            told = {f"{name}/seed {state.seeds[k]}": v for name, v in record.items()}
            self.accelerator.log(told, step=state.step)
