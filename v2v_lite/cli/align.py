"""`v2v align`, `translate`, `score`, `diagnose`: the work itself, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .base import (
    DIAGNOSIS,
    ROWS,
    Command,
    Flag,
    Folder,
    Number,
    OptionalPath,
    Part,
    Source,
    Target,
    Vectors,
    ensure_writable,
    identity,
    load_pair,
    load_space,
    refuse_other_pair,
    save_rows,
    to_device,
)
from .streams import Result, echo, interactive, to_jsonable

if TYPE_CHECKING:
    from ..align import Translator
    from ..align.diagnose import Diagnosis
    from ..spaces import Space

__all__ = ["Align", "Diagnose", "Score", "Translate", "best_of"]

# Every method of `v2v_lite.align` that learns without pairs; a test compares the two.
Method = Literal[
    "selflearn", "mini", "vec2vec", "consensus", "gw", "gw-entropic", "sinkhorn", "emd",
    "hungarian", "identity", "mean", "random",
]  # fmt: skip


@dataclass(frozen=True)
class Align(Command):
    """Align two spaces without any pair; save the translator and its diagnosis."""

    source: Source
    """Bundled name (minilm, granite, arctic, wordllama), .safetensors or .npy."""
    target: Target
    """The same for the space to translate into."""
    out: OptionalPath = None
    """Folder to save into (default: runs/SOURCE-TARGET)."""
    method: Method = "selflearn"
    """Ours (selflearn), other methods, or baselines (identity, mean, random)."""
    seed: int = 0
    """The first seed."""
    seeds: int = 1
    """Number of seeds; the best is picked by the diagnosis, which needs no pairs."""
    n_train: Number = None
    """Rows a side (default: all)."""
    device: str = "auto"
    """cpu, cuda or auto."""
    force: Flag = False
    """Overwrite what the folder holds of another pair."""

    def run(self) -> Result:
        from ..align import METHODS
        from ..spaces import DataError

        if self.seeds < 1:
            raise DataError(f"seeds = {self.seeds}, but at least 1 is needed")
        out = self.out or Path("runs", pair_name(self.source, self.target))
        ensure_writable(out, self.source, self.target)
        sides = load_pair(self.source, self.target, self.n_train)
        pair = [identity(sides[0], self.source), identity(sides[1], self.target)]
        refuse_other_pair(out, pair, self.force)
        source, target, *unseen = (to_device(side, self.device) for side in sides)
        models = []
        for seed in range(self.seed, self.seed + self.seeds):
            echo(f"fitting {self.method}, seed {seed}")
            model = METHODS[self.method]()
            models.append(model.fit(source, target, seed=seed, progress=interactive()))
        models[0].save(out)  # an interrupted diagnosis must not cost the fit
        (out / DIAGNOSIS).unlink(missing_ok=True)  # it was of other weights
        best, found = best_of(models, unseen[0], unseen[1])
        models[best].save(out)
        return self._report(out, pair, models, best, found)

    def _report(
        self,
        out: Path,
        pair: list[str],
        models: Sequence[Translator],
        best: int,
        found: Sequence[Diagnosis],
    ) -> Result:
        from ..spaces import write_json

        result = {
            "out": out,
            "method": self.method,
            "source": models[best].source_name,
            "target": models[best].target_name,
            "pair": pair,
            "seed": models[best].seed,
            "diagnosis": found[best].as_dict(),
            "seeds": {m.seed: d.as_dict() for m, d in zip(models, found, strict=True)},
        }
        write_json(out / DIAGNOSIS, to_jsonable(result))
        line = f"{out}: {self.method}, seed {models[best].seed}"
        if len(models) > 1:
            line += f", the best of {len(models)} by the diagnosis"
        return Result(result, [line, found[best].line()])


@dataclass(frozen=True)
class Translate(Command):
    """Translate vectors with a saved translator."""

    folder: Folder
    """What `v2v align` or `v2v train` saved."""
    vectors: Vectors
    """.safetensors, .npy or a bundled name."""
    out: OptionalPath = None
    """File to write, .safetensors or .npy (default: VECTORS.TARGET.safetensors)."""
    part: Part = "all"
    """Rows of a bundled space."""

    def run(self) -> Result:
        from ..align import Translator
        from ..spaces import Space
        from ..spaces.quantised import file_name as safe_name

        model, space = Translator.load(self.folder), load_space(self.vectors, self.part)
        name = f"{self.vectors}.{safe_name(model.target_name)}.safetensors"
        out = self.out or Path(name)
        ensure_writable(out, self.vectors, ending=ROWS)
        provenance = replace(
            space.provenance,
            encoder=model.target_name,
            weights="",
            licence="",
            note=f"translated from {model.source_name} by {model.name}",
        )
        rows = Space(model.translate(space), provenance, ids=space.ids)
        save_rows(out, rows)
        result = {"out": out, "rows": rows.n, "d": rows.d, "encoder": rows.name}
        return Result(result, [f"{out}: {rows.n:,} rows in the space of {rows.name}"])


@dataclass(frozen=True)
class Score(Command):
    """Score translations against the true vectors of the same texts, row by row."""

    translated: Vectors
    """.safetensors or .npy; row i is the text of TARGET's row i."""
    target: Target
    """.safetensors, .npy or a bundled name."""
    part: Part = "all"
    """Rows of a bundled space."""
    rank_by: Literal["centred", "cosine"] = "centred"
    """Rank by the cosine around the target's mean, or by the plain one."""

    def run(self) -> Result:
        from ..measure import score

        translated = load_space(self.translated, self.part)
        target = load_space(self.target, self.part)
        _check_same_rows(translated, target)
        found = score(translated, target, rank_by=self.rank_by, progress=interactive())
        return Result(found.as_dict(), [found.line()])


@dataclass(frozen=True)
class Diagnose(Command):
    """Estimate without pairs whether a saved translator aligned two spaces."""

    folder: Folder
    """What `v2v align` or `v2v train` saved."""
    source: Source
    """Rows of the source: .safetensors, .npy or a bundled name."""
    target: Target
    """Rows of the target, of other texts; best rows that the fit has not seen."""
    rivals: tuple[Path, ...] = ()
    """Folders of translators fitted with other seeds, to compare with."""
    n_train: Number = None
    """Rows a side (default: all)."""

    def run(self) -> Result:
        from ..align import Translator
        from ..align.diagnose import diagnose

        model, *others = (Translator.load(f) for f in (self.folder, *self.rivals))
        *_, source, target = load_pair(self.source, self.target, self.n_train)
        found = diagnose(model, source, target, rivals=others, progress=interactive())
        return Result(found.as_dict(), [found.line()])


def pair_name(*words: str) -> str:
    """The name of a folder for what is made of these spaces."""
    return "-".join(Path(word).stem for word in words)


def best_of(
    models: Sequence[Translator], source: Space, target: Space
) -> tuple[int, list[Diagnosis]]:
    """The index of the model with the best score, and the diagnoses of all.

    Each is diagnosed beside the others. Picking by pairs would be cheating here.
    """
    from ..align.diagnose import diagnose

    found = []
    for k, model in enumerate(models):
        echo(f"diagnosing seed {model.seed}")
        others = [*models[:k], *models[k + 1 :]]
        one = diagnose(model, source, target, rivals=others, progress=interactive())
        found.append(one)
    return max(range(len(found)), key=lambda k: found[k].score), found


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
