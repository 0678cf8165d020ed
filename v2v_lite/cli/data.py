"""`v2v encode` and `v2v data`: from texts to vectors, and the sets of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

import v2v_lite as v2v

from . import base


@dataclass(frozen=True)
class Encode(base.Command):
    """Encode a text file, one text a line or .jsonl, into vectors with ids."""

    # One text a line, or .jsonl with a "text" field; .gz too.
    texts: base.Texts
    # Short name, hub name owner/model, or a model's folder.
    encoder: str = "minilm"
    # File to write, .safetensors or .npy (default: TEXTS.ENCODER.safetensors).
    out: base.OptionalPath = None
    # Texts at a time.
    batch_size: int = 64
    # cpu or cuda (default: the GPU when there is one).
    device: base.Text = None

    def run(self) -> base.Result:
        label = v2v.spaces.safe_name(Path(self.encoder).name)
        out = self.out or Path(f"{self.texts}.{label}.safetensors")
        base.checked_out(out, self.texts, ending=base.ROWS)
        space = v2v.spaces.encode(
            v2v.spaces.read_texts(self.texts), self.encoder, self.batch_size,
            self.device, progress=base.interactive(),
        )  # fmt: skip
        space.save(out)
        result = {"out": out, "encoder": space.name, "rows": space.n, "d": space.d}
        line = f"{out}: {space.n:,} rows of {space.name}, {space.d}-d"
        return base.Result(result, [line])


@dataclass(frozen=True)
class Make(base.Command):
    """Make a set: a text file under several encoders, as int8 codes with a manifest."""

    # One text a line, or .jsonl with a "text" field; .gz too.
    texts: base.Texts
    # Short names, hub names or folders; these two need no network.
    encoders: tuple[str, ...] = ("minilm", "wordllama")
    # Folder of the manifest.
    out: Path = Path("runs/data")
    # The set's name.
    name: str = "texts"
    # Rows kept for evaluation.
    n_eval: int = 4096
    # Drop texts nearer than this cosine to an earlier one (.9 for the bundled set).
    near: base.Float = None
    # A description of the texts.
    about: str = ""
    # Their licence.
    licence: str = ""
    # Seed of the shuffle before the evaluation rows are set apart.
    seed: int = 0

    def run(self) -> base.Result:
        base.checked_out(self.out, self.texts)
        with v2v.spaces.locked(self.out):  # its manifest is read, changed and written
            entry = v2v.spaces.make_set(
                self.texts, self.encoders, self.out, self.n_eval, name=self.name,
                about=self.about, licence=self.licence, near=self.near, seed=self.seed,
                progress=base.interactive(),
            )  # fmt: skip
        counts = ", ".join(f"{n:,} {what}" for what, n in entry["dropped"].items())
        lines = [
            f"{self.out}: set {self.name!r} of {entry['rows']:,} texts ({counts})",
            f"read it: load(ENCODER, dataset={self.name!r}, folder={str(self.out)!r})",
        ]
        return base.Result({"out": self.out, "name": self.name, **entry}, lines)


@dataclass(frozen=True)
class Show(base.Command):
    """List the sets of vectors, each file verified by its SHA-256."""

    # A folder with a manifest.json (default: the bundled one).
    folder: base.OptionalPath = None

    def run(self) -> base.Result:
        folder = self.folder or v2v.spaces.data_folder()
        sets, lines = v2v.spaces.read_manifest(folder), []
        for name, entry in sets.items():
            lines.append(f"{name}: {entry['rows']:,} rows; {entry['texts']}")
            for short, about in entry["spaces"].items():
                v2v.spaces.load(short, dataset=name, folder=folder)
                head = f"  {short:<12} {about['d']:>4}-d  verified"
                lines.append(f"{head}  {about['licence']:<12} {about['encoder']}")
        base.echo(f"in {folder}")
        return base.Result({"folder": folder, "sets": sets}, lines)


@dataclass(frozen=True)
class Data:
    """List or make sets of vectors."""

    command: Annotated[Show | Make, arg(name="")]
