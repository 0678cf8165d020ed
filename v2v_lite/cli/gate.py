"""`v2v gate`: would this translator serve search? Exit code 0 for yes, 1 for not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import v2v_lite as v2v

from . import base, unseen

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.search import MixedIndex
    from ..spaces import Space

__all__ = ["Gate"]

UNKNOWN = (
    "recall and nDCG are unknown without pairs, and no diagnosis knows them: encode "
    "some documents with the target's encoder for --pairs, or see by `v2v rehearse` "
    "what a known encoder reaches with as many rows"
)


@dataclass(frozen=True)
class Gate(base.Command):
    """Would a saved translator serve search? Exit code 0 for yes, 1 for no or unknown.

    Cosine search, as in a vector store; the truth is what the same queries find in the
    native index, which --pairs holds. Documents of the queries' texts are left out.
    """

    # What `v2v align` or `v2v train` saved.
    folder: base.Folder
    # Rows of queries by the target's encoder: a file or a bundled name.
    queries: str
    # Rows of documents by the source's encoder, to be translated, new to the fit.
    documents: str
    # The same documents by the target's encoder, row by row (default: not known).
    pairs: base.Text = None
    # Without --pairs: other documents by the target's encoder, for a diagnosis and a
    # mixed index.
    native: base.Text = None
    # Rows of a bundled space.
    part: base.Part = "eval"
    # Answers to a query.
    k: int = 10
    # Least recall@k that serves. Two good encoders share .3 to .4 of their answers.
    min_recall: float = 0.3
    # Least nDCG@k that serves.
    min_ndcg: float = 0.3
    # How far translated rows' share of a calibrated mixed index may be from the fair.
    share_within: float = 0.1
    # Queries to draw at most.
    n_queries: int = 1000
    # Which queries are drawn, and which documents of a mixed index.
    seed: int = 0

    def run(self) -> base.Result:
        base.at_least_one(k=self.k, n_queries=self.n_queries)
        for name in ("min_recall", "min_ndcg", "share_within"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise base.UsageError(f"{name} = {value}, but it is a share, 0 to 1")
        model = v2v.align.Translator.load(self.folder)
        queries, documents, native = self._rows(model)
        if documents.n < 4 * self.k:
            few = f"{documents.n} documents are left, but the top {self.k}"
            raise base.UsageError(f"{few} of a mixed index need {4 * self.k}")
        sizes = {"queries": queries.n, "documents": documents.n}
        data = {"folder": self.folder, "k": self.k, **sizes}
        unseen.warn_of(model, documents)
        translated = model.translate(documents)
        if self.pairs and native:
            found = self._judge(queries, documents, translated, native)
        else:
            found = self._guess(model, queries, documents, translated, native)
        about = f"{queries.n:,} queries, {documents.n:,} documents, top {self.k}"
        lines = [f"{found['verdict']} ({about})", *found.pop("lines")]
        return base.Result({**data, **found}, lines, int(found["verdict"] != "serves"))

    def _rows(self, model: v2v.align.Translator) -> tuple[Space, Space, Space | None]:
        # Queries, documents, and native rows: of the same documents, or of others.
        import torch

        from ..spaces.splits import check_same_texts

        queries = v2v.spaces.resolve(self.queries, self.part)
        documents = v2v.spaces.resolve(self.documents, self.part)
        word, native = self.pairs or self.native, None
        if word is not None:
            native = v2v.spaces.resolve(word, self.part)
        for space in (queries, native):
            if space and len({space.name, model.target_name} - {"unknown"}) > 1:
                fact = f"{self.folder} translates into {model.target_name}"
                raise base.UsageError(f"{fact}, but rows of {space.name} were given")
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(queries.n, generator=generator)[: self.n_queries]
        queries = queries.take(drawn)
        if self.pairs and native:
            check_same_texts(documents, native)
            rest = _others(documents, queries)
            return queries, documents.take(rest), native.take(rest)
        documents = documents.take(_others(documents, queries))
        if native:
            native = native.take(_others(native, queries))
            if len(_others(native, documents)) < native.n:  # half of the texts each
                documents = documents.take(slice(documents.n // 2))
                native = native.take(_others(native, documents))
        return queries, documents, native

    def _judge(
        self, queries: Space, documents: Space, translated: Tensor, native: Space
    ) -> dict[str, Any]:
        # With the native index there is nothing to guess.
        import torch
        from torch.nn.functional import pad

        from ..measure import search

        k, of, data = self.k, v2v.measure.Estimate.of, dict[str, Any]()
        true = v2v.measure.topk(queries, native, k)[1]
        as_it_is = pad(documents.vectors, (0, native.d - documents.d))  # or cut
        stores = {"translated": translated, "untranslated": as_it_is,
                  "with_pairs": _by_pairs(documents, native)}  # fmt: skip
        for name, rows in stores.items():
            at = v2v.measure.topk(queries, rows, k)[1]
            recall, ndcg = search.recall_at(at, true), search.ndcg_at(at, true)
            data[name] = {"recall": of(recall), "ndcg": of(ndcg)}
        generator = torch.Generator().manual_seed(self.seed)
        old, new = torch.randperm(native.n, generator=generator).tensor_split(2)
        rows, hidden = native.vectors, native.vectors[new]
        mixed = search.mixed_index(
            queries, rows[old], translated[new], k, hidden, self.seed
        )
        recall, ndcg = data["translated"].values()
        plain, paired = (data[n]["recall"] for n in ("untranslated", "with_pairs"))
        gap = abs(mixed.after.mean - (mixed.fair or mixed.after).mean)
        checks = (
            ("recall", recall.mean, self.min_recall, 1),
            ("nDCG", ndcg.mean, self.min_ndcg, 1),
            ("distance from the fair share", gap, self.share_within, -1),
        )
        failed = [
            f"{name} = {value:.3f}, the threshold is {threshold}"
            for name, value, threshold, sign in checks
            if sign * value < sign * threshold
        ]
        lines = [
            f"recall {recall} · nDCG {ndcg} · recall untranslated {plain}, by a map "
            f"learned from half of these pairs {paired}, by chance {k / native.n:.4f}",
            *_mixed_lines(mixed), *failed,
        ]  # fmt: skip
        parts = {n: {m: asdict(e) for m, e in row.items()} for n, row in data.items()}
        verdict = "does not serve" if failed else "serves"
        return {"verdict": verdict, "failed": failed, "chance": k / native.n, **parts,
                "mixed": asdict(mixed), "lines": lines}  # fmt: skip

    def _guess(
        self, model: v2v.align.Translator, queries: Space, documents: Space,
        translated: Tensor, native: Space | None,
    ) -> dict[str, Any]:  # fmt: skip
        # What can be known without the native index; it is never enough for a yes.
        from ..measure.search import mixed_index

        lines, data, verdict = [UNKNOWN], dict[str, Any](failed=[]), "unknown"
        if native is None:
            lines.append("nor is there a diagnosis: give other documents as --native")
            return {"verdict": verdict, **data, "lines": lines}
        diagnosis = v2v.align.diagnose(model, documents, native, seed=self.seed)
        if diagnosis.verdict != "aligned":
            verdict = "does not serve" if diagnosis.verdict == "failed" else verdict
            data["failed"] = [f"the diagnosis says {diagnosis.verdict}"]
        mixed = mixed_index(queries, native, translated, self.k, None, self.seed)
        lines += [diagnosis.line(), *_mixed_lines(mixed)]
        found = {"diagnosis": asdict(diagnosis), "mixed": asdict(mixed)}
        return {"verdict": verdict, **data, **found, "lines": lines}


def _others(rows: Space, asked: Space) -> Tensor:
    """The numbers of the rows whose texts, by their ids, are not among those asked."""
    import torch

    # Without an encoder's name, ids may be anybody's numbers and say nothing of texts.
    named = "unknown" not in (rows.name, asked.name)
    if not named or rows.ids is None or asked.ids is None:
        return torch.arange(rows.n)
    return (~torch.isin(rows.ids, asked.ids)).nonzero().flatten()


def _by_pairs(documents: Space, native: Space) -> Tensor:
    """What pairs are worth: each half translated by a map learned from the other."""
    import torch

    halves = torch.arange(documents.n).tensor_split(2)
    found = []
    for rest, half in halves, halves[::-1]:
        model = v2v.align.Whitened().fit(documents.take(half), native.take(half))
        found.append(model.translate(documents.take(rest)))
    return torch.cat(found)


def _mixed_lines(mixed: MixedIndex) -> list[str]:
    c, fair = mixed.calibration, ""
    if mixed.fair is not None:
        fair = f", {mixed.fair.mean:.3f} of the native answers"
    lines = [
        f"mixed index: translated rows are {mixed.store:.3f} of the store{fair}, and "
        f"take {mixed.before} of the top places, calibrated {mixed.after}",
        f"calibration: their scores s become {c.scale:.4f} s {c.shift:+.4f}",
    ]
    if mixed.recall_before and mixed.recall_after:
        both = f"{mixed.recall_before}, calibrated {mixed.recall_after}"
        lines.append(f"recall of the mixed index: {both}")
    return lines
