"""`v2v gate`: would this translator serve search? Exit code 0 for yes, 1 for not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import v2v_lite as v2v

from . import base, unseen
from .align import check_same_rows

if TYPE_CHECKING:
    from torch import Tensor

    from ..measure.search import MixedIndex, TopK
    from ..spaces import Space, Table

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
    Stores are read by blocks: memory does not grow with them.
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
        queries, documents, native = self._tables(model)
        index = documents.usable(_others(documents, queries))
        if len(index) < 4 * self.k:
            few = f"{len(index)} documents are left, but the top {self.k}"
            raise base.UsageError(f"{few} of a mixed index need {4 * self.k}")
        unseen.warn_of(model, _sample(documents, index, unseen.UNSEEN))
        judged = self._judge if self.pairs else self._guess
        found = judged(model, queries, documents, native, index)
        about = f"{queries.n:,} queries, {found['documents']:,} documents, top {self.k}"
        lines = [f"{found['verdict']} ({about})", *found.pop("lines")]
        data = {"folder": self.folder, "k": self.k, "queries": queries.n, **found}
        return base.Result(data, lines, int(found["verdict"] != "serves"))

    def _tables(self, model: v2v.align.Translator) -> tuple[Space, Table, Any]:
        # Queries, documents, and native rows: of the same documents, or of others.
        table = v2v.spaces.resolve_table
        queries = table(self.queries, self.part)
        documents = table(self.documents, self.part)
        word = self.pairs or self.native
        native = None if word is None else table(word, self.part)
        for one in [queries] + ([native] if native else []):
            if len({one.name, model.target_name} - {"unknown"}) > 1:
                fact = f"{self.folder} translates into {model.target_name}"
                raise base.UsageError(f"{fact}, but rows of {one.name} were given")
        if self.pairs and native:
            check_same_rows(documents, native, encoder=False)
        generator = unseen.generator_of(self.seed)
        index = v2v.spaces.draw(queries.shape[0], self.n_queries, generator)
        return v2v.spaces.Space.of_table(queries, index), documents, native

    def _judge(
        self, model: v2v.align.Translator, queries: Space, documents: Table,
        native: Table, index: Tensor,
    ) -> dict[str, Any]:  # fmt: skip
        # With the native index there is nothing to guess.
        from ..measure import search

        n, of, data = len(index), v2v.measure.Estimate.of, dict[str, Any]()
        rows = queries, documents, native, index
        stores, mixed = _searched(model, *rows, self.k, self.seed)
        true = stores.pop("native").at
        for name, top in stores.items():
            recall, ndcg = search.recall_at(top.at, true), search.ndcg_at(top.at, true)
            data[name] = {"recall": of(recall), "ndcg": of(ndcg)}
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
            f"learned from half of these pairs {paired}, by chance {self.k / n:.4f}",
            *_mixed_lines(mixed), *failed,
        ]  # fmt: skip
        parts = {n: {m: asdict(e) for m, e in row.items()} for n, row in data.items()}
        verdict = "does not serve" if failed else "serves"
        return {"verdict": verdict, "failed": failed, "chance": self.k / n, **parts,
                "documents": n, "mixed": asdict(mixed), "lines": lines}  # fmt: skip

    def _guess(
        self, model: v2v.align.Translator, queries: Space, documents: Table,
        native: Table | None, index: Tensor,
    ) -> dict[str, Any]:  # fmt: skip
        # What can be known without the native index; it is never enough for a yes, and
        # a sample of both stores tells it.
        import torch

        from ..measure.search import mixed_index

        lines, failed, verdict = [UNKNOWN], list[str](), "unknown"
        if native is None:
            lines.append("nor is there a diagnosis: give other documents as --native")
            return {"verdict": verdict, "failed": failed, "lines": lines,
                    "documents": len(index)}  # fmt: skip
        other = native.usable(_others(native, queries))
        if len(_others(native, documents, index)) < native.shape[0]:
            index = index[: len(index) // 2]  # half of the texts each
            mine = _others(native, documents, index)
            other = other[torch.isin(other, mine)]
        sides = [_sample(*one) for one in ((documents, index), (native, other))]
        diagnosis = v2v.align.diagnose(model, *sides, seed=self.seed)
        if diagnosis.verdict != "aligned":
            verdict = "does not serve" if diagnosis.verdict == "failed" else verdict
            failed.append(f"the diagnosis says {diagnosis.verdict}")
        moved = model.translate(sides[0])
        mixed = mixed_index(queries, sides[1], moved, self.k, None, self.seed)
        lines += [diagnosis.line(), *_mixed_lines(mixed)]
        return {"verdict": verdict, "failed": failed, "documents": sides[0].n,
                "diagnosis": asdict(diagnosis), "mixed": asdict(mixed),
                "lines": lines}  # fmt: skip


def _searched(
    model: v2v.align.Translator, queries: Space, documents: Table, native: Table,
    index: Tensor, k: int, seed: int,
) -> tuple[dict[str, TopK], MixedIndex]:  # fmt: skip
    """The best answers of four stores, and a mixed one: blocks of both are read once.

    The documents fall into four parts: native and translated rows that calibrate (0 and
    2) and that are searched (1 and 3), by either half of the queries.
    """
    import torch
    from torch.nn.functional import pad

    from ..measure.search import TopK, mixed_of

    g, n = unseen.generator_of(seed), len(index)
    part = torch.full(documents.shape[:1], -1)
    part[index[torch.randperm(n, generator=g)]] = torch.arange(n) * 4 // n
    order = torch.randperm(queries.n, generator=g)
    asked = [queries.take(half) for half in order.tensor_split(2)]
    tops = [TopK(asked[number % 2], k) for number in range(4)]
    names = "native", "translated", "untranslated", "with_pairs"
    answers = TopK(asked[1], k)
    stores = {name: TopK(queries, k) for name in names}

    def add(top: TopK, rows: Tensor, at: Tensor, number: int) -> None:
        mine = part[at] == number
        top.add(rows[mine], ~at[mine] if number > 1 else at[mine])

    for at, rows in native.blocks(native.usable(index)):
        stores["native"].add(rows, at)
        for number, top in (0, tops[0]), (1, tops[1]), (1, answers), (3, answers):
            add(top, rows, at, number)
    halves = [_by_pairs(documents, native, (part // 2 == half)) for half in (1, 0)]
    for at, rows in documents.blocks(index):
        moved, one, two = (one.translate(rows) for one in (model, *halves))
        paired = torch.where((part[at] < 2)[:, None], one, two)
        plain = pad(rows, (0, native.shape[1] - rows.shape[1]))  # or cut
        for name, z in zip(names[1:], (moved, plain, paired), strict=True):
            stores[name].add(z, at)
        for number in (2, 3):
            add(tops[number], moved, at, number)
    ours, theirs = ((part == number).sum().item() for number in (3, 1))
    return stores, mixed_of(
        tops[0], tops[2], tops[1], tops[3], answers, store=ours / (ours + theirs)
    )


def _by_pairs(documents: Table, native: Table, some: Tensor) -> v2v.align.Translator:
    """What pairs are worth: a map learned from some of them, for all the others."""
    index = some.nonzero().flatten()
    both = (_sample(table, index) for table in (documents, native))
    return v2v.align.Whitened().fit(*both)


def _sample(table: Table, index: Tensor, most: int = unseen.SEEN) -> Space:
    """The rows `index` of a table, or `most` of them, the same for the same numbers."""
    some = v2v.spaces.draw(len(index), most, unseen.generator_of(0))
    return v2v.spaces.Space.of_table(table, index if some is None else index[some])


def _others(rows: Table, asked: Space | Table, index: Any = slice(None)) -> Tensor:
    """The numbers of the rows whose texts, by their ids, are not among those asked."""
    import torch

    # Without an encoder's name, ids may be anybody's numbers and say nothing of texts.
    names = rows.name, asked.name
    if "unknown" in names or rows.ids is None or asked.ids is None:
        return torch.arange(rows.shape[0])
    return (~torch.isin(rows.ids, asked.ids[index])).nonzero().flatten()


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
