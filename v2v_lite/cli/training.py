"""`v2v train`: vec2vec by a preset of which every field is an option.

On one GPU, or none, nothing is to be done. Several processes share each step's batch:

    accelerate launch --multi_gpu --num_processes 8 --module v2v_lite train ...
    accelerate launch --multi_gpu --num_machines 2 --machine_rank 0 \
        --main_process_ip ... --num_processes 16 --module v2v_lite train ...

Without a GPU the first line makes processes on the CPU, for a trial. Not so `--cpu
--num_processes 2`: Accelerate 1.15 makes one process of it, and does not say so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_type_hints

from .base import Command, check_free, keep_pages, plain, two_sides

if TYPE_CHECKING:
    from ..vec2vec.trainer import Trained

RUN = "run.json"  # what --resume needs to know beside the checkpoint
SPACES = ("source", "target")
WORDS = (*SPACES, "preset", "seeds", "seed", "n_train", "device")
PARTS = (  # of a preset
    "net", "game", "loss", "optim", "centred", "whitened", "start", "anchor_runs",
)  # fmt: skip
HELP = {
    "source": "Bundled name (minilm, granite, arctic, wordllama) or file.",
    "target": "The same for the space to translate into, the known one.",
    "centred": "Centre rows by their space's training mean.",
    "whitened": "Whiten them too, by a prior of so many rows; 0 does not.",
    "anchor_runs": "Clusterings behind the anchors of the start.",
    "start": "Random weights, or linear adapters from an unpaired method's map.",
}


@dataclass(frozen=True)
class Train(Command):
    """Train vec2vec between two spaces without any pair; keep the best, checkpoints."""

    preset: str = "sound"
    """printed (the paper's text), released (its code) or sound (ours)."""
    resume: Path | None = None
    """Folder of a run to go on with; it knows all the rest."""
    out: Path | None = None
    """Folder to save into (default: runs/SOURCE-TARGET-PRESET)."""
    seeds: int = 1
    """How many to train as one program; the best is picked without pairs."""
    seed: int = 0
    """The first seed."""
    n_train: int | None = None
    """Rows a side (default: all)."""
    device: str = "auto"
    """cpu, cuda or auto."""

    def run(self) -> None:
        from ..spaces import write_json
        from ..vec2vec.checkpoint import checkpoints
        from ..vec2vec.presets import Preset
        from ..vec2vec.trainer import CHECKPOINTS, train

        keep_pages()
        preset = Preset(self.preset, **{name: getattr(self, name) for name in PARTS})
        stems = (Path(self.source).stem, Path(self.target).stem, self.preset)
        out = self.resume or self.out or Path("runs", "-".join(stems))
        check_free(out, "a run")
        sides = two_sides(self.source, self.target, self.n_train)
        names = tuple(side.name for side in sides[:2])
        names = names if names[0] != names[1] else ("source", "target")
        alone = os.environ.get("RANK", "0") == "0"  # or the first of several processes
        if alone and not checkpoints(out / CHECKPOINTS):
            words = {name: getattr(self, name) for name in WORDS}
            kept = {"preset": asdict(preset), "loop": asdict(self.loop)}
            write_json(out / RUN, {"words": words, **kept})
        found = train(
            dict(zip(names, sides[:2], strict=True)),
            preset,
            seeds=self.seeds,
            seed=self.seed,
            out=out,
            loop=self.loop,
            held=dict(zip(names, sides[2:], strict=True)),
            resume=self.resume is not None,
            progress=True,
            device=self.device,
        )
        if alone:
            self._report(out, found)

    def _report(self, out: Path, found: Trained) -> None:
        diagnosis = found.diagnoses[found.best][0]
        result = {
            "out": out,
            "preset": self.preset,
            "source": self.source,
            "target": self.target,
            "seed": found.seeds[found.best],
            "step": found.steps[found.best],
            "diagnosis": diagnosis.as_dict(),
            "seeds": dict(zip(found.seeds, found.scores, strict=True)),
            "spread": found.spread(),
        }
        line = f"{out}: vec2vec {self.preset}, seed {result['seed']}"
        line += f", its nets of step {result['step']}"
        if len(found.seeds) > 1:
            line += f", the best of {len(found.seeds)} by the diagnosis"
        self.give(plain(result), [line, diagnosis.line()])


def with_options(words: Sequence[str]) -> type[Train]:
    """`Train` with all fields of the preset, or of the run, that the words name.

    So `--help` shows that preset's values. The spaces are positional, or the run's.
    """
    import tyro

    from ..spaces import read_json
    from ..vec2vec.machine import Loop
    from ..vec2vec.presets import Preset
    from ..vec2vec.state import preset_named, preset_of

    folder = _value(words, "--resume")
    if folder is None:
        preset = preset_named(_value(words, "--preset") or Train.preset)
        loop, own = Loop(), {}
    else:
        kept = read_json(Path(folder) / RUN)
        preset, loop = preset_of(kept["preset"]), Loop(**kept["loop"])
        own = kept["words"]
    parts = {name: getattr(preset, name) for name in PARTS} | {"loop": loop}
    hints = get_type_hints(Preset) | {"loop": Loop}
    added: list[tuple] = [
        (name, Annotated[hints[name], tyro.conf.arg(help=HELP.get(name))], value)
        for name, value in parts.items()
    ]
    for name, value in own.items():
        hint = str if name in SPACES else get_type_hints(Train)[name]
        hint = tyro.conf.Suppress[hint] if name in SPACES else hint
        added.append((name, hint, value))
    for name in SPACES if not own else ():
        added.append((name, Annotated[str, tyro.conf.arg(help=HELP[name])]))
    return make_dataclass("Train", added, bases=(Train,), frozen=True, kw_only=True)


def _value(words: Sequence[str], option: str) -> str | None:
    # What follows an option; tyro itself reads the words once the class is made.
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == option:
            return following
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
