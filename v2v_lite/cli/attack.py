"""`v2v attack` and `v2v defend`: what stolen vectors reveal, and what protects them."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median_high
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

import v2v_lite as v2v

from . import base, slots, unseen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

QUERIES = 500  # rows of a defended database that its recall is measured with


def labels_of_rows(path: Path, n: int) -> Tensor:
    """`(n, labels)` of zeros and ones, from a JSON list of a label or labels a row."""
    import torch

    found = v2v.spaces.read_json(path)
    if not isinstance(found, list) or len(found) != n:
        raise base.UsageError(f"{path}: give a list of {n:,} labels, one for each row")
    sets = [{*map(str, x)} if isinstance(x, list) else {str(x)} for x in found]
    names = sorted(set().union(*sets))
    return torch.tensor([[float(name in one) for name in names] for one in sets])


@dataclass(frozen=True)
class Attributes(slots.Stolen):
    """Infer labels, described in words, from stolen vectors; nothing is trained."""

    # .json {key: description} or .csv (default: those of the bundled set).
    labels: base.OptionalPath = None
    # The attacker's encoder (default: the translator's target).
    encoder: base.Text = None
    # Correction of labels that are near to every row.
    correct: Literal["none", "csls", "standard"] = "standard"
    # Labels to name for each row.
    top: int = 3

    def run(self) -> base.Result:
        base.at_least_one(top=self.top)
        model, documents, rows = self.load(self.labels)
        labels = documents.labels if documents else ()
        if self.labels:
            labels = v2v.privacy.attributes.read_described(self.labels)
        if not labels:
            raise base.UsageError("no labels; give --labels FILE with descriptions")
        encoder = self.encoder or model.target_name
        words = v2v.privacy.label_vectors(
            labels, lambda texts: v2v.spaces.encode(texts, encoder, progress=False)
        )
        found = v2v.privacy.scores(model.translate(rows), words, self.correct)
        first = found.topk(min(self.top, len(labels)), dim=1)
        named = [[labels[j].key for j in row] for row in first.indices.tolist()]
        counts = dict(Counter(row[0] for row in named).most_common())
        result: dict[str, Any] = {"rows": rows.n, "labels": len(labels),
                                  "encoder": encoder, "answered": counts}  # fmt: skip
        lines = [f"{rows.n:,} rows, {len(labels)} labels; first answers:"]
        lines += [f"  {key}: {n}" for key, n in list(counts.items())[:10]]
        if documents and not self.labels:
            of, hot = {"attack": found}, documents.multi_hot()
            if encoder in v2v.spaces.NAMES:  # the true vectors, and baselines
                truth = v2v.spaces.document_space(documents, encoder)
                of["ideal"] = v2v.privacy.scores(truth, words, self.correct)
                of |= v2v.privacy.baselines(rows, words, hot, truth.mean)
            keys = [label.key for label in labels]
            leaks = {k: v2v.privacy.attribute_leakage(of[k], hot, keys) for k in of}
            result["scored"] = {name: asdict(one) for name, one in leaks.items()}
            lines += [f"{name:<9}{one.line()}" for name, one in leaks.items()]
        if self.out:
            table = {"first": named, "scores": first.values.tolist()}
            v2v.spaces.write_json(self.out, table)
            lines.append(f"{self.out}: {self.top} labels for each row")
        return base.Result(result, lines)


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
    # Hub name, folder or .gguf file of a causal language model (default: n-grams of
    # OWN).
    lm: base.Text = None
    # Only the first of the vectors (default: all).
    rows: base.Int = None
    # Beam width of the search.
    beam: int = 8
    # Longest text, in words or tokens of LM (default: the median length of OWN).
    words: base.Int = None
    # Changed texts to encode per row in each round of edits (0: no edits).
    edits: int = 0
    # Rounds of edits, at most.
    rounds: int = 4
    # Times that edits begin again at parts of the best text.
    restarts: int = 0
    # Nearest texts of OWN at which edits begin as well (default: none).
    drafts: base.Int = None
    # File to write.
    out: Path = Path("runs/inversion.json")

    def run(self) -> base.Result:
        from ..privacy import EncoderScorer, SearchConfig, Stopped

        base.checked_out(self.out, self.vectors, self.own, ending=".json")
        base.at_least_one(rows=self.rows, drafts=self.drafts)
        if not self.edits and (self.drafts or self.restarts):
            raise base.UsageError("drafts and restarts need edits; give --edits 32")
        documents = slots.bundled_documents(self.own, "public")
        texts = documents.texts if documents else v2v.spaces.read_texts(Path(self.own))
        config = SearchConfig(
            beam=self.beam, edits=self.edits, rounds=self.rounds, restarts=self.restarts
        )
        proposal, words = self._proposal(texts)
        count = words.rows if words else v2v.privacy.tokens
        middle = median_high(len(count(text)) for text in texts)
        config = replace(config, words=middle if self.words is None else self.words)
        vectors = v2v.spaces.resolve(self.vectors)
        encode = v2v.spaces.open_encoder(self.encoder, 128)
        own = encode(list(texts))
        if words:
            scorer = EncoderScorer.fit(words.words, encode, texts, own)
        else:  # its tokens are no words: every candidate is encoded
            scorer = EncoderScorer(encode, own.mean(0))
        rows = vectors.vectors
        if self.translator:
            model = v2v.align.Translator.load(self.translator)
            unseen.warn_of(model, vectors)
            rows = v2v.privacy.recentre_rows(model.translate(vectors), own)
        some, bar = rows[: self.rows], base.interactive()
        base.echo(f"searching texts for {len(some):,} vectors")
        near = scorer.target(some) @ scorer.target(own).T
        nearest = near.topk(min(self.drafts or 0, len(texts))).indices.tolist()
        drafts = [[texts[i] for i in row] for row in nearest]
        search = partial(v2v.privacy.invert, drafts=drafts, progress=bar)
        try:
            found = search(some, proposal, scorer, config)
        except Stopped as stop:
            self._write(stop.found)
            raise KeyboardInterrupt(f"{stop}; they are in {self.out}") from None
        table = self._write(found)
        base.echo(f"{self.out} is written")
        lines = [f"{one.cosine:.2f}  {one.text}" for one in found]
        return base.Result({"out": self.out, "texts": table}, lines)

    def _proposal(self, texts: Sequence[str]) -> tuple[Any, Any]:
        # The proposal model, and its words where a word table can be fitted on them.
        from ..privacy import CausalLM, NgramLM

        if self.lm:
            return CausalLM(self.lm), None
        model = NgramLM.fit(texts)
        return model, model

    def _write(self, found: list[v2v.privacy.Inverted]) -> list[dict]:
        table = base.to_jsonable([asdict(one) for one in found])
        v2v.spaces.write_json(self.out, table)
        return table


@dataclass(frozen=True)
class Attack:
    """Read stolen vectors without a pair."""

    command: Annotated[
        Attributes | Inversion | slots.Questionnaire | slots.Fingerprint, arg(name="")
    ]


@dataclass(frozen=True)
class Defend(base.Command):
    """Defend the vectors of a database, and measure what it costs its own search."""

    # .safetensors, .npy or a bundled name.
    vectors: base.Vectors
    # noise, keyed-noise, truncate, quantise, rotate, permute, scale, rff, knn-average
    # or remove-top.
    kind: str = "noise"
    # Its meaning depends on the kind: length of the noise, dimensions kept, ...
    strength: float = 0.5
    # The owner's secret number (default: drawn; keep it).
    key: base.Int = None
    # File to write, .safetensors or .npy (default: VECTORS.KIND.safetensors).
    out: base.OptionalPath = None
    # Rows of a bundled space.
    part: base.Part = "all"
    # .json list of a label, or a list of labels, for each row: adds the cost by topic.
    labels: base.OptionalPath = None

    def run(self) -> base.Result:
        key = secrets.randbits(53) if self.key is None else self.key
        defence = v2v.privacy.Defence(self.kind, self.strength, key)
        out = self.out or Path(f"{base.file_of(self.vectors)}.{self.kind}.safetensors")
        base.checked_out(out, self.vectors, ending=base.ROWS)
        space = v2v.spaces.resolve(self.vectors, self.part)
        if space.n < 40:
            raise base.UsageError(f"{space.n} rows, but the cost needs at least 40")
        rows = space.vectors
        hot = labels_of_rows(self.labels, space.n) if self.labels else None
        stored = defence.protect(rows)
        note = f"defended: {self.kind} {self.strength:g}"
        provenance = replace(space.provenance, note=note)
        v2v.spaces.Space(stored, provenance, ids=space.ids).save(out)
        if self.key is None:
            base.echo(f"the key is {key}: keep it, queries need it")
        step = max(space.n // QUERIES, 2)  # every step-th row asks, the others answer
        queries, keep = rows[::step], [i for i in range(space.n) if i % step]
        k, asked = min(10, len(keep)), defence.protect_query(queries, rows)
        cost = v2v.privacy.recall(stored[keep], asked, rows[keep], queries, k)
        result = {
            "out": out, "kind": self.kind, "strength": self.strength, "key": key,
            "rows": space.n, "d": stored.shape[1], f"recall@{k}": cost.mean,
            "se": cost.se, "queries": len(queries),
        }  # fmt: skip
        meaning = v2v.privacy.DEFENCES[self.kind].strength
        strength = "" if meaning == "unused" else f", {meaning} {self.strength:g}"
        where = f"{len(queries)} queries in {len(keep):,} rows"
        lines = [f"{out}: {self.kind}{strength}; recall@{k} {cost} of {where}"]
        if hot is not None:
            shared = hot[::step] @ hot[keep].T
            found, plain = (
                v2v.privacy.topical_search(x, q, shared, k).precision
                for x, q in ((stored[keep], asked), (rows[keep], queries))
            )
            result["topical"] = {"defended": found.mean, "undefended": plain.mean}
            lines.append(f"precision@{k} of labels above chance {found}, was {plain}")
        if self.kind in ("rotate", "permute", "scale"):
            lines.append("an invertible linear map hides nothing: see chapter 16")
        return base.Result(result, lines)
