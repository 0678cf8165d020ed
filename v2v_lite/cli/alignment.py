"""`v2v align`, `translate`, `score`, `diagnose`: the work itself, file by file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .base import (
    Command,
    check_free,
    on_device,
    plain,
    rows_of,
    say,
    two_sides,
    write_rows,
)

if TYPE_CHECKING:
    from ..align import Translator
    from ..align.diagnosis import Diagnosis
    from ..spaces import Space

Part = Literal["all", "train", "eval"]


@dataclass(frozen=True)
class Align(Command):
    """Align two spaces without any pair; save the translator; end in the diagnosis."""

    source: str
    """Bundled name (minilm, granite, arctic, wordllama), .safetensors or .npy."""
    target: str
    """The same for the space to translate into."""
    out: Path | None = None
    """Folder to save into (default: runs/SOURCE-TARGET)."""
    method: str = "selflearn"
    """Any method that needs no pairs: selflearn, mini, or a floor."""
    seed: int = 0
    """The first seed."""
    seeds: int = 1
    """How many; the best is picked by the diagnosis alone, which sees no pair."""
    n_train: int | None = None
    """Rows a side (default: all)."""
    device: str = "auto"
    """cpu, cuda or auto."""

    def run(self) -> None:
        from ..align import METHODS
        from ..spaces import DataError

        kind = METHODS[self.method]
        if kind.paired:
            free = ", ".join(name for name in METHODS if not METHODS[name].paired)
            raise DataError(f"{self.method} learns from pairs; without any: {free}")
        if self.seeds < 1:
            raise DataError(f"seeds = {self.seeds}, but at least 1 is needed")
        out = self.out or Path("runs") / f"{_stem(self.source)}-{_stem(self.target)}"
        check_free(out, "a translator")
        sides = two_sides(self.source, self.target, self.n_train)
        source, target, *unseen = (on_device(side, self.device) for side in sides)
        models = [
            kind().fit(source, target, seed=self.seed + k, progress=True)
            for k in range(self.seeds)
        ]
        models[0].save(out)  # an interrupted diagnosis must not cost the fit
        best, found = best_of(models, *unseen)
        models[best].save(out)
        self._report(out, models, best, found)

    def _report(
        self, out: Path, models: list[Translator], best: int, found: list[Diagnosis]
    ) -> None:
        from ..spaces import write_json

        result = {
            "out": out,
            "method": self.method,
            "source": models[best].source_name,
            "target": models[best].target_name,
            "seed": models[best].seed,
            "diagnosis": found[best].as_dict(),
            "seeds": {m.seed: d.as_dict() for m, d in zip(models, found, strict=True)},
        }
        write_json(out / "diagnosis.json", plain(result))
        lines = [f"{out}: {self.method}, seed {models[best].seed}"]
        if len(models) > 1:
            lines[0] += f", the best of {len(models)} by the diagnosis"
        self.give(result, [*lines, found[best].line()])


@dataclass(frozen=True)
class Translate(Command):
    """Translate vectors with a saved translator."""

    folder: Path
    """What `v2v align` saved."""
    vectors: str
    """.safetensors, .npy or a bundled name."""
    out: Path | None = None
    """File to write, .safetensors or .npy (default: VECTORS.TARGET.safetensors)."""
    part: Part = "all"
    """Of a bundled space: which rows."""

    def run(self) -> None:
        from ..align import Translator
        from ..spaces import Space, safe_name

        model, space = Translator.load(self.folder), rows_of(self.vectors, self.part)
        label = safe_name(model.target_name)
        out = self.out or Path(f"{self.vectors}.{label}.safetensors")
        about = replace(
            space.provenance,
            encoder=model.target_name,
            weights="",
            licence="",
            note=f"translated from {model.source_name} by {model.name}",
        )
        rows = Space(model.translate(space), about, ids=space.ids)
        write_rows(out, rows)
        result = {"out": out, "rows": rows.n, "d": rows.d, "encoder": rows.name}
        self.give(result, [f"{out}: {rows.n:,} rows in the space of {rows.name}"])


@dataclass(frozen=True)
class Score(Command):
    """Score translations against the true vectors of the same texts, row by row."""

    translated: str
    """.safetensors or .npy; row i is the text of TARGET's row i."""
    target: str
    """.safetensors, .npy or a bundled name."""
    part: Part = "all"
    """Of a bundled space: which rows."""
    rank_by: Literal["centred", "cosine"] = "centred"
    """Rank by the cosine around the target's mean, or by the plain one."""

    def run(self) -> None:
        from ..measure import score

        translated = rows_of(self.translated, self.part)
        target = rows_of(self.target, self.part)
        _check_same_rows(translated, target)
        found = score(translated, target, rank_by=self.rank_by, progress=True)
        self.give(found.as_dict(), [found.line()])


@dataclass(frozen=True)
class Diagnose(Command):
    """Tell without any pair whether a saved translator aligned two spaces."""

    folder: Path
    """What `v2v align` saved."""
    source: str
    """Rows of the source: .safetensors, .npy or a bundled name."""
    target: str
    """Rows of the target, of other texts; best rows that the fit has not seen."""
    rivals: tuple[Path, ...] = ()
    """Folders of translators fitted with other seeds; do they agree?"""
    n_train: int | None = None
    """Rows a side (default: all)."""

    def run(self) -> None:
        from ..align import Translator
        from ..align.diagnosis import diagnose

        model, *rivals = (Translator.load(f) for f in (self.folder, *self.rivals))
        unseen = two_sides(self.source, self.target, self.n_train)[2:]
        found = diagnose(model, *unseen, other_seeds=rivals, progress=True)
        self.give(found.as_dict(), [found.line()])


def best_of(
    models: list[Translator], source: Space, target: Space
) -> tuple[int, list[Diagnosis]]:
    """Which model the diagnosis prefers, and the diagnosis of each beside the others.

    No pair is looked at: picking a seed by pairs is cheating in this threat model.
    """
    from ..align.diagnosis import diagnose

    found = []
    for k, model in enumerate(models):
        say(f"diagnosing seed {model.seed}")
        others = models[:k] + models[k + 1 :]
        one = diagnose(model, source, target, other_seeds=others, progress=True)
        found.append(one)
    return max(range(len(found)), key=lambda k: found[k].score), found


def _stem(name: str) -> str:
    return Path(name).stem


def _check_same_rows(translated: Space, target: Space) -> None:
    from ..spaces import DataError

    one, two = translated.ids, target.ids
    if one is not None and two is not None and one.tolist() != two.tolist():
        raise DataError(
            f"the rows are not of the same texts ({len(one)} and {len(two)} ids that "
            "differ); give row i of both the same text (--part eval of bundled names?)"
        )
    names = {translated.name, target.name} - {"unknown"}
    if len(names) > 1:
        raise DataError(
            f"rows of {translated.name} and of {target.name} are in different spaces; "
            f"translate the first into {target.name}'s"
        )
