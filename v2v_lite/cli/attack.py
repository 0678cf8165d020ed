"""`v2v attack` and `v2v defend`: what stolen vectors reveal, and what protects them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg, subcommand

from .base import (
    ROWS,
    Command,
    Number,
    OptionalPath,
    Part,
    Text,
    Vectors,
    ensure_writable,
    load_space,
    save_rows,
)
from .streams import Result, echo, interactive, to_jsonable

if TYPE_CHECKING:
    from torch import Tensor

    from ..align import Translator
    from ..measure import Estimate
    from ..privacy import Defense, Guide, Proposal
    from ..spaces import Label, Space

__all__ = ["Attack", "Attributes", "Defend", "Inversion"]

QUESTIONS = 500  # rows of the database that its recall is measured with


@dataclass(frozen=True)
class Attributes(Command):
    """Infer labels, described in words, from stolen vectors; nothing is trained."""

    vectors: Vectors
    """Stolen rows (.safetensors, .npy), or a bundled set: posts, emails, notes."""
    translator: Annotated[Path, Positional, arg(metavar="TRANSLATOR")]
    """Folder of `v2v align`, from the stolen rows' encoder to the attacker's."""
    labels: OptionalPath = None
    """.json {key: description} or .csv (default: those of the bundled set)."""
    encoder: Text = None
    """The attacker's encoder (default: the translator's target)."""
    correct: Literal["none", "csls", "standard"] = "standard"
    """Correction of labels that are near to every row."""
    top: int = 3
    """Labels to name for each row."""
    out: OptionalPath = None
    """JSON file for all rows' labels."""

    def run(self) -> Result:
        from ..align import Translator
        from ..privacy import check_labels, label_vectors, read_described, scores
        from ..spaces import DataError, encode, write_json
        from ..spaces.documents import SETS

        if self.out:
            ensure_writable(self.out, self.vectors, self.labels, ending=".json")
        model = Translator.load(self.translator)
        bundled = self.vectors in SETS
        if not bundled and self.labels is None:
            raise DataError("no labels; give --labels FILE, with their descriptions")
        labels = read_described(self.labels) if self.labels else self._own_labels()
        check_labels(labels)
        if self.top < 1:
            raise DataError(f"top = {self.top}, but at least 1 is needed")
        rows = self._stolen(model) if bundled else load_space(self.vectors)
        encoder = self.encoder or model.target_name
        words = label_vectors(labels, lambda t: encode(t, encoder, progress=False))
        found = scores(model.translate(rows), words, self.correct)
        first = found.topk(min(self.top, len(labels)), dim=1)
        named = [[labels[j].key for j in row] for row in first.indices.tolist()]
        counts = dict(Counter(row[0] for row in named).most_common())
        result: dict[str, Any] = {
            "rows": rows.n,
            "labels": len(labels),
            "encoder": encoder,
            "answered": counts,
        }
        text = [f"{rows.n:,} rows, {len(labels)} labels; first answers:"]
        text += [f"  {key}: {n}" for key, n in list(counts.items())[:10]]
        if bundled and self.labels is None:
            result["scored"], more = self._score(found, rows, words, encoder)
            text += more
        if self.out:
            write_json(self.out, {"first": named, "scores": first.values.tolist()})
            text.append(f"{self.out}: {self.top} labels for each row")
        return Result(result, text)

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

    def _score(
        self, found: Tensor, rows: Space, words: Tensor, encoder: str
    ) -> tuple[dict, list[str]]:
        # Labels of the bundled documents are known: baselines and the ideal beside it.
        from ..privacy import controls, leak, scores
        from ..spaces import NAMES, document_space, load_documents

        private = load_documents(self.vectors, "private")
        hot = private.hot()
        table = {"attack": leak(found, hot, [x.key for x in private.labels])}
        if encoder in NAMES:
            truth = document_space(private, encoder)
            table["ideal"] = leak(scores(truth, words, self.correct), hot)
            for name, s in controls(rows, words, hot, truth.mean).items():
                table[name] = leak(s, hot)
        result: dict[str, dict] = {
            name: {"top1": one.top[1].mean, "top3": one.top[3].mean,
                   "map": one.map.mean}
            for name, one in table.items()
        }  # fmt: skip
        result["attack"]["per_label"] = table["attack"].per_label
        return result, [f"{name:<9}{one.line()}" for name, one in table.items()]


