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
from typing import Annotated

import tyro

import v2v_lite as v2v

# tyro reads the fields of these: this module is imported for `v2v train` alone.
from ..vec2vec.machine import Loop
from ..vec2vec.presets import Preset
from ..vec2vec.state import preset_named, preset_of
from . import base
from .align import folder_name
from .streams import Result, interactive

__all__ = ["Train", "defaults"]

RUN = "run.json"  # what --resume needs to know beside the checkpoint
KEPT = ("source", "target", "preset", "seeds", "seed", "n_train", "device")
PRESET = "sound"


@dataclass(frozen=True)
class Train(base.Command):
    """Train vec2vec between two spaces without any pair; save the best, checkpoints."""

    # Bundled name (minilm, granite, arctic, wordllama), .safetensors or .npy.
    source: base.Source
    # The same for the space to translate into, the known one.
    target: base.Target
    config: Annotated[Preset, tyro.conf.arg(name="")]
    loop: Loop
    # printed (the paper's text), released (its code) or sound (ours).
    preset: str = PRESET
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
        from ..vec2vec.trainer import train

        words = self.source, self.target
        out = self.resume or self.out or Path("runs", folder_name(*words, self.preset))
        base.ensure_writable(out, *words)
        sides = base.load_pair(*words, self.n_train)
        main = os.environ.get("RANK", "0") == "0"  # or the first of several processes
        if main and self.resume is None:
            base.refuse_other_pair(out, base.identities(sides[:2], words), self.force)
            self._prepare(out)
        names = [side.name for side in sides[:2]]
        names = names if names[0] != names[1] else ["source", "target"]
        found = train(
            dict(zip(names, sides[:2], strict=True)), self.config, seeds=self.seeds,
            seed=self.seed, out=out, loop=self.loop,
            held=dict(zip(names, sides[2:], strict=True)),
            resume=self.resume is not None, progress=interactive(), device=self.device,
        )  # fmt: skip
        diagnosis = found.diagnoses[found.best][0]
        result = {
            "out": out, "preset": self.config.name, "source": self.source,
            "target": self.target, "seed": found.seeds[found.best],
            "step": found.steps[found.best], "diagnosis": diagnosis.as_dict(),
            "seeds": dict(zip(found.seeds, found.scores, strict=True)),
            "spread": found.spread(),
        }  # fmt: skip
        line = f"{out}: vec2vec {self.config.name}, seed {result['seed']}"
        line += f", its nets of step {result['step']}"
        if len(found.seeds) > 1:
            line += f", the best of {len(found.seeds)} by the diagnosis"
        return Result(result, [line, diagnosis.line()])

    def _prepare(self, out: Path) -> None:
        from ..vec2vec.checkpoint import checkpoints
        from ..vec2vec.run import CHECKPOINTS

        (out / base.DIAGNOSIS).unlink(missing_ok=True)  # of `v2v align`
        if self.force and (out / RUN).exists():
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        if not checkpoints(out / CHECKPOINTS):  # else `train` refuses the folder
            words = {name: getattr(self, name) for name in KEPT}
            kept = {"preset": asdict(self.config), "loop": asdict(self.loop)}
            v2v.spaces.write_json(out / RUN, {"words": words, **kept})


@dataclass(frozen=True)
class _Start:
    # The two options that say where all others start from.
    preset: str = PRESET
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
        config, missing = preset_named(start.preset), tyro.MISSING
        return Train(missing, missing, config, Loop(), start.preset)
    kept = v2v.spaces.read_json(start.resume / RUN)
    config, loop = preset_of(kept["preset"]), Loop(**kept["loop"])
    return Train(config=config, loop=loop, resume=start.resume, **kept["words"])
