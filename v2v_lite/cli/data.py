"""`v2v encode` and `v2v data`: from texts to vectors, and the sets of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from .base import (
    ROWS,
    Command,
    OptionalPath,
    Text,
    ensure_writable,
    save_rows,
)
from .streams import Result, echo, interactive

__all__ = ["Data", "Encode", "Make", "Show"]

Texts = Annotated[Path, Positional, arg(metavar="TEXTS")]


@dataclass(frozen=True)
class Encode(Command):
    """Encode a text file, one text a line or .jsonl, into vectors with ids."""

    texts: Texts
    """One text a line, or .jsonl with a "text" field; .gz too."""
    encoder: str = "minilm"
    """Short name, hub name owner/model, or a model's folder."""
    out: OptionalPath = None
    """File to write, .safetensors or .npy (default: TEXTS.ENCODER.safetensors)."""
    batch_size: int = 64
    """Texts at a time."""
    device: Text = None
    """cpu or cuda (default: the GPU when there is one)."""

    def run(self) -> Result:
        from ..spaces import encode, read_texts
        from ..spaces.quantised import file_name as safe_name

        encoder = safe_name(Path(self.encoder).name)
        out = self.out or Path(f"{self.texts}.{encoder}.safetensors")
        ensure_writable(out, self.texts, ending=ROWS)
        texts = read_texts(self.texts)
        space = encode(
            texts, self.encoder, self.batch_size, self.device, progress=interactive()
        )
        save_rows(out, space)
        result = {"out": out, "encoder": space.name, "rows": space.n, "d": space.d}
        return Result(result, [f"{out}: {space.n:,} rows of {space.name}, {space.d}-d"])


@dataclass(frozen=True)
class Make(Command):
    """Make a set: a text file under several encoders, as int8 codes with a manifest."""

    texts: Texts
    """One text a line, or .jsonl with a "text" field; .gz too."""
    encoders: tuple[str, ...] = ("minilm", "wordllama")
    """Short names, hub names or folders; these two need no network."""
    out: Path = Path("runs/data")
    """Folder of the manifest."""
    name: str = "texts"
    """The set's name."""
    n_eval: int = 4096
    """Rows kept for evaluation."""
    near: Annotated[float | None, arg(metavar="FLOAT", help_behavior_hint="")] = None
    """Drop texts nearer than this cosine to an earlier one (.9 for the bundled set)."""
    about: str = ""
    """A description of the texts."""
    licence: str = ""
    """Their licence."""
    seed: int = 0
    """Seed of the shuffle before the evaluation rows are set apart."""

    def run(self) -> Result:
        from ..spaces import make_set

        ensure_writable(self.out, self.texts)
        entry = make_set(
            self.texts,
            self.encoders,
            self.out,
            self.n_eval,
            name=self.name,
            about=self.about,
            licence=self.licence,
            near=self.near,
            seed=self.seed,
            progress=interactive(),
        )
        dropped = entry["dropped"]
        return Result(
            {"out": self.out, "name": self.name, **entry},
            [
                f"{self.out}: set {self.name!r} of {entry['rows']:,} texts under "
                f"{', '.join(self.encoders)} ({dropped['repeats']} repeats and "
                f"{dropped['near']} near-repeats dropped)",
                f"read it with load(ENCODER, dataset={self.name!r}, "
                f"folder={str(self.out)!r})",
            ],
        )


@dataclass(frozen=True)
class Show(Command):
    """List the sets of vectors, each file verified by its SHA-256."""

    folder: OptionalPath = None
    """A folder with a manifest.json (default: the bundled one)."""

    def run(self) -> Result:
        from ..spaces import data_folder, load, read_json

        folder = self.folder or data_folder()
        sets = read_json(folder / "manifest.json")["sets"]
        lines = []
        for name, entry in sets.items():
            lines.append(f"{name}: {entry['rows']:,} rows; {entry['texts']}")
            for short, about in entry["spaces"].items():
                load(short, dataset=name, folder=folder)
                lines.append(
                    f"  {short:<12} {about['d']:>4}-d  verified  {about['licence']:<12}"
                    f" {about['encoder']}"
                )
        echo(f"in {folder}")
        return Result({"folder": folder, "sets": sets}, lines)


@dataclass(frozen=True)
class Data:
    """List or make sets of vectors."""

    command: Annotated[
        Annotated[Show, subcommand("show")] | Annotated[Make, subcommand("make")],
        arg(name=""),
    ]