@dataclass(frozen=True)
class Inversion(Command):
    """Write a likely text for each vector, guided by an encoder of the attacker."""

    vectors: Vectors
    """In the encoder's space, or the translator's source: .safetensors, .npy, name."""
    own: str = "notes"
    """Texts of the same kind: a file, or the public part of posts, emails or notes."""
    encoder: str = "minilm"
    """The attacker's encoder: short name, hub name owner/model, or a model's folder."""
    translator: OptionalPath = None
    """Folder of `v2v align`, to translate the vectors first."""
    lm: Text = None
    """Hub name or folder of a causal language model (default: n-grams of OWN)."""
    rows: Number = None
    """Only the first of the vectors (default: all)."""
    beam: int = 8
    """Beam width of the search."""
    words: Number = None
    """Longest text (default: the median length of OWN)."""
    out: Path = Path("runs/inversion.json")
    """File to write."""

    def run(self) -> Result:
        from ..privacy import CausalLM, NgramLM, SearchConfig, Stopped, invert, tokens
        from ..spaces import DataError

        ensure_writable(self.out, self.vectors, self.own, ending=".json")
        if self.rows is not None and self.rows < 1:
            raise DataError(f"rows = {self.rows}, but at least 1 is needed")
        texts = self._own()
        lengths = sorted(len(tokens(text)) for text in texts)
        words = lengths[len(lengths) // 2] if self.words is None else self.words
        config = SearchConfig(beam=self.beam, words=words)
        proposal = CausalLM(self.lm) if self.lm else NgramLM.fit(texts)
        vectors = load_space(self.vectors)
        guide, own = self._guide(proposal, texts)
        if self.translator:
            vectors = self._translated(self.translator, vectors, own)
        some = vectors.vectors[: self.rows]
        echo(f"searching texts for {len(some):,} vectors")
        try:
            found = invert(some, proposal, guide, config, progress=interactive())
        except Stopped as stop:
            self._write(stop.found)
            raise KeyboardInterrupt(f"{stop}; they are in {self.out}") from None
        self._write(found)
        echo(f"{self.out} is written")
        return Result(
            {"out": self.out, "texts": [asdict(one) for one in found]},
            [f"{one.cosine:.2f}  {one.text}" for one in found],
        )

    def _own(self) -> list[str]:
        from ..spaces import load_documents, read_texts
        from ..spaces.documents import SETS

        if self.own in SETS:
            return load_documents(self.own, "public").texts
        return read_texts(Path(self.own))

    def _guide(self, proposal: Proposal, texts: list[str]) -> tuple[Guide, Space]:
        from ..privacy import Guide
        from ..spaces import encode

        def rows(some: list[str]) -> Tensor:
            bar = interactive() and len(some) > 2000
            return encode(some, self.encoder, 128, progress=bar).vectors

        own = encode(texts, self.encoder, 128, progress=interactive())
        if self.lm:  # its tokens are no words: every candidate is encoded
            return Guide(rows, own.mean), own
        return Guide.fit(proposal.words, rows, texts, own), own

    @staticmethod
    def _translated(folder: Path, vectors: Space, own: Space) -> Space:
        from ..align import Translator
        from ..privacy.guide import recentre

        model = Translator.load(folder)
        moved = recentre(model.translate(vectors), own.vectors)
        return replace(vectors, vectors=moved, mean=None)

    def _write(self, found: list) -> None:
        from ..spaces import write_json

        write_json(self.out, to_jsonable([asdict(one) for one in found]))


@dataclass(frozen=True)
class Attack:
    """Read stolen vectors without a pair."""

    command: Annotated[
        Annotated[Attributes, subcommand("attributes")]
        | Annotated[Inversion, subcommand("inversion")],
        arg(name=""),
    ]


# Every defence of `v2v_lite.privacy`; a test compares the two.
Kind = Literal[
    "noise", "keyed-noise", "truncate", "quantise", "rotate", "stretch", "bend",
    "average", "drop",
]  # fmt: skip


@dataclass(frozen=True)
class Defend(Command):
    """Defend the vectors of a database, and measure what it costs its own search."""

    vectors: Vectors
    """.safetensors, .npy or a bundled name."""
    kind: Kind = "noise"
    """The defence."""
    strength: float = 0.5
    """Its meaning depends on the kind: length of the noise, dimensions kept, ..."""
    key: Number = None
    """The owner's secret number (default: drawn; keep it)."""
    out: OptionalPath = None
    """File to write, .safetensors or .npy (default: VECTORS.KIND.safetensors)."""
    part: Part = "all"
    """Rows of a bundled space."""

    def run(self) -> Result:
        import secrets

        from ..privacy import DEFENSES, Defense
        from ..spaces import DataError, Space

        out = self.out or Path(f"{self.vectors}.{self.kind}.safetensors")
        ensure_writable(out, self.vectors, ending=ROWS)
        space = load_space(self.vectors, self.part)
        if space.n < 40:
            raise DataError(f"{space.n} rows, but at least 40 are needed for the cost")
        key = secrets.randbits(53) if self.key is None else self.key
        defense = Defense(self.kind, self.strength, key)
        stored = defense.store(space.vectors)
        note = f"defended: {self.kind} {self.strength:g}"
        about = replace(space.provenance, note=note)
        save_rows(out, Space(stored, about, ids=space.ids))
        if self.key is None:
            echo(f"the key is {key}: keep it, queries need it")
        cost, k, asked = self._cost(defense, space.vectors, stored)
        result = {
            "out": out, "kind": self.kind, "strength": self.strength, "key": key,
            "rows": space.n, "d": stored.shape[1], f"recall@{k}": cost.mean,
            "se": cost.se, "questions": asked,
        }  # fmt: skip
        meaning = DEFENSES[self.kind].strength
        line = f"{out}: {self.kind}, {meaning} {self.strength:g}; recall@{k} {cost}"
        text = [f"{line} of {asked} queries among {space.n - asked:,} rows"]
        if self.kind in ("rotate", "stretch"):
            text.append("an invertible linear map hides nothing: see chapter 15")
        return Result(result, text)

    @staticmethod
    def _cost(
        defense: Defense, rows: Tensor, stored: Tensor
    ) -> tuple[Estimate, int, int]:
        # Every step-th row is a query, the others are the database.
        from ..privacy import recall

        step = max(len(rows) // QUESTIONS, 2)
        queries = rows[::step]
        keep = [i for i in range(len(rows)) if i % step]
        k = min(10, len(keep))
        asked = defense.ask(queries, rows)
        return recall(stored[keep], asked, rows[keep], queries, k), k, len(queries)
