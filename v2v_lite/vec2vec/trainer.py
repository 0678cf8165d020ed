"""Training: one loop, many seeds, any number of processes.

    result = train({"minilm": x, "granite": y}, "ours", seeds=3, out="runs/a")
    result.translator().translate(rows)

Nothing in a step waits for the device: rows lie there and are drawn there, losses are
summed there and read at the logging interval, when a loss that is not finite comes to
light, too. Which weights are kept, which seed is chosen and when to stop early is
decided by `align.diagnose` on rows held out, which needs no pair (chapter 11).

Several processes (`accelerate launch`) divide each step's batch among them, so that
eight GPUs see as many rows per step as one. Their gradients are averaged. For losses
that are means over rows that is the gradient of the whole batch; it is not for whatever
looks across rows (Gram matrices in VSP, the density game and MMD, batch norm), because
each process compares its own rows only. OURS is made of such losses.
"""

from __future__ import annotations

import math
import os
import statistics
from dataclasses import replace
from pathlib import Path

import torch

from ..spaces.files import write_json
from ..spaces.space import Space
from . import checkpoint, distributed, initialise, maps, result
from .batches import Batches
from .config import Preset, TrainerConfig
from .initialise import Saved
from .known import check_pairs, known_at, start_from_pairs
from .nets import Nets
from .optim import set_learning_rates
from .presets import OURS
from .result import PairTranslator, Report, SpaceStats, TrainResult
from .state import TrainingDiverged, TrainState
from .step import Losses, train_step

HISTORY = "history.json"


