"""`v2v train`: vec2vec by a preset of which every field is an option.

One GPU, or none, needs no more than this command. Several processes share each step's
batch:

    accelerate launch --multi_gpu --num_processes 8 --module v2v_lite train ...
    accelerate launch --multi_gpu --num_machines 2 --machine_rank 0 \
        --main_process_ip ... --num_processes 16 --module v2v_lite train ...

Without a GPU the first line makes processes on the CPU, for a trial. Not so `--cpu
--num_processes 2`: Accelerate 1.15 makes one process of it, and does not say so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

import v2v_lite as v2v

# tyro reads the fields of these: this module is imported for `v2v train` alone.
from ..vec2vec import OURS, Preset, TrainerConfig
from ..vec2vec.initialise import CHECKPOINTS, saved_steps
from ..vec2vec.presets import OLD_FIELDS, OLD_PRESETS, from_dict, preset_named
from . import base, unseen
from .align import Fit

RUN = "run.json"  # what --resume needs to know beside the checkpoint


def is_number_or_null(value: Any) -> bool:
    """Whether a run's number of rows can be used."""
    return value is None or type(value) is int


def is_two_files_or_null(value: Any) -> bool:
    """Whether a run's files of pairs can be used."""
    two = isinstance(value, list) and len(value) == 2
    return value is None or (two and all(isinstance(one, str) for one in value))


# The words that a run was started with, as --resume finds them.
WORDS = {"source": str, "target": str, "seeds": int, "seed": int, "device": str,
         "n_train": is_number_or_null, "drop_bad?": bool,
         "pairs?": is_two_files_or_null}  # fmt: skip
NAMES = [name.rstrip("?") for name in WORDS]


@dataclass(frozen=True, kw_only=True)
class Start:
    """The two options that say where all others start from."""

    # paper (the paper's text), released (its code) or ours.
    preset: str = OURS.name
    # Folder of a run to go on with; it knows all the rest.
    resume: base.OptionalPath = None


@dataclass(frozen=True, kw_only=True)
class Brief(Start, Fit):
    """Train vec2vec between two spaces without any pair; save the best, checkpoints.

    Each field of a preset is an option, too: --optim.steps, --optim.batch-size,
    --optim.lr, --init, --adversarial.game, --loss.cycle-weight and so on, and so are
    --trainer.eval-every and the like. --help-all lists them with the preset's values.
    """


@dataclass(frozen=True, kw_only=True)
class Train(Brief):
    """Train vec2vec between two spaces without any pair; save the best, checkpoints."""

    config: Annotated[Preset, tyro.conf.arg(name="")] = OURS
    # When to log, evaluate, save and stop.
    trainer: TrainerConfig = TrainerConfig()  # frozen, so that it can be shared

    def run(self) -> base.Result:
        name = v2v.spaces.safe_name(self.config.name)
        out = self.folder(self.resume or self.out, name)
        sides = self.sides()
        main = os.environ.get("RANK", "0") == "0"  # or the first of several processes
        with v2v.spaces.locked(out) if main else nullcontext():
            if main and self.resume is None:
                self.keep_results(out, self.pair(*sides[:2]))
                if self.force:
                    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
                words = {name: getattr(self, name) for name in NAMES}
                kept = {"preset": asdict(self.config), "trainer": asdict(self.trainer)}
                v2v.spaces.write_json(out / RUN, {"words": words, **kept})
            if main:
                unseen.keep_rows(out, (self.source, self.target), *sides[:2])
            return self._train(out, sides)

    def _train(self, out: Path, sides: list[v2v.spaces.Space]) -> base.Result:
        names = [side.name for side in sides[:2]]
        names, known = names if names[0] != names[1] else ["source", "target"], {}
        if self.pairs is not None:
            sides[:2], places = unseen.with_pairs(sides[:2], self.pairs)
            some = (side.take(at) for side, at in zip(sides[:2], places, strict=True))
            known = dict(zip(names, some, strict=True))

        alone = "RANK" not in os.environ  # or all processes would have to change

        def trained(device: str) -> v2v.vec2vec.TrainResult:
            full = alone and saved_steps(out)  # left by this run on a GPU too small
            return v2v.vec2vec.train(
                dict(zip(names, sides[:2], strict=True)), self.config, seeds=self.seeds,
                seed=self.seed, out=out, config=self.trainer, device=device,
                held_out=dict(zip(names, sides[2:], strict=True)),
                resume=bool(self.resume or full), progress=base.interactive(),
                pairs=known,
            )  # fmt: skip

        device = self.device
        found = base.on_device(device, trained) if alone else trained(device)
        return self.result(
            f"vec2vec {self.config.name}", found.diagnoses[found.best][0], out=out,
            preset=self.config.name, step=found.steps[found.best],
            source=self.source, target=self.target, seed=found.seeds[found.best],
            seeds=dict(zip(found.seeds, found.scores, strict=True)),
            summary=found.summary(),
        )  # fmt: skip


def defaults(words: Sequence[str]) -> Train:
    """`Train` with the fields of the preset, or of the run, that the words name.

    Raises UsageError for options of version 0.1.
    """
    for word in words:
        if word.startswith("--") and (now := renamed(word)):
            raise base.UsageError(f"{word.partition('=')[0]} is now {now}")
    start = Start()
    quiet: Any = {"add_help": False, "console_outputs": False}
    with suppress(SystemExit):  # a word without its value: reading all words says so
        start, _ = tyro.cli(Start, args=words, return_unknown_args=True, **quiet)
    if start.resume is None:
        name = OLD_PRESETS.get(start.preset, start.preset)
        if name != start.preset:
            base.echo(f"preset {start.preset} is now {name}")
        config, none = preset_named(name), tyro.MISSING
        return Train(source=none, target=none, config=config, preset=name)
    schema = {"words": WORDS, "preset": dict, "trainer?": dict, "loop?": dict}
    kept = v2v.spaces.read_header(start.resume / RUN, schema)
    config = from_dict(Preset, kept["preset"])
    trainer = from_dict(TrainerConfig, kept.get("trainer", kept.get("loop", {})))
    own = {name: kept["words"][name] for name in NAMES if name in kept["words"]}
    # As `auto` it goes on where there is no GPU, too; a file's list is a tuple here.
    own["device"] = "cpu" if own["device"] == "cpu" else "auto"
    own["pairs"] = tuple(own["pairs"]) if own.get("pairs") else None
    own |= {"preset": config.name, "resume": start.resume}
    return Train(config=config, trainer=trainer, **own)


def renamed(option: str) -> str | None:
    """What an option of version 0.1 is called now; None if it has no other name.

    >>> renamed("--game.kind"), renamed("--loss.no-squared=1"), renamed("--net.norm")
    ('--adversarial.game', '--loss.mse-sum', None)
    """
    path = option.partition("=")[0].replace("-", "_").removeprefix("__").split(".")
    old, new = [name.removeprefix("no_") for name in path], []
    known: dict[str, Any] = {**vars(OURS), "trainer": TrainerConfig()}
    for name in old:
        name = name if name in known else OLD_FIELDS.get(name, "")
        if name not in known:
            return None
        new.append(name)
        known = getattr(known[name], "__dict__", {})
    return None if new == old else "--" + ".".join(new).replace("_", "-")
