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
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

import v2v_lite as v2v

# tyro reads the fields of these: this module is imported for `v2v train` alone.
from ..vec2vec import OURS, Preset, TrainerConfig
from ..vec2vec.initialise import CHECKPOINTS
from ..vec2vec.presets import OLD_FIELDS, OLD_PRESETS, from_dict, preset_named
from . import base
from .align import folder_name
from .streams import Result, echo, interactive

__all__ = ["Train", "defaults", "renamed"]

RUN = "run.json"  # what --resume needs to know beside the checkpoint


def is_number_or_null(value: Any) -> bool:
    """Whether a run's number of rows can be used."""
    return value is None or type(value) is int


# The words that a run was started with, as --resume finds them.
WORDS = {"source": str, "target": str, "seeds": int, "seed": int, "device": str,
         "n_train": is_number_or_null}  # fmt: skip


@dataclass(frozen=True)
class Train(base.Command):
    """Train vec2vec between two spaces without any pair; save the best, checkpoints."""

    # Bundled name (minilm, granite, arctic, wordllama), .safetensors or .npy.
    source: base.Source
    # The same for the space to translate into, the known one.
    target: base.Target
    config: Annotated[Preset, tyro.conf.arg(name="")]
    trainer: TrainerConfig
    # paper (the paper's text), released (its code) or ours.
    preset: str = OURS.name
    # Folder to save into (default: runs/SOURCE-TARGET-PRESET).
    out: base.OptionalPath = None
    # Folder of a run to go on with; it knows all the rest.
    resume: base.OptionalPath = None
    # Number of seeds, trained as one program; the best is picked without pairs.
    seeds: int = 1
    # The first seed.
    seed: int = 0
    # Rows a side (default: all).
    n_train: base.Int = None
    # cpu, cuda or auto.
    device: str = "auto"
    # Overwrite the run, or another pair's translator, that the folder holds.
    force: base.Flag = False

    def run(self) -> Result:
        words = self.source, self.target
        name = v2v.spaces.safe_name(self.config.name)
        out = self.resume or self.out or Path("runs", folder_name(*words, name))
        base.ensure_writable(out, *words)
        sides = base.load_pair(*words, self.n_train)
        main = os.environ.get("RANK", "0") == "0"  # or the first of several processes
        if main and self.resume is None:
            base.keep_results(out, base.identities(sides[:2], words), self.force)
            self._prepare(out)
        names = [side.name for side in sides[:2]]
        names = names if names[0] != names[1] else ["source", "target"]
        found = v2v.vec2vec.train(
            dict(zip(names, sides[:2], strict=True)), self.config, seeds=self.seeds,
            seed=self.seed, out=out, config=self.trainer,
            held_out=dict(zip(names, sides[2:], strict=True)),
            resume=self.resume is not None, progress=interactive(), device=self.device,
        )  # fmt: skip
        diagnosis = found.diagnoses[found.best][0]
        result = {
            "out": out, "preset": self.config.name, "source": self.source,
            "target": self.target, "seed": found.seeds[found.best],
            "step": found.steps[found.best], "diagnosis": diagnosis.as_dict(),
            "seeds": dict(zip(found.seeds, found.scores, strict=True)),
            "summary": found.summary(),
        }  # fmt: skip
        line = f"{out}: vec2vec {self.config.name}, seed {result['seed']}"
        line += f", its networks of step {result['step']}"
        if len(found.seeds) > 1:
            line += f", the best of {len(found.seeds)} by the diagnosis"
        return Result(result, [line, diagnosis.line()])

    def _prepare(self, out: Path) -> None:
        if self.force:
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        words = {name: getattr(self, name) for name in WORDS}
        kept = {"preset": asdict(self.config), "trainer": asdict(self.trainer)}
        v2v.spaces.write_json(out / RUN, {"words": words, **kept})


@dataclass(frozen=True)
class _Start:
    # The two options that say where all others start from.
    preset: str = OURS.name
    resume: Path | None = None


def defaults(words: Sequence[str]) -> Train:
    """`Train` with the fields of the preset, or of the run, that the words name."""
    start = _Start()
    with suppress(SystemExit):  # a word without its value: reading all words says so
        start = tyro.cli(
            _Start, args=words, return_unknown_args=True, add_help=False,
            console_outputs=False,
        )[0]  # fmt: skip
    if start.resume is None:
        name = OLD_PRESETS.get(start.preset, start.preset)
        if name != start.preset:
            echo(f"preset {start.preset} is now {name}")
        config, missing = preset_named(name), tyro.MISSING
        return Train(missing, missing, config, TrainerConfig(), name)
    schema = {"words": WORDS, "preset": dict, "trainer?": dict, "loop?": dict}
    kept = v2v.spaces.read_header(start.resume / RUN, schema)
    config = from_dict(Preset, kept["preset"])
    trainer = from_dict(TrainerConfig, kept.get("trainer", kept.get("loop", {})))
    own = {name: kept["words"][name] for name in WORDS}
    own |= {"preset": config.name, "resume": start.resume}
    return Train(config=config, trainer=trainer, **own)


def renamed(option: str) -> str | None:
    """What an option of version 0.1 is called now; None if it has no other name.

    >>> renamed("--game.kind"), renamed("--loss.no-squared=1"), renamed("--net.norm")
    ('--adversarial.game', '--loss.mse-sum', None)
    """
    path = option.partition("=")[0].removeprefix("--").replace("-", "_").split(".")
    old, new = [name.removeprefix("no_") for name in path], []
    node: Any = TrainerConfig() if path[0] in ("loop", "trainer") else OURS
    if isinstance(node, TrainerConfig):
        new.append("trainer")
    for name in old[len(new) :]:
        known = getattr(node, "__dataclass_fields__", {})
        name = name if name in known else OLD_FIELDS.get(name, "")
        if name not in known:
            return None
        new.append(name)
        node = getattr(node, name)
    return None if new == old else "--" + ".".join(new).replace("_", "-")