def train(
    spaces: dict[str, Space], preset: Preset | str | None = None, *,
    seeds: int | None = None, seed: int = 0, out: str | os.PathLike[str] | None = None,
    config: TrainerConfig | None = None, held_out: dict[str, Space] | None = None,
    resume: bool = False, report: Report | None = None, progress: bool = False,
    device: str = "auto", pairs: dict[str, Space] | None = None,
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
        pairs: of two spaces, rows of which row i of both is known to be one text.

    Raises DataError for bad input, ConfigError for bad settings, TrainingDiverged for a
    loss that is not finite, Interrupted on SIGINT or SIGTERM, once the state is saved.
    """
    folder = None if out is None else Path(out)
    saved = initialise.load_saved(folder, resume)
    preset, numbers = initialise.settle(preset, seeds, seed, saved)
    spaces, held_out = initialise.split(spaces, held_out, preset)
    trainer = Trainer(
        spaces, preset, seeds=numbers, held_out=held_out, config=config, out=folder,
        report=report, device=device, progress=progress, saved=saved, pairs=pairs,
    )  # fmt: skip
    trainer.run(progress)
    found = trainer.result()
    if folder is not None and trainer.is_main:
        write_json(folder / HISTORY, found.as_dict())
        found.translator().save(folder)
    return found


class Trainer:
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
        config: TrainerConfig | None = None, initial_maps: maps.Maps | None = None,
        out: Path | None = None, report: Report | None = None, device: str = "auto",
        progress: bool = False, saved: Saved | None = None,
        pairs: dict[str, Space] | None = None,
    ) -> None:  # fmt: skip
        initialise.check_spaces(spaces, preset)
        check_pairs(spaces, pairs := pairs or {})
        self.preset, self.config = preset, config or TrainerConfig()
        self.out, self.report = out, report
        options = preset.optim, self.config, device, out
        self.engine = distributed.AcceleratedEngine(*options)
        self.accelerator = self.engine.accelerator
        self.device = self.accelerator.device
        self.is_main = self.accelerator.is_main_process  # it writes and shows progress
        seen = spaces, held_out or {}, pairs
        self.data = initialise.sketch([one for side in seen for one in side.items()])
        self.stats = {k: SpaceStats.of(s.to("cpu"), preset) for k, s in spaces.items()}
        self.spaces = {name: space.to(self.device) for name, space in spaces.items()}
        self.held_out = {
            name: replace(space.to(self.device), mean=self.spaces[name].mean)
            for name, space in (held_out or {}).items()
        }
        *sources, target = spaces
        self.pairs = [(name, target) for name in sources]
        rows = {k: s.vectors.to(self.device) for k, s in pairs.items()}
        self.known = {k: self.stats[k].transform(x) for k, x in rows.items()}
        whitenings = {name: one.whitening for name, one in self.stats.items()}
        if saved:
            initialise.check_same_data(saved, self.spaces, self.data)
        elif initial_maps is None:
            sides, find = (self.spaces, whitenings), maps.initial_maps
            initial_maps = self.engine.once(find, *sides, preset, seeds, progress)
            initial_maps = start_from_pairs(initial_maps, self.known, preset)
        widths = {name: space.d for name, space in self.spaces.items()}
        given = self.device, initial_maps or {}, whitenings
        self.state = TrainState(widths, preset, seeds, *given)
        rows = {k: self.stats[k].transform(s.vectors) for k, s in self.spaces.items()}
        self.batches = Batches(rows, seeds, preset.optim.batch_size)
        self._prepare(saved)

    def _prepare(self, saved: Saved | None) -> None:
        state, accelerator, networks = self.state, self.accelerator, self.state.networks
        self.last_saved = -1  # the step of the last checkpoint
        if saved:
            state.restore(*saved)
            self.last_saved = state.step
            if accelerator.scaler is not None and saved[1].get("scaler"):
                accelerator.scaler.load_state_dict(saved[1]["scaler"])
        prepare = accelerator.prepare
        self.optimisers = {k: prepare(v) for k, v in state.optimisers.items()}
        for name, one in self.stats.items():
            matrix = result.output_matrices(one, self.preset, networks.filter_of(name))
            self.stats[name] = replace(one, output_matrix=matrix)
        if self.config.compile:
            # All blocks share their code: of torch's 8 variants there are more, and
            # what comes after them would silently run uncompiled.
            torch._dynamo.config.cache_size_limit = 64
            nets = networks.nets
            layers = [one.layers for one in networks.discriminators()]
            for module in (*nets.inputs, nets.backbone, *nets.outputs, *layers):
                module.compile()
        if self.config.tensorboard:
            accelerator.init_trackers("tensorboard")

    @property
    def nets(self) -> Nets:
        """The nets to evaluate: the moving average where one is kept."""
        return self.state.nets

    # ---- one step

    def step(self) -> Losses:
        """Draw a batch and make one `train_step`; the losses `{name: (S,)}`."""
        state, engine, optim = self.state, self.engine, self.preset.optim
        set_learning_rates(self.optimisers, optim, state.step)
        state.networks.set_progress(state.step / optim.steps)
        engine.numbers = *state.seeds, state.step
        batch = self.batches.at(state.step, engine.rows)
        pairs = known_at(self.known, state.step, optim.batch_size, len(state.seeds))
        nets, optimisers = state.networks, self.optimisers
        losses = train_step(nets, optimisers, batch, self.preset, engine, pairs)
        engine.average_buffers(state.networks.nets)
        state.step += 1
        state.update_ema()
        return losses

    # ---- the loop

    def run(self, progress: bool = False) -> None:
        """Step until the last step or early stopping: log, evaluate, save between."""
        state, every, steps = self.state, self.config, self.preset.optim.steps
        patience = every.patience or math.inf
        around = self.engine.around_loop(state.step, progress and self.is_main)
        with around as bar, distributed.StopSignal() as stop:
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
                    at = f"by {stop.asked or 'a signal'} after step {state.step}"
                    raise distributed.Interrupted(f"stopped {at}; {self._kept()}")
            self.save()

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
        return {k: statistics.fmean(losses[k] for losses in means) for k in totals}

    def check_finite(self) -> None:
        """Raise TrainingDiverged if a loss was, or a weight is, not finite."""
        state = self.state
        if state.meter.values:
            bad = self.accelerator.gather(state.meter.values["bad"][None])
            state.meter.values["bad"] = bad.amax(dim=0)
        if found := state.first_bad():
            at, name, k = found
            fact = f"the loss {name!r} of seed {state.seeds[k]} is not finite"
            mend = "Lower optim.lr or optim.d_lr, set optim.grad_clip, or use precision"
            kept = f"{self._kept()}. {mend} 'no' or 'bf16'"
            raise TrainingDiverged(f"step {at}: {fact}; {kept}")

    # ---- evaluation without pairs

    def evaluate(self) -> None:
        """Diagnose each seed's nets without pairs, and keep those that are its best."""
        from accelerate.utils import gather_object

        self.check_finite()
        state, rank = self.state, self.accelerator.process_index
        mine = range(rank, len(state.seeds), self.accelerator.num_processes)
        found = []
        for k in mine:
            models = {pair: self.translator(self.nets, k, *pair) for pair in self.pairs}
            found.append((k, result.evaluate(models, self.held_out, self.report)))
        for k, record in sorted(gather_object(found), key=lambda f: f[0]):
            self._log(k, record)
        state.keep_best([records[-1]["score"] for records in state.history])

    def translator(
        self, nets: Nets, k: int, source: str, target: str
    ) -> PairTranslator:
        """The translator of an ordered pair by the k-th copy of `nets`."""
        pair, seed = (source, target), self.state.seeds[k]
        return PairTranslator.of(nets, k, self.stats, pair, seed)

    def result(self) -> TrainResult:
        """What was learned so far: best nets, their diagnoses, history; no rows."""
        return TrainResult.of(self.state, self.stats, self.held_out)

    # ---- files

    def save(self) -> None:
        """Write a checkpoint, unless there is no folder or one of this step."""
        if self.last_saved == self.state.step:
            return
        self.check_finite()
        if self.out is not None and self.is_main:
            header = {"data": self.data, **self.state.header()}
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
