"""`v2v attack` and `v2v defend`: what stolen vectors give away, and what hides it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .base import Command, rows_of, say, write_rows

if TYPE_CHECKING:
    from ..align import Translator
    from ..spaces import Label, Space

QUESTIONS = 500  # rows of the database that its recall is measured with


@dataclass(frozen=True)
class Attributes(Command):
    """Read labels, described in words, out of stolen vectors; nothing is trained."""

    vectors: str
    """Stolen rows (.safetensors, .npy), or a bundled set: posts, emails, notes."""
    translator: Path
    """What `v2v align` saved, from the stolen rows' encoder to the attacker's."""
    labels: Path | None = None
    """.json {key: description} or .csv (default: those of the bundled set)."""
    encoder: str | None = None
    """The attacker's encoder (default: the one that is translated into)."""
    correct: Literal["none", "csls", "standard"] = "standard"
    """How labels that are near to everything are held back."""
    top: int = 3
    """Labels to name for each row."""
    out: Path | None = None
    """JSON file for all rows' labels."""

    def run(self) -> None:
        from ..align import Translator
        from ..privacy import check_labels, label_vectors, read_described, scores
        from ..spaces import DataError, encode, write_json
        from ..spaces.documents import SETS

        model = Translator.load(self.translator)
        bundled = self.vectors in SETS
        if not bundled and self.labels is None:
            raise DataError("whose labels? give --labels FILE, with their descriptions")
        labels = read_described(self.labels) if self.labels else self._own_labels()
        check_labels(labels)
        if self.top < 1:
            raise DataError(f"top = {self.top}, but at least 1 is needed")
        rows = self._stolen(model) if bundled else rows_of(self.vectors)
        z = model.translate(rows)
        encoder = self.encoder or model.target_name
        words = label_vectors(labels, lambda t: encode(t, encoder, progress=False))
        found = scores(z, words, self.correct)
        first = found.topk(min(self.top, len(labels)), dim=1)
        named = [[labels[j].key for j in row] for row in first.indices.tolist()]
        result = {
            "rows": rows.n,
            "labels": len(labels),
            "encoder": encoder,
            "answered": _counts([row[0] for row in named]),
        }
        text = [f"{rows.n:,} rows, {len(labels)} labels; first answers:"]
        text += [f"  {k}: {n}" for k, n in list(result["answered"].items())[:10]]
        if bundled and self.labels is None:
            result["scored"], more = self._score(found, rows, words)
            text += more
        if self.out:
            write_json(self.out, {"first": named, "scores": first.values.tolist()})
        self.give(result, text)

    def _own_labels(self) -> tuple[Label, ...]:
        from ..spaces import load_documents

        return load_documents(self.vectors).labels

    def _stolen(self, model: Translator) -> Space:
        from ..spaces import NAMES, DataError, document_space, load_documents

        if model.source_name not in NAMES:
            raise DataError(
                f"{self.vectors} is bundled under {', '.join(NAMES)}, but the "
                f"translator goes from {model.source_name}"
            )
        private = load_documents(self.vectors, "private")
        return document_space(private, model.source_name)

    def _score(self, found, rows: Space, words) -> tuple[dict, list[str]]:
        # Labels of the bundled documents are known: floors and the ideal beside it.
        from ..privacy import attribute_leakage, baselines, scores
        from ..spaces import NAMES, document_space, load_documents

        private = load_documents(self.vectors, "private")
        hot, encoder = private.multi_hot(), self.encoder or "minilm"
        told = {
            "attack": attribute_leakage(found, hot, [x.key for x in private.labels])
        }
        if encoder in NAMES:
            truth = document_space(private, encoder)
            told["ideal"] = attribute_leakage(scores(truth, words, self.correct), hot)
            for name, s in baselines(rows, words, hot, truth.mean).items():
                told[name] = attribute_leakage(s, hot)
        result = {
            name: {"top1": one.top[1].mean, "top3": one.top[3].mean,
                   "map": one.map.mean}
            for name, one in told.items()
        }  # fmt: skip
        result["attack"]["per_label"] = told["attack"].per_label
        return result, [f"{name:<9}{one.line()}" for name, one in told.items()]


@dataclass(frozen=True)
class Defend(Command):
    """Defend the vectors of a database, and tell what it costs its own search."""

    vectors: str
    """.safetensors, .npy or a bundled name."""
    kind: str = "noise"
    """noise, keyed-noise, truncate, quantise, rotate, scale, rff, knn-average,
    remove-top."""
    strength: float = 0.5
    """Its meaning depends on the kind: length of the noise, dimensions kept, ..."""
    key: int | None = None
    """The owner's secret number (default: drawn; keep it)."""
    out: Path | None = None
    """File to write, .safetensors or .npy (default: VECTORS.KIND.safetensors)."""
    part: Literal["all", "train", "eval"] = "all"
    """Of a bundled space: which rows."""

    def run(self) -> None:
        import secrets

        from ..privacy import DEFENCES, Defence, recall
        from ..privacy.defences import RENAMED
        from ..spaces import DataError, Space

        kind = RENAMED.get(self.kind, self.kind)
        if kind != self.kind:
            say(f"warning: --kind {self.kind} is now --kind {kind}; the old name goes")
        space = rows_of(self.vectors, self.part)
        if space.n < 40:
            raise DataError(f"{space.n} rows, but at least 40 are needed for the cost")
        key = secrets.randbits(53) if self.key is None else self.key
        defence = Defence(kind, self.strength, key)
        out = self.out or Path(f"{self.vectors}.{kind}.safetensors")
        rows = space.vectors
        note = f"defended: {kind} {self.strength:g}"
        about = replace(space.provenance, note=note)
        stored = defence.protect(rows)
        write_rows(out, Space(stored, about, ids=space.ids))
        step = max(space.n // QUESTIONS, 2)  # every step-th row asks, the others answer
        asks = rows[::step]
        keep = [i for i in range(space.n) if i % step]
        k = min(10, len(keep))
        cost = recall(
            stored[keep], defence.protect_query(asks, rows), rows[keep], asks, k
        )
        if self.key is None:
            say(f"the key is {key}: keep it, questions have to be asked with it")
        result = {
            "out": out, "kind": kind, "strength": self.strength, "key": key,
            "rows": space.n, "d": stored.shape[1], f"recall@{k}": cost.mean,
            "se": cost.se, "questions": len(asks),
        }  # fmt: skip
        meaning = DEFENCES[kind].strength
        line = f"{out}: {kind}, {meaning} {self.strength:g}; recall@{k} {cost}"
        text = [f"{line} of {len(asks)} questions among {len(keep):,} rows"]
        if kind in ("rotate", "scale"):
            text.append("an invertible linear map hides nothing: see chapter 15")
        self.give(result, text)


def _counts(keys: list[str]) -> dict[str, int]:
    from collections import Counter

    return dict(Counter(keys).most_common())
