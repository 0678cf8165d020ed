"""`v2v encode` and `v2v data`: from texts to vectors, and what vectors there are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .base import Command, say, write_rows


@dataclass(frozen=True)
class Encode(Command):
    """Encode a text file, one text a line or .jsonl, into vectors with ids."""

    textfile: Path
    """One text a line, or .jsonl with a "text" field; .gz too."""
    encoder: str = "minilm"
    """Short name, hub name owner/model, or a model's folder."""
    out: Path | None = None
    """File to write, .safetensors or .npy (default: TEXTFILE.ENCODER.safetensors)."""
    batch_size: int = 64
    """Texts at a time."""
    device: str | None = None
    """cpu or cuda (default: the GPU when there is one)."""

    def run(self) -> None:
        from ..spaces import encode, read_texts, safe_name

        out = self.out or self.textfile.with_name(
            f"{self.textfile.name}.{safe_name(Path(self.encoder).name)}.safetensors"
        )
        texts = read_texts(self.textfile)
        space = encode(texts, self.encoder, self.batch_size, self.device)
        write_rows(out, space)
        result = {"out": out, "encoder": space.name, "rows": space.n, "d": space.d}
        self.give(result, [f"{out}: {space.n:,} rows of {space.name}, {space.d}-d"])


@dataclass(frozen=True)
class Make(Command):
    """Make a set: a text file under several encoders, as int8 codes with a manifest."""

    texts: Path
    """One text a line, or .jsonl with a "text" field; .gz too."""
    encoders: tuple[str, ...] = ("minilm", "wordllama")
    """Short names, hub names or folders; these two need no network."""
    out: Path = Path("runs/data")
    """Folder of the manifest."""
    name: str = "texts"
    """The set's name."""
    n_eval: int = 4096
    """Rows kept for evaluation."""
    near: float | None = None
    """Drop texts nearer than this cosine to an earlier one (.9 for the bundled set)."""
    about: str = ""
    """What the texts are."""
    licence: str = ""
    """Their licence."""
    seed: int = 0
    """Of the shuffle before the evaluation rows are set apart."""

    def run(self) -> None:
        from ..spaces import make_set

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
        )
        dropped = entry["dropped"]
        self.give(
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

    folder: Path | None = None
    """A folder with a manifest.json (default: the bundled one)."""

    def run(self) -> None:
        from ..spaces import data_folder, load, read_manifest

        folder = self.folder or data_folder()
        sets = read_manifest(folder)
        lines = []
        for name, entry in sets.items():
            lines.append(f"{name}: {entry['rows']:,} rows; {entry['texts']}")
            for short, about in entry["spaces"].items():
                load(short, dataset=name, folder=folder)
                lines.append(
                    f"  {short:<12} {about['d']:>4}-d  verified  {about['licence']:<12}"
                    f" {about['encoder']}"
                )
        say(f"in {folder}")
        self.give({"folder": folder, "sets": sets}, lines)
