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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.conf import arg

# tyro reads the fields of these: this module is imported for `v2v train` alone.
from ..vec2vec.machine import Loop
from ..vec2vec.presets import Preset
from .align import pair_name
from .base import (
    DIAGNOSIS,
    Command,
    Flag,
    Number,
    OptionalPath,
    Source,
    Target,
    ensure_writable,
    identity,
    load_pair,
    refuse_other_pair,
)
from .streams import Result, interactive

if TYPE_CHECKING:
    from ..vec2vec.trainer import Trained

__all__ = ["Train", "defaults"]

RUN = "run.json"  # what --resume needs to know beside the checkpoint
KEPT = ("source", "target", "preset", "seeds", "seed", "n_train", "device")
PRESET = "sound"


@dataclass(frozen=True)
class Train(Command):
    """Train vec2vec between two spaces without any pair; save the best, checkpoints."""

    source: Source
    """Bundled name (minilm, granite, arctic, wordllama), .safetensors or .npy."""
    target: Target
    """The same for the space to translate into, the known one."""
    config: Annotated[Preset, arg(name="")]
    loop: Loop
    preset: str = PRESET
    """printed (the paper's text), released (its code) or sound (ours)."""
    out: OptionalPath = None
    """Folder to save into (default: runs/SOURCE-TARGET-PRESET)."""
    resume: OptionalPath = None
    """Folder of a run to go on with; it knows all the rest."""
    seeds: int = 1
    """Number of seeds, trained as one program; the best is picked without pairs."""
    seed: int = 0
    """The first seed."""
    n_train: Number = None
    """Rows a side (default: all)."""
    device: str = "auto"
    """cpu, cuda or auto."""
    force: Flag = False
    """Overwrite the run, or another pair's translator, that the folder holds."""

    def run(self) -> Result:
        from ..spaces import write_json
        from ..vec2vec.checkpoint import checkpoints
        from ..vec2vec.trainer import CHECKPOINTS, train

        stem = pair_name(self.source, self.target, self.preset)
        out = self.resume or self.out or Path("runs", stem)
        ensure_writable(out, self.source, self.target)
        one, two, held_one, held_two = load_pair(self.source, self.target, self.n_train)
        alone = os.environ.get("RANK", "0") == "0"  # or the first of several processes
        if alone and self.resume is None:
            pair = [identity(one, self.source), identity(two, self.target)]
            refuse_other_pair(out, pair, self.force)
            self._clear(out)
            if not checkpoints(out / CHECKPOINTS):
                words = {name: getattr(self, name) for name in KEPT}
                kept = {"preset": asdict(self.config), "loop": asdict(self.loop)}
                write_json(out / RUN, {"words": words, **kept})
        names = (one.name, two.name) if one.name != two.name else ("source", "target")
        found = train(
            dict(zip(names, (one, two), strict=True)),
            self.config,
            seeds=self.seeds,
            seed=self.seed,
            out=out,
            loop=self.loop,
            held=dict(zip(names, (held_one, held_two), strict=True)),
            resume=self.resume is not None,
            progress=interactive(),
            device=self.device,
        )
        return self._report(out, found)

    def _clear(self, out: Path) -> None:
        from ..vec2vec.trainer import CHECKPOINTS

        (out / DIAGNOSIS).unlink(missing_ok=True)  # of `v2v align`, of other weights
        if self.force and (out / RUN).exists():
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)

    def _report(self, out: Path, found: Trained) -> Result:
        diagnosis = found.diagnoses[found.best][0]
        result = {
            "out": out,
            "preset": self.config.name,
            "source": self.source,
            "target": self.target,
            "seed": found.seeds[found.best],
            "step": found.steps[found.best],
            "diagnosis": diagnosis.as_dict(),
            "seeds": dict(zip(found.seeds, found.scores, strict=True)),
            "spread": found.spread(),
        }
        line = f"{out}: vec2vec {self.config.name}, seed {result['seed']}"
        line += f", its nets of step {result['step']}"
        if len(found.seeds) > 1:
            line += f", the best of {len(found.seeds)} by the diagnosis"
        return Result(result, [line, diagnosis.line()])


@dataclass(frozen=True)
class _Start:
    # The two options that say where all others start from.
    preset: str = PRESET
    resume: Path | None = None


def defaults(words: Sequence[str]) -> Train:
    """`Train` with the fields of the preset, or of the run, that the words name."""
    from ..spaces import read_json
    from ..vec2vec.state import preset_named, preset_of

    start = _Start()
    try:
        start, _ = tyro.cli(
            _Start, args=words, return_unknown_args=True, add_help=False,
            console_outputs=False,
        )  # fmt: skip
    except SystemExit:
        pass  # a word without its value: reading all words says so
    if start.resume is None:
        config, missing = preset_named(start.preset), tyro.MISSING
        return Train(missing, missing, config, Loop(), start.preset)
    kept: dict[str, Any] = read_json(start.resume / RUN)
    config, loop = preset_of(kept["preset"]), Loop(**kept["loop"])
    return Train(config=config, loop=loop, resume=start.resume, **kept["words"])
