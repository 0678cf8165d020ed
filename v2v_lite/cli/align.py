"""`v2v align`, `translate`, `score`, `diagnose`: the work itself, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import v2v_lite as v2v

from . import base
from .streams import Result, echo, interactive, to_jsonable

if TYPE_CHECKING:
    from ..align import Diagnosis, Translator
    from ..spaces import Space

__all__ = ["Align", "Diagnose", "Score", "Translate", "best_of"]

# Every method of `v2v_lite.align` that learns without pairs; a test compares the two.
Method = Literal[
    "selflearn", "mini", "vec2vec", "consensus", "gw", "gw-entropic", "sinkhorn", "emd",
    "hungarian", "identity", "mean", "random",
]  # fmt: skip


@dataclass(frozen=True)
class Align(base.Command):
    """Align two spaces without any pair; save the translator and its diagnosis."""

    # Bundled name (minilm, granite, arctic, wordllama), .safetensors or .npy.
    source: base.Source
    # The same for the space to translate into.
    target: base.Target
    # Folder to save into (default: runs/SOURCE-TARGET).
    out: base.OptionalPath = None
    # Ours (selflearn), other methods, or baselines (identity, mean, random).
    method: Method = "selflearn"
    # The first seed.
    seed: int = 0
    # Number of seeds; the best is picked by the diagnosis, which needs no pairs.
    seeds: int = 1
    # Rows a side (default: all).
    n_train: base.Int = None
    # cpu, cuda or auto.
    device: str = "auto"
    # Overwrite what the folder holds of another pair.
    force: base.Flag = False

    def run(self) -> Result:
        base.at_least_one(seeds=self.seeds)
        names = self.source, self.target
        out = self.out or Path("runs", folder_name(*names))
        base.ensure_writable(out, *names)
        sides = base.load_pair(*names, self.n_train)
        pair = base.identities(sides[:2], names)
        base.keep_results(out, pair, self.force)
        sides = [base.to_device(side, self.device) for side in sides]
        models = []
        for seed in range(self.seed, self.seed + self.seeds):
            echo(f"fitting {self.method}, seed {seed}")
            model = v2v.align.METHODS[self.method]()
            models.append(model.fit(*sides[:2], seed=seed, progress=interactive()))
        models[0].save(out)  # an interrupted diagnosis must not cost the fit
        best, found = best_of(models, sides[2], sides[3])
        model = models[best]
        model.save(out)
        result = {
            "out": out, "method": self.method, "source": model.source_name,
            "target": model.target_name, "pair": pair, "seed": model.seed,
            "diagnosis": found[best].as_dict(),
            "seeds": {m.seed: d.as_dict() for m, d in zip(models, found, strict=True)},
        }  # fmt: skip
        v2v.spaces.write_json(out / base.DIAGNOSIS, to_jsonable(result))
        among = f", the best of {len(models)} by the diagnosis" if models[1:] else ""
        line = f"{out}: {self.method}, seed {model.seed}{among}"
        return Result(result, [line, found[best].line()])


@dataclass(frozen=True)
class Translate(base.Command):
    """Translate vectors with a saved translator."""

    # What `v2v align` or `v2v train` saved.
    folder: base.Folder
    # .safetensors, .npy or a bundled name.
    vectors: base.Vectors
    # File to write, .safetensors or .npy (default: VECTORS.TARGET.safetensors).
    out: base.OptionalPath = None
    # Rows of a bundled space.
    part: base.Part = "all"

    def run(self) -> Result:
        model = v2v.align.Translator.load(self.folder)
        label = v2v.spaces.safe_name(model.target_name)
        out = self.out or Path(f"{self.vectors}.{label}.safetensors")
        base.ensure_writable(out, self.vectors, ending=base.ROWS)
        space = base.load_space(self.vectors, self.part)
        note = f"translated from {model.source_name} by {model.name}"
        about = {"encoder": model.target_name, "weights": "", "licence": ""}
        provenance = replace(space.provenance, **about, note=note)
        rows = v2v.spaces.Space(model.translate(space), provenance, ids=space.ids)
        rows.save(out)
        result = {"out": out, "rows": rows.n, "d": rows.d, "encoder": rows.name}
        return Result(result, [f"{out}: {rows.n:,} rows in the space of {rows.name}"])


@dataclass(frozen=True)
class Score(base.Command):
    """Score translations against the true vectors of the same texts, row by row."""

    # .safetensors or .npy; row i is the text of TARGET's row i.
    translated: base.Vectors
    # .safetensors, .npy or a bundled name.
    target: base.Target
    # Rows of a bundled space.
    part: base.Part = "all"
    # Rank by the cosine around the target's mean, or by the plain one.
    rank_by: Literal["centred", "cosine"] = "centred"

    def run(self) -> Result:
        rows = base.load_space(self.translated, self.part)
        target = base.load_space(self.target, self.part)
        _check_same_rows(rows, target)
        bar = interactive()
        found = v2v.measure.score(rows, target, rank_by=self.rank_by, progress=bar)
        return Result(found.as_dict(), [found.line()])


@dataclass(frozen=True)
class Diagnose(base.Command):
    """Estimate without pairs whether a saved translator aligned two spaces."""

    # What `v2v align` or `v2v train` saved.
    folder: base.Folder
    # Rows of the source: .safetensors, .npy or a bundled name.
    source: base.Source
    # Rows of the target, of other texts; best rows that the fit has not seen.
    target: base.Target
    # Folders of translators fitted with other seeds, to compare with.
    other_seeds: tuple[Path, ...] = ()
    # Rows a side (default: all).
    n_train: base.Int = None

    def run(self) -> Result:
        load = v2v.align.Translator.load
        model, *others = [load(folder) for folder in (self.folder, *self.other_seeds)]
        unseen = base.load_pair(self.source, self.target, self.n_train)[2:]
        bar = interactive()
        found = v2v.align.diagnose(model, *unseen, other_seeds=others, progress=bar)
        return Result(found.as_dict(), [found.line()])


def folder_name(*words: str) -> str:
    """The name of a folder for what is made of these spaces."""
    return "-".join(Path(word).stem for word in words)


def best_of(
    models: Sequence[Translator], source: Space, target: Space
) -> tuple[int, list[Diagnosis]]:
    """The index of the model with the best score, and the diagnoses of all.

    Each is diagnosed beside the others. Picking by pairs would be cheating here.
    """
    found, bar, diagnose = [], interactive(), v2v.align.diagnose
    for k, model in enumerate(models):
        echo(f"diagnosing seed {model.seed}")
        others = [*models[:k], *models[k + 1 :]]
        found.append(diagnose(model, source, target, other_seeds=others, progress=bar))
    return max(range(len(found)), key=lambda k: found[k].score), found


def _check_same_rows(one: Space, two: Space) -> None:
    ids = [space.ids.tolist() for space in (one, two) if space.ids is not None]
    if len(ids) == 2 and ids[0] != ids[1]:
        raise base.UsageError(
            f"the {one.n} and {two.n} rows are not of the same texts; give row i of "
            "both the same text (--part eval of bundled names?)"
        )
    names = {one.name, two.name} - {"unknown"}
    if len(names) > 1:
        both = " and ".join(sorted(names))
        raise base.UsageError(f"rows of {both} are in different spaces; translate them")
