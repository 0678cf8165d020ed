"""Training: one loop, many seeds, any number of processes.

    result = train({"minilm": x, "granite": y}, "ours", seeds=3, out="runs/a")
    result.translator().translate(rows)

`Trainer.step` prepares a batch and calls `step.train_step`. Nothing in a step waits for
the device: rows lie there and are drawn there, losses are summed there and read at the
logging interval, when a loss that is not finite comes to light, too. Which weights are
kept, which seed is chosen and when to stop early is decided by `align.diagnose` on rows
held out, which needs no pair (chapter 11).

Several processes (`accelerate launch`) divide each step's batch among them, so that a
preset means the same on one GPU as on eight. Their gradients are averaged: those of the
whole batch, except for losses that compare rows (Gram matrices, MMD, batch norm, the
relativistic game), which see the rows of one process.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..align.diagnosis import Diagnosis, diagnose
from ..align.sinkhorn import reduced_precision_matmul
from ..spaces.files import ConfigError, write_json
from ..spaces.space import Space
from . import checkpoint, distributed, initialise, step
from .config import OURS, Preset, TrainerConfig
from .initialise import Maps, Saved, initial_maps
from .nets import Nets
from .result import PairTranslator, SpaceStats, TrainResult, output_matrices
from .state import TrainingDiverged, TrainState, fingerprint
from .step import Batch, Engine, Losses

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Trainer", "train"]

HISTORY = "history.json"
SCORES = ("score", "density", "anchor", "closeness", "cycle", "csls")
Report = Callable[[PairTranslator], dict[str, float]]


def train(
    spaces: dict[str, Space], preset: Preset | str | None = None, *,
    seeds: int | None = None, seed: int = 0, out: str | os.PathLike[str] | None = None,
    config: TrainerConfig | None = None, held_out: dict[str, Space] | None = None,
    resume: bool = False, report: Report | None = None, progress: bool = False,
    device: str = "auto",
) -> TrainResult:  # fmt: skip
    """Train nets of the seeds `seed`, `seed + 1`, ... between unpaired spaces.

    Args:
        spaces: two or more by name, the known one last.
        preset: a Preset or the name of one (OURS).
        seeds: how many to train as one program (1).
        out: folder for checkpoints and, at the end, the best translator and history.
        held_out: rows of each space that no step sees (taken by `hold_out`).
        resume: continue the newest checkpoint in `out`, bit for bit on a CPU; preset
            and seeds are then its own.
        report: numbers of a translator, from pairs perhaps, that go into the history
            and decide nothing.

    Raises DataError for bad input, ConfigError for bad settings, TrainingDiverged for a
    loss that is not finite, Interrupted on SIGINT or SIGTERM, once the state is saved.
    """
    folder = None if out is None else Path(out)
    saved = initialise.load_saved(folder, resume)
    preset, numbers = initialise.settle(preset, seeds, seed, saved)
    spaces, held_out = initialise.split(spaces, held_out, preset)
    trainer = Trainer(
        spaces, preset, seeds=numbers, held_out=held_out, config=config, out=folder,
        report=report, device=device, progress=progress, saved=saved,
    )  # fmt: skip
    trainer.run(progress)
    result = trainer.result()
    if folder is not None and trainer.is_main:
        write_json(folder / HISTORY, result.as_dict())
        result.translator().save(folder)
    return result


class Trainer(Engine):
    """A training on its device: rows, networks, optimisers, evaluation, checkpoints.

    `train` makes one and calls `run`. To take single steps, from maps at hand:

        trainer = Trainer(spaces, preset, seeds=(0, 1), initial_maps={("a", "b"): maps})
        losses = trainer.step()  # {name: (2,)}
        trainer.nets.translate("a", "b", rows)  # the EMA weights, if the preset has any

    `initial_maps` are `(S, d_s, d_t)` per pair (source, last space), between rows as
    the nets see them; they replace those that `preset.init` would find.
    """

    def __init__(
        self, spaces: dict[str, Space], preset: Preset = OURS, *,
        seeds: tuple[int, ...] = (0,), held_out: dict[str, Space] | None = None,
        config: TrainerConfig | None = None, initial_maps: Maps | None = None,
        out: Path | None = None, report: Report | None = None, device: str = "auto",
        progress: bool = False, saved: Saved | None = None,
    ) -> None:  # fmt: skip
        initialise.check_spaces(spaces, preset)
        self.preset, self.config = preset, config or TrainerConfig()
        self.out, self.report = out, report
        self.accelerator = distributed.build_accelerator(
            preset.optim.precision, device, out if self.config.tensorboard else None
        )
        self.device = self.accelerator.device
        self.accumulation = self.config.grad_accumulation
        self.micro_batch_size = self._micro_batch_size()
        self.hash = fingerprint([*spaces.items(), *(held_out or {}).items()])
        self.stats = {k: SpaceStats.of(s.to("cpu"), preset) for k, s in spaces.items()}
        self.spaces = {name: space.to(self.device) for name, space in spaces.items()}
        self.held_out = {
            name: replace(space.to(self.device), mean=self.spaces[name].mean)
            for name, space in (held_out or {}).items()
        }
        *sources, target = spaces
        self.pairs = [(name, target) for name in sources]
        if saved:
            initialise.check_same_data(saved[1], self.spaces, self.hash)
        elif initial_maps is None:
            initial_maps = self._find_maps(seeds, progress)
        self._build(seeds, initial_maps or {}, saved)

    def _micro_batch_size(self) -> int:
        # Rows of a space per forward pass of this process.
        count, size = self.accelerator.num_processes, self.preset.optim.batch_size
        parts = count * self.accumulation
        if size % parts or size // parts < 2:
            raise ConfigError(
                f"optim.batch_size = {size} does not divide, by 2 rows or more, into "
                f"{count} processes' {self.accumulation} micro-batches; choose a "
                f"multiple of {parts}"
            )
        return size // parts

    def _find_maps(self, seeds: tuple[int, ...], progress: bool) -> Maps:
        # Found once, by the main process, and handed to the others.
        from accelerate.utils import broadcast_object_list

        found: list[Maps] = [{}]
        if self.is_main:
            rows, stats = self.spaces, self.stats
            found = [initial_maps(rows, stats, self.preset, seeds, progress)]
        return broadcast_object_list(found)[0]

    def _build(self, seeds: tuple[int, ...], maps: Maps, saved: Saved | None) -> None:
        preset, stats, prepare = self.preset, self.stats, self.accelerator.prepare
        widths = {name: space.d for name, space in self.spaces.items()}
        whitenings = {name: one.whitening for name, one in stats.items()}
        self.state = TrainState(widths, preset, seeds, self.device, maps, whitenings)
        self.last_saved = -1  # the step of the last checkpoint
        if saved:
            self.state.restore(*saved)
            self.last_saved = self.state.step
            if self.accelerator.scaler is not None and "scaler" in saved[1]:
                self.accelerator.scaler.load_state_dict(saved[1]["scaler"])
        self.optimisers = {k: prepare(v) for k, v in self.state.optimisers.items()}
        rows = {k: stats[k].transform(s.vectors) for k, s in self.spaces.items()}
        self.batches = step.Batches(rows, seeds, preset.optim.batch_size)
        networks = self.state.networks
        for name, one in stats.items():
            matrix = output_matrices(one, preset, networks.filter_of(name))
            stats[name] = replace(one, output_matrix=matrix)
        if self.config.compile:
            nets = networks.nets
            layers = [one.layers for one in networks.discriminators()]
            for module in (*nets.inputs, nets.backbone, *nets.outputs, *layers):
                module.compile()
        if self.config.tensorboard:
            self.accelerator.init_trackers("tensorboard")

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return bool(self.accelerator.is_main_process)

    @property
    def nets(self) -> Nets:
        """The nets to evaluate: the moving average where one is kept."""
        return self.state.nets

    # ---- one step

    def step(self) -> Losses:
        """Draw a batch and make one `train_step`; the losses `{name: (S,)}`."""
        state, optim = self.state, self.preset.optim
        step.set_learning_rates(self.optimisers, optim, state.step)
        state.networks.set_progress(state.step / optim.steps)
        size = self.micro_batch_size * self.accumulation
        first = self.accelerator.process_index * size
        batch = self.batches.at(state.step, slice(first, first + size))
        losses = step.train_step(
            state.networks, self.optimisers, batch, self.preset, self
        )
        if self.accelerator.num_processes > 1:
            distributed.average_buffers(self.accelerator, state.networks.nets)
        state.step += 1
        if state.ema is not None:
            step.update_ema(state.ema, state.networks.nets, optim.ema_decay, state.step)
        return losses

    def micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """Parts of this process's rows. Noise and dropout depend on seeds, step and
        part alone, so that a second pass and a resumed run repeat them."""
        size, state = self.micro_batch_size, self.state
        first = self.accelerator.process_index * size * self.accumulation
        for at in range(0, size * self.accumulation, size):
            seed = step.derive_seed(*state.seeds, state.step, first + at)
            torch.manual_seed(seed)
            yield {name: rows[:, at : at + size] for name, rows in batch.items()}

    def autocast(self) -> AbstractContextManager:
        """Mixed precision, on a GPU."""
        return self.accelerator.autocast()

    def backward(self, loss: Tensor) -> None:
        """As in `Engine`, with the loss scaled where precision needs it."""
        self.accelerator.backward(loss / self.accumulation)

    def update(
        self, optimiser: torch.optim.Optimizer, weights: list[nn.Parameter], clip: float
    ) -> None:
        """As in `Engine`, by the gradients of all processes."""
        if self.accelerator.num_processes > 1:
            distributed.average_gradients(self.accelerator, weights)
        if clip:
            self.accelerator.unscale_gradients(optimiser)
            step.clip_by_seed(weights, clip)
        optimiser.step()
        optimiser.zero_grad()

    # ---- the loop

    def run(self, progress: bool = False) -> None:
        """Step until the last step or early stopping: log, evaluate, save between."""
        state, every, steps = self.state, self.config, self.preset.optim.steps
        patience = every.patience or math.inf
        with self._context(progress) as bar, distributed.StopSignal() as stop:
            if state.step == 0:
                self.evaluate()
                self.save()
            while state.step < steps and patience > state.evals_without_improvement:
                losses = self.step()
                state.meter.add(state.step, losses)
                bar.update()
                last = state.step == steps
                if last or state.step % every.log_every == 0:
                    bar.set_postfix(self.log_losses())
                if last or state.step % every.eval_every == 0:
                    self.evaluate()
                if last or state.step % every.checkpoint_every == 0:
                    self.save()
                if stop.agreed(self.accelerator, state.step, every.log_every):
                    self.save()
                    raise distributed.Interrupted(
                        f"stopped by {stop.asked or 'a signal'} after step "
                        f"{state.step}; {self._kept()}"
                    )
            self.save()

    @contextmanager
    def _context(self, progress: bool) -> Iterator[tqdm]:
        """Progress bar, forked generators, reduced matmul precision if set; closes the
        trackers."""
        from tqdm.auto import tqdm

        devices = [] if self.device.type == "cpu" else [self.device]
        optim, quiet = self.preset.optim, not (progress and self.is_main)
        reduced = optim.matmul_precision == "medium"
        bar = {"total": optim.steps, "initial": self.state.step, "disable": quiet}
        try:
            with (
                torch.random.fork_rng(devices),
                reduced_precision_matmul() if reduced else nullcontext(),
                tqdm(desc="train", **bar) as shown,
            ):
                yield shown
        finally:
            # Not end_training: it would end the processes' group for a second run too.
            for tracker in self.accelerator.trackers:
                tracker.finish()

    def log_losses(self) -> dict[str, float]:
        """Write the mean losses since the last call into the history.

        Raises TrainingDiverged where one was not finite. Returns the totals' means over
        seeds.
        """
        self.check_finite()
        state = self.state
        sums = state.meter.values["sums"]
        sums.copy_(self.accelerator.reduce(sums, "mean"))
        means = state.meter.means()
        for k, losses in enumerate(means):
            self._log(k, losses)
        totals = [name for name in ("generator", "discriminator") if name in means[0]]
        return {
            name: statistics.fmean(losses[name] for losses in means) for name in totals
        }

    def check_finite(self) -> None:
        """Raise TrainingDiverged if a loss was, or a weight is, not finite."""
        state = self.state
        if state.meter.values:
            bad = self.accelerator.gather(state.meter.values["bad"][None])
            state.meter.values["bad"] = bad.amax(dim=0)
        found = state.meter.first_bad()
        if found is None:
            weights = [w.flatten(1) for w in state.networks.nets.parameters()]
            whole = torch.stack([w.isfinite().all(dim=1) for w in weights]).all(dim=0)
            lost = (~whole).nonzero().flatten().tolist()
            found = (state.step, "of the next step", lost[0]) if lost else None
        if found is not None:
            at, name, k = found
            raise TrainingDiverged(
                f"step {at}: the loss {name!r} of seed {state.seeds[k]} is not "
                f"finite; {self._kept()}. Lower optim.lr or optim.d_lr, set "
                "optim.grad_clip, or use precision 'no' or 'bf16'"
            )

    # ---- evaluation without pairs

    def evaluate(self) -> None:
        """Diagnose each seed's nets without pairs, and keep those that are its best."""
        from accelerate.utils import gather_object

        self.check_finite()
        state, rank = self.state, self.accelerator.process_index
        mine = range(rank, len(state.seeds), self.accelerator.num_processes)
        found = [(k, self._evaluate_seed(k)) for k in mine]
        for k, record in sorted(gather_object(found), key=lambda f: f[0]):
            self._log(k, record)
        state.keep_best([records[-1]["score"] for records in state.history])

    def _evaluate_seed(self, k: int) -> dict[str, float]:
        # Means over pairs of the diagnosis of the k-th seed, and what `report` says.
        found: list[Diagnosis] = []
        record: dict[str, float] = {}
        for pair in self.pairs:
            model = self.translator(self.nets, k, *pair)
            found.append(diagnose(model, *(self.held_out[name] for name in pair)))
            if self.report:
                of = "report" if len(self.pairs) == 1 else f"report {pair[0]}"
                record |= {f"{of} {key}": v for key, v in self.report(model).items()}
        mean = {k: statistics.fmean(getattr(d, k) for d in found) for k in SCORES}
        return mean | record

    def translator(
        self, nets: Nets, k: int, source: str, target: str
    ) -> PairTranslator:
        """The translator of an ordered pair by the k-th copy of `nets`."""
        pair, seed = (source, target), self.state.seeds[k]
        return PairTranslator.of(nets, k, self.stats, pair, seed)

    def result(self) -> TrainResult:
        """What was learned so far: best nets, their diagnoses, history; no rows."""
        state, count = self.state, len(self.state.seeds)
        rows = []
        for pair in self.pairs:  # each seed's best nets, with cross-seed agreement
            sides = [self.held_out[name] for name in pair]
            models = [self.translator(state.best, k, *pair) for k in range(count)]
            rows.append(
                [
                    diagnose(model, *sides, other_seeds=models[:k] + models[k + 1 :])
                    for k, model in enumerate(models)
                ]
            )
        diagnoses = tuple(zip(*rows, strict=True))
        scores = tuple(statistics.fmean(d.score for d in row) for row in diagnoses)
        return TrainResult(
            self.preset, state.seeds, scores, max(range(count), key=scores.__getitem__),
            tuple(state.best_steps), diagnoses, tuple(state.history), state.best,
            self.stats,
        )  # fmt: skip

    # ---- files

    def save(self) -> None:
        """Write a checkpoint, unless there is no folder or one of this step."""
        if self.last_saved == self.state.step:
            return
        self.check_finite()
        if self.out is not None and self.is_main:
            header = {"hash": self.hash, **self.state.header()}
            if self.accelerator.scaler is not None:
                header["scaler"] = self.accelerator.scaler.state_dict()
            folder = self.out / initialise.CHECKPOINTS
            checkpoint.save(folder, self.state.step, self.state.tensors(), header)
        self.last_saved = self.state.step
        self.accelerator.wait_for_everyone()

    def _kept(self) -> str:
        """What of the run is on the disk, in words."""
        found = initialise.saved_steps(self.out)
        return f"{found[-1]} is kept" if found else "nothing was saved"

    def _log(self, k: int, record: dict[str, float]) -> None:
        state = self.state
        state.history[k].append({"step": state.step, **record})
        if self.config.tensorboard:
            named = {f"{name}/seed {state.seeds[k]}": v for name, v in record.items()}
            self.accelerator.log(named, step=state.step)
