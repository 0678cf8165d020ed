"""`v2v attack` and `v2v defend`: what stolen vectors reveal, and what protects them."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg, subcommand

import v2v_lite as v2v

from . import base
from .streams import Result, echo, interactive, to_jsonable

if TYPE_CHECKING:
    from torch import Tensor

    from ..align import Translator
    from ..privacy import EncoderScorer, Proposal
    from ..spaces import Space

__all__ = ["Attack", "Attributes", "Defend", "Inversion"]

SETS = ("posts", "emails", "notes")  # the bundled documents; a test compares them
QUERIES = 500  # rows of a defended database that its recall is measured with


@dataclass(frozen=True)
class Attributes(base.Command):
    """Infer labels, described in words, from stolen vectors; nothing is trained."""

    # Stolen rows (.safetensors, .npy), or a bundled set: posts, emails, notes.
    vectors: base.Vectors
    # Folder of `v2v align`, from the stolen rows' encoder to the attacker's.
    translator: base.Folder
    # .json {key: description} or .csv (default: those of the bundled set).
    labels: base.OptionalPath = None
    # The attacker's encoder (default: the translator's target).
    encoder: base.Text = None
    # Correction of labels that are near to every row.
    correct: Literal["none", "csls", "standard"] = "standard"
    # Labels to name for each row.
    top: int = 3
    # JSON file for all rows' labels.
    out: base.OptionalPath = None

    def run(self) -> Result:
        base.at_least_one(top=self.top)
        if self.out:
            base.ensure_writable(self.out, self.vectors, self.labels, ending=".json")
        model = v2v.align.Translator.load(self.translator)
        if self.labels:
            labels = v2v.privacy.attributes.read_described(self.labels)
        elif self.vectors in SETS:
            labels = v2v.spaces.load_documents(self.vectors).labels
        else:
            raise base.UsageError("no labels; give --labels FILE with descriptions")
        rows = self._rows(model)
        encoder = self.encoder or model.target_name
        words = v2v.privacy.label_vectors(
            labels, lambda texts: v2v.spaces.encode(texts, encoder, progress=False)
        )
        found = v2v.privacy.scores(model.translate(rows), words, self.correct)
        first = found.topk(min(self.top, len(labels)), dim=1)
        named = [[labels[j].key for j in row] for row in first.indices.tolist()]
        counts = dict(Counter(row[0] for row in named).most_common())
        result: dict[str, Any] = {"rows": rows.n, "labels": len(labels)}
        result |= {"encoder": encoder, "answered": counts}
        lines = [f"{rows.n:,} rows, {len(labels)} labels; first answers:"]
        lines += [f"  {key}: {n}" for key, n in list(counts.items())[:10]]
        if self.vectors in SETS and self.labels is None:
            result["scored"], more = self._score(found, rows, words, encoder)
            lines += more
        if self.out:
            table = {"first": named, "scores": first.values.tolist()}
            v2v.spaces.write_json(self.out, table)
            lines.append(f"{self.out}: {self.top} labels for each row")
        return Result(result, lines)

    def _rows(self, model: Translator) -> Space:
        if self.vectors not in SETS:
            return base.load_space(self.vectors)
        if model.source_name not in v2v.spaces.NAMES:
            raise base.UsageError(
                f"{self.vectors} is bundled under {', '.join(v2v.spaces.NAMES)}, but "
                f"the translator goes from {model.source_name}"
            )
        private = v2v.spaces.load_documents(self.vectors, "private")
        return v2v.spaces.document_space(private, model.source_name)

    def _score(
        self, found: Tensor, rows: Space, words: Tensor, encoder: str
    ) -> tuple[dict[str, dict], list[str]]:
        # Labels of the bundled documents are known: baselines and the ideal beside it.
        from ..privacy import attribute_leakage, baselines, scores

        private = v2v.spaces.load_documents(self.vectors, "private")
        hot, keys = private.multi_hot(), [x.key for x in private.labels]
        table = {"attack": attribute_leakage(found, hot, keys)}
        if encoder in v2v.spaces.NAMES:
            truth = v2v.spaces.document_space(private, encoder)
            table["ideal"] = attribute_leakage(scores(truth, words, self.correct), hot)
            others = baselines(rows, words, hot, truth.mean)
            table |= {name: attribute_leakage(s, hot) for name, s in others.items()}
        lines = [f"{name:<9}{one.line()}" for name, one in table.items()]
        return {name: asdict(one) for name, one in table.items()}, lines


@dataclass(frozen=True)
class Inversion(base.Command):
    """Write a likely text for each vector, guided by an encoder of the attacker."""

    # In the encoder's space, or the translator's source: .safetensors, .npy, name.
    vectors: base.Vectors
    # Texts of the same kind: a file, or the public part of posts, emails or notes.
    own: str = "notes"
    # The attacker's encoder: short name, hub name owner/model, or a model's folder.
    encoder: str = "minilm"
    # Folder of `v2v align`, to translate the vectors first.
    translator: base.OptionalPath = None
    # Hub name or folder of a causal language model (default: n-grams of OWN).
    lm: base.Text = None
    # Only the first of the vectors (default: all).
    rows: base.Int = None
    # Beam width of the search.
    beam: int = 8
    # Longest text (default: the median length of OWN).
    words: base.Int = None
    # File to write.
    out: Path = Path("runs/inversion.json")

    def run(self) -> Result:
        from ..privacy import CausalLM, NgramLM, SearchConfig, Stopped, invert, tokens

        base.ensure_writable(self.out, self.vectors, self.own, ending=".json")
        base.at_least_one(rows=self.rows)
        texts = self._own()
        lengths = sorted(len(tokens(text)) for text in texts)
        words = lengths[len(lengths) // 2] if self.words is None else self.words
        config = SearchConfig(beam=self.beam, words=words)
        proposal = CausalLM(self.lm) if self.lm else NgramLM.fit(texts)
        vectors = base.load_space(self.vectors)
        scorer, own = self._scorer(proposal, texts)
        rows = vectors.vectors
        if self.translator:
            moved = v2v.align.Translator.load(self.translator).translate(vectors)
            rows = v2v.privacy.recentre_rows(moved, own.vectors)
        some, bar = rows[: self.rows], interactive()
        echo(f"searching texts for {len(some):,} vectors")
        try:
            found = self._write(invert(some, proposal, scorer, config, progress=bar))
        except Stopped as stop:
            self._write(stop.found)
            raise KeyboardInterrupt(f"{stop}; they are in {self.out}") from None
        echo(f"{self.out} is written")
        lines = [f"{one['cosine']:.2f}  {one['text']}" for one in found]
        return Result({"out": self.out, "texts": found}, lines)

    def _own(self) -> list[str]:
        if self.own in SETS:
            return v2v.spaces.load_documents(self.own, "public").texts
        return v2v.spaces.read_texts(Path(self.own))

    def _scorer(
        self, proposal: Proposal, texts: list[str]
    ) -> tuple[EncoderScorer, Space]:
        from ..privacy import EncoderScorer

        def rows(some: list[str]) -> Tensor:
            bar = interactive() and len(some) > 2000
            return v2v.spaces.encode(some, self.encoder, 128, progress=bar).vectors

        own = v2v.spaces.encode(texts, self.encoder, 128, progress=interactive())
        if self.lm:  # its tokens are no words: every candidate is encoded
            return EncoderScorer(rows, own.mean), own
        return EncoderScorer.fit(proposal.words, rows, texts, own), own

    def _write(self, found: list) -> list[dict]:
        table = [asdict(one) for one in found]
        v2v.spaces.write_json(self.out, to_jsonable(table))
        return table


@dataclass(frozen=True)
class Attack:
    """Read stolen vectors without a pair."""

    command: Annotated[
        Annotated[Attributes, subcommand("attributes")]
        | Annotated[Inversion, subcommand("inversion")],
        arg(name=""),
    ]


# Every defence of `v2v_lite.privacy`, and the old names of four, which go in version
# 0.3; a test compares the two.
Kind = Literal[
    "noise", "keyed-noise", "truncate", "quantise", "rotate", "scale", "rff",
    "knn-average", "remove-top",
]  # fmt: skip


@dataclass(frozen=True)
class Defend(base.Command):
    """Defend the vectors of a database, and measure what it costs its own search."""

    # .safetensors, .npy or a bundled name.
    vectors: base.Vectors
    # The defence.
    kind: Kind = "noise"
    # Its meaning depends on the kind: length of the noise, dimensions kept, ...
    strength: float = 0.5
    # The owner's secret number (default: drawn; keep it).
    key: base.Int = None
    # File to write, .safetensors or .npy (default: VECTORS.KIND.safetensors).
    out: base.OptionalPath = None
    # Rows of a bundled space.
    part: base.Part = "all"

    def run(self) -> Result:
        from ..privacy import DEFENCES, Defence, recall

        out = self.out or Path(f"{self.vectors}.{self.kind}.safetensors")
        base.ensure_writable(out, self.vectors, ending=base.ROWS)
        space = base.load_space(self.vectors, self.part)
        if space.n < 40:
            raise base.UsageError(f"{space.n} rows, but the cost needs at least 40")
        key = secrets.randbits(53) if self.key is None else self.key
        rows = space.vectors
        defence = Defence(self.kind, self.strength, key)
        stored = defence.protect(rows)
        note = f"defended: {self.kind} {self.strength:g}"
        provenance = replace(space.provenance, note=note)
        v2v.spaces.Space(stored, provenance, ids=space.ids).save(out)
        if self.key is None:
            echo(f"the key is {key}: keep it, queries need it")
        step = max(space.n // QUERIES, 2)  # every step-th row asks, the others answer
        queries, keep = rows[::step], [i for i in range(space.n) if i % step]
        k, asked = min(10, len(keep)), defence.protect_query(queries, rows)
        cost = recall(stored[keep], asked, rows[keep], queries, k)
        result = {
            "out": out, "kind": self.kind, "strength": self.strength, "key": key,
            "rows": space.n, "d": stored.shape[1], f"recall@{k}": cost.mean,
            "se": cost.se, "queries": len(queries),
        }  # fmt: skip
        meaning = f", {DEFENCES[self.kind].strength} {self.strength:g}"
        line = f"{out}: {self.kind}{'' if self.kind == 'rotate' else meaning}"
        line += f"; recall@{k} {cost} of {len(queries)} queries in {len(keep):,} rows"
        linear = self.kind in ("rotate", "scale")
        more = ["an invertible linear map hides nothing: see chapter 15"]
        return Result(result, [line, *(more if linear else [])])
