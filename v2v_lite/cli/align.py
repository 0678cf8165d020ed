"""`v2v align`, `translate`, `score`, `diagnose`: the work itself, file by file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import v2v_lite as v2v

from . import base, unseen
from .methods import Start, expected_time, made, remarks

DIAGNOSIS = "diagnosis.json"


@dataclass(frozen=True)
class Fit(base.Command):
    """What `v2v align` and `v2v train` share: the pair, the folder, and the result."""

    # Bundled name (minilm, granite, arctic, wordllama), or a file of rows: .npy, .npz,
    # .safetensors, .parquet, .arrow, .jsonl, .pt, .fvecs, .faiss; FILE:NAME for a part.
    source: base.Source
    # The same for the space to translate into, the known one.
    target: base.Target
    # Folder to save into (default: one below runs that is named after the spaces).
    out: base.OptionalPath = None
    # The first seed.
    seed: int = 0
    # Number of seeds; the best is picked by the diagnosis, which needs no pairs.
    seeds: int = 1
    # Rows a side, drawn at random (default: all).
    n_train: base.Int = None
    # Leave out rows that hold NaN or nothing but zeros, when they are few.
    drop_bad: base.Flag = False
    # Where to compute; auto is the GPU when there is one.
    device: base.Device = "auto"
    # Overwrite what the folder holds of another pair or run.
    force: base.Flag = False
    # For selflearn and vec2vec, known pairs: two files, row i of both the same text.
    # Their rows are fitted with the others.
    pairs: base.TwoFiles = None

    def sides(self) -> list[v2v.spaces.Space]:
        """The rows to fit on, and those held back (see `unseen.load_pair`)."""
        words = self.source, self.target
        return unseen.load_pair(*words, self.n_train, self.seed, self.drop_bad)

    def folder(self, given: Path | None, *more: str) -> Path:
        """The folder to save into, `given` or named after the spaces, checked."""
        words = self.source, self.target
        stems = (v2v.spaces.safe_name(Path(word).stem) for word in (*words, *more))
        name = "-".join(stems)
        return base.checked_out(given or Path("runs", name), *words)

    def pair(self, source: v2v.spaces.Space, target: v2v.spaces.Space) -> list[str]:
        """Which spaces these are: their encoders, or the files if that is unknown."""
        names = (source.name, self.source), (target.name, self.target)
        return [str(Path(w).resolve()) if n == "unknown" else n for n, w in names]

    def keep_results(self, folder: Path, pair: list[str]) -> None:
        """Refuse a folder with a run, or with a translator of another pair."""
        from ..vec2vec.initialise import saved_steps

        if self.force:
            return
        read = v2v.spaces.read_header
        mend = "give another --out, or overwrite it by --force"
        if saved_steps(folder):
            raise base.UsageError(f"{folder} holds a run; go on by --resume, {mend}")
        there = pair
        if (folder / "model.json").exists():
            header = read(folder / "model.json", {"source": str, "target": str})
            there = [header["source"], header["target"]]
        if (folder / DIAGNOSIS).exists():
            there = read(folder / DIAGNOSIS, {"pair?": list}).get("pair", there)
        if there != pair and "unknown" not in there:
            both = " to ".join(map(str, there))
            raise base.UsageError(f"{folder} holds a translator from {both}; {mend}")

    def result(self, what: str, found: v2v.align.Diagnosis, **data: Any) -> base.Result:
        """The result of a fit: `data`, and the diagnosis of the best seed."""
        line = f"{data['out']}: {what}, seed {data['seed']}"
        if "step" in data:
            line += f", its networks of step {data['step']}"
        if len(data["seeds"]) > 1:
            line += f", the best of {len(data['seeds'])} by the diagnosis"
        data["diagnosis"] = asdict(found)
        return base.Result(data, [line, found.line()])


@dataclass(frozen=True)
class Align(Fit):
    """Align two spaces without any pair; save the translator and its diagnosis."""

    # Ours (selflearn), another method (mini, vec2vec, consensus, gw, gw-entropic,
    # sinkhorn, emd, hungarian), or a baseline (identity, mean, random).
    method: str = "selflearn"
    # Where selflearn starts: the best, by its objective, of anchors and the grown game
    # (chapter 12), or two draws of one of them.
    start: Start = "best"

    def run(self) -> base.Result:
        base.at_least_one(seeds=self.seeds)
        made(self.method, self.start)  # wrong words are said before the work
        out, sides = self.folder(self.out), self.sides()
        with v2v.spaces.locked(out):
            return self._fit(out, sides)

    def _fit(self, out: Path, sides: list[v2v.spaces.Space]) -> base.Result:
        pair, fitted = self.pair(*sides[:2]), sides[:2]
        self.keep_results(out, pair)
        known: dict[str, Any] = {}
        if self.pairs is not None:
            if self.method not in ("selflearn", "vec2vec"):
                raise base.UsageError(f"--pairs: {self.method} learns from none")
            sides[:2], known["pairs"] = unseen.with_pairs(sides[:2], self.pairs)
        sides, models = base.on_device(
            self.device, lambda device: self._fits([s.to(device) for s in sides], known)
        )
        models[0].save(out)  # an interrupted diagnosis must not cost the fit
        unseen.keep_rows(out, (self.source, self.target), *fitted)
        best, found = best_of(models, *sides[2:])
        model = models[best]
        model.save(out)
        result = self.result(
            self.method, found[best], out=out, method=self.method, seed=model.seed,
            source=model.source_name, target=model.target_name, pair=pair,
            rows=[side.n for side in fitted],
            seeds={m.seed: asdict(d) for m, d in zip(models, found, strict=True)},
        )  # fmt: skip
        v2v.spaces.write_json(out / DIAGNOSIS, base.to_jsonable(result.data))
        return result

    def _fits(
        self, sides: list[v2v.spaces.Space], known: dict[str, Any]
    ) -> tuple[list[v2v.spaces.Space], list[v2v.align.Translator]]:
        """The sides, on the device, and a translator of each seed."""
        models = []
        for seed in range(self.seed, self.seed + self.seeds):
            model = made(self.method, self.start)
            length = expected_time(model, *sides[:2])
            base.echo(f"fitting {self.method}, seed {seed}{length}")
            model.fit(*sides[:2], seed=seed, progress=base.interactive(), **known)
            for line in remarks(model):
                base.echo(line)
            models.append(model)
        return sides, models


@dataclass(frozen=True)
class Translate(base.Command):
    """Translate vectors with a saved translator."""

    # What `v2v align` or `v2v train` saved.
    folder: base.Folder
    # A file of rows (as for `v2v align`) or a bundled name.
    vectors: base.Vectors
    # File to write, .safetensors or .npy (default: VECTORS.TARGET.safetensors).
    out: base.OptionalPath = None
    # Rows of a bundled space.
    part: base.Part = "all"
    # Leave out rows that hold NaN or nothing but zeros, when they are few.
    drop_bad: base.Flag = False

    def run(self) -> base.Result:
        model = v2v.align.Translator.load(self.folder)
        unnamed = model.target_name == "unknown"
        label = "translated" if unnamed else v2v.spaces.safe_name(model.target_name)
        out = self.out or Path(f"{base.file_of(self.vectors)}.{label}.safetensors")
        base.checked_out(out, self.vectors, ending=base.ROWS)
        table = v2v.spaces.resolve_table(self.vectors, self.part)
        index = table.usable(None, self.drop_bad)
        if not len(index):
            raise base.UsageError(f"{self.vectors}: no rows")
        ids = None if table.ids is None else table.ids[index]
        note = f"translated from {model.source_name} by {model.name}"
        about = {"encoder": model.target_name, "weights": "", "licence": ""}
        d = model.widths[1] if model.widths else 0
        blocks = v2v.spaces.read_blocks(table, index)
        first = next(blocks)
        provenance = replace(first.provenance, **about, note=note)
        unseen.warn_of(model, first)
        moved = (model.translate(block) for block in chain([first], blocks))
        v2v.spaces.save_blocks(out, moved, (len(index), d), provenance, ids)
        gone = unseen.others(index, table.shape[0]).tolist()
        line = f"{out}: {len(index):,} translated rows, {d}-d"
        result = {"out": out, "rows": len(index), "d": d, "dropped": gone,
                  "encoder": provenance.encoder}  # fmt: skip
        return base.Result(result, [f"{line}, encoder {provenance.encoder}"])


@dataclass(frozen=True)
class Score(base.Command):
    """Score translations against the true vectors of the same texts, row by row."""

    # A file of rows; row i is the text of TARGET's row i.
    translated: base.Vectors
    # A file of rows or a bundled name.
    target: base.Target
    # Rows of a bundled space.
    part: base.Part = "all"
    # Rank by the cosine around the target's mean, or by the plain one.
    rank_by: Literal["centred", "cosine"] = "centred"
    # Size of the pool, drawn at random (default: all rows).
    pool: base.Int = None
    # Leave out rows that hold NaN or nothing but zeros, when they are few.
    drop_bad: base.Flag = False

    def run(self) -> base.Result:
        base.at_least_one(pool=self.pool)
        words = self.translated, self.target
        tables = [v2v.spaces.resolve_table(word, self.part) for word in words]
        check_same_rows(tables[0], tables[1])
        index = v2v.spaces.draw(tables[0].shape[0], self.pool, unseen.generator_of(0))
        for table in tables:
            index = table.usable(index, self.drop_bad)
        rows, target = (v2v.spaces.Space.of_table(table, index) for table in tables)
        by, bar = self.rank_by, base.interactive()
        found = v2v.measure.score(rows, target, rank_by=by, progress=bar)
        return base.Result(asdict(found), [found.line()])


@dataclass(frozen=True)
class Diagnose(base.Command):
    """Estimate without pairs whether a saved translator aligned two spaces."""

    # What `v2v align` or `v2v train` saved.
    folder: base.Folder
    # Rows of the source: a file or a bundled name.
    source: base.Source
    # Rows of the target, of other texts. Of the fit's own files, unseen rows are taken.
    target: base.Target
    # Folders of translators fitted with other seeds, to compare with.
    other_seeds: tuple[Path, ...] = ()
    # Rows a side to judge, drawn at random (default: 2,048, or all that are unseen).
    n_train: base.Int = None
    # Leave out rows that hold NaN or nothing but zeros, when they are few.
    drop_bad: base.Flag = False

    def run(self) -> base.Result:
        folders, words = (self.folder, *self.other_seeds), (self.source, self.target)
        model, *others = map(v2v.align.Translator.load, folders)
        sides = unseen.load_unseen(self.folder, words, self.n_train, self.drop_bad)
        unseen.warn_of(model, sides[0])
        bar = base.interactive()
        found = v2v.align.diagnose(model, *sides, other_seeds=others, progress=bar)
        return base.Result(asdict(found), [found.line()])


def best_of(
    models: Sequence[v2v.align.Translator], *unseen: v2v.spaces.Space
) -> tuple[int, list[v2v.align.Diagnosis]]:
    """The index of the model with the best score, and the diagnoses of all.

    Each is diagnosed beside the others. Picking by pairs would be cheating here.
    """
    found, bar, diagnose = [], base.interactive(), v2v.align.diagnose
    for k, model in enumerate(models):
        base.echo(f"diagnosing seed {model.seed}")
        others = [*models[:k], *models[k + 1 :]]
        found.append(diagnose(model, *unseen, other_seeds=others, progress=bar))
    return max(range(len(found)), key=lambda k: found[k].score), found


def check_same_rows(
    one: v2v.spaces.Table, two: v2v.spaces.Table, encoder: bool = True
) -> None:
    """UsageError unless row i of both may be of one text, and of one `encoder`."""
    # Ids of somebody's store and ours, of texts, say nothing of each other.
    alike = bool(one.header) == bool(two.header)
    ids = [t.ids.tolist() for t in (one, two) if t.ids is not None and alike]
    if one.shape[0] != two.shape[0] or (len(ids) == 2 and ids[0] != ids[1]):
        fact = f"the {one.shape[0]} and {two.shape[0]} rows are not of the same texts"
        mend = "give row i of both the same text (--part eval of bundled names?)"
        raise base.UsageError(f"{fact}; {mend}")
    names = {one.name, two.name}
    if encoder and len(names - {"unknown"}) > 1:
        both = " and ".join(sorted(names))
        raise base.UsageError(f"rows of {both} are in different spaces; translate them")
