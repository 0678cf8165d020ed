r"""Search with translated rows: what of a native index they find, and in what company.

A store is searched by *native* queries, those of the target encoder. The native index,
the target encoder's own rows of the same documents, is the truth: whoever translates a
store wants its answers. Let $r_{qj}$ be the native rank of document j for the query q.

- **recall@k**: the share of the k native answers that are among the k found.
- **nDCG@k** (Järvelin and Kekäläinen 2002): places count, too. The gain of document j
  is $g_{qj} = \max(0, k + 1 - r_{qj})$, and

  $$ \mathrm{nDCG}_q = \sum_{p=1}^{k} \frac{g_{q,j_p}}{\log_2 (p + 1)} \Big/
     \sum_{p=1}^{k} \frac{k + 1 - p}{\log_2 (p + 1)} . $$

- **mixed index**: while a store is moved, native and translated rows stand side by
  side. A translation lies a little farther from every query than the native row would,
  and so translated rows take fewer of the top places than their share of the store.
- **calibration**: their scores $s$ are replaced by $a s + b$, with

  $$ a = \mathrm{sd}(S_n) / \mathrm{sd}(S_t), \qquad b = \bar S_n - a \bar S_t , $$

  $S_n$ and $S_t$ the cosines of held-out queries to their k nearest of equally many
  held-out native and translated rows. The rows are of different documents: no pair is
  needed, only that both kinds are drawn from the same subjects. As one more coordinate,
  rows $(a t, b)$ under queries $(q, 1)$, any index of inner products can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..spaces.files import DataError
from .estimate import Estimate
from .neighbors import Rows, as_unit_rows, merged, topk


def recall_at(found: Tensor, true: Tensor) -> Tensor:
    """`(q,)` shares of the `true` `(q, k)` answers that are among `found` `(q, k)`.

    >>> recall_at(torch.tensor([[4, 7]]), torch.tensor([[7, 9]]))
    tensor([0.5000])
    """
    _check_answers(found, true)
    return (true[:, :, None] == found[:, None, :]).any(dim=2).float().mean(dim=1)


def ndcg_at(found: Tensor, true: Tensor) -> Tensor:
    """`(q,)` nDCG of the answers `found` `(q, k)`, best first, against `true`, alike.

    >>> ndcg_at(torch.tensor([[4, 7]]), torch.tensor([[4, 7]]))
    tensor([1.])
    """
    _check_answers(found, true)
    k = true.shape[1]
    gains = torch.arange(k, 0, -1, device=true.device, dtype=torch.float32)
    discounts = torch.arange(2, k + 2, device=true.device).log2()
    same = (found[:, :, None] == true[:, None, :]).float()  # (q, place, native rank)
    return (same @ gains / discounts).sum(dim=1) / (gains / discounts).sum()


class TopK:
    """The `k` nearest keys of each query so far, of keys that come block by block.

    `values` and `at` `(q, k)`, best first, hold as many as were seen if that is fewer.

    >>> TopK([[1.0, 0.1]], k=1).add([[0.0, 1.0], [0.1, 1.0]]).at
    tensor([[1]])
    """

    def __init__(self, queries: Rows, k: int) -> None:
        self.queries, self.k = as_unit_rows(queries, "queries"), k
        self.values = self.queries.new_empty(len(self.queries), 0)
        self.at = torch.empty_like(self.values, dtype=torch.int64)

    def add(self, keys: Rows, numbers: Tensor | None = None) -> TopK:
        """Look at keys `(m, d)`; `at` holds their `numbers` `(m,)`, or else places."""
        if not len(keys):
            return self
        values, at = topk(self.queries, keys, min(self.k, len(keys)))
        at = at if numbers is None else numbers.to(at.device)[at]
        self.values, self.at = merged((self.values, self.at), (values, at), self.k)
        return self


@dataclass(frozen=True)
class Calibration:
    """What scores of translated rows become in a mixed index: `scale` s + `shift`."""

    scale: float = 1.0
    shift: float = 0.0

    @classmethod
    def match(cls, native: Tensor, translated: Tensor) -> Calibration:
        """Match mean and sd of the k best scores `(q, k)` among equally many rows of
        both kinds (see the module's formula), which the index is not judged on."""
        one, two = native.double(), translated.double()
        scale = (one.std() / two.std().clamp_min(1e-9)).item() if one.numel() > 1 else 1
        return cls(scale, (one.mean() - scale * two.mean()).item())

    def __call__(self, scores: Tensor) -> Tensor:
        return self.scale * scores + self.shift


@dataclass(frozen=True)
class MixedIndex:
    """Who takes the top k of a store of native and translated rows.

    `store` is the translated rows' share of it, `fair` their share of the k native
    answers (None where the documents' native rows are unknown), `before` and `after`
    what they take without and with the calibration, and the recalls those of the
    mixed index, with the same k native answers as the truth.
    """

    store: float
    fair: Estimate | None
    before: Estimate
    after: Estimate
    recall_before: Estimate | None
    recall_after: Estimate | None
    calibration: Calibration


def mixed_index(
    queries: Rows, native: Rows, translated: Rows, k: int = 10,
    true: Rows | None = None, seed: int = 0,
) -> MixedIndex:  # fmt: skip
    """Measure a mixed index of `native` `(n, d)` and `translated` `(m, d)` rows.

    The two are of different documents; `true` `(m, d)` are the native rows of the
    translated ones, which only judge. A random half of the queries and of both kinds
    of rows fits the calibration, the other half is searched. Raises DataError when a
    half has fewer than k rows.
    """
    generator = Generator().manual_seed(seed)
    x, y = as_unit_rows(native, "native"), as_unit_rows(translated, "translated")
    if min(len(x), len(y)) < 2 * k:
        few = f"{len(x)} native and {len(y)} translated rows"
        raise DataError(f"{few}; a mixed index of top {k} needs {2 * k} of each")
    asked = as_unit_rows(queries, "queries")
    (q0, q1), (x0, x1), (i, j) = (
        torch.randperm(len(z), generator=generator).to(z.device).tensor_split(2)
        for z in (asked, x, y)
    )
    n, first, second = min(len(x0), len(i)), asked[q0], asked[q1]
    tops = [TopK(first, k).add(z) for z in (x[x0[:n]], y[i[:n]])]
    tops += [TopK(second, k).add(x[x1], x1), TopK(second, k).add(y[j], ~j)]
    if true is not None:
        hidden = as_unit_rows(true, "true")
        if hidden.shape != y.shape:
            shapes = f"true is {tuple(hidden.shape)}, translated {tuple(y.shape)}"
            raise DataError(f"{shapes}; row i of both must be one document")
        tops.append(TopK(second, k).add(x[x1], x1).add(hidden[j], ~j))
    return mixed_of(*tops, store=len(j) / (len(x1) + len(j)))


def mixed_of(
    calibrate_native: TopK, calibrate_translated: TopK, native: TopK, translated: TopK,
    true: TopK | None = None, *, store: float,
) -> MixedIndex:  # fmt: skip
    """`mixed_index` from searches by blocks: two of equally many rows of both kinds for
    the calibration, two, by other queries, of the rows that are judged, and their true
    answers. Documents that are translated have negative numbers, ~j."""
    c = Calibration.match(calibrate_native.values, calibrate_translated.values)
    # The kinds are searched apart, since a positive scale keeps the order within each.
    known, plain = (native.values, native.at), translated.values
    both = [(scores, translated.at) for scores in (plain, c(plain))]
    found = [merged(known, moved, native.k)[1] for moved in both]
    before, after = (Estimate.of((at < 0).double().mean(dim=1)) for at in found)
    fair = one = two = None
    if true is not None:
        fair = Estimate.of((true.at < 0).double().mean(dim=1))
        one, two = (Estimate.of(recall_at(at, true.at)) for at in found)
    return MixedIndex(store, fair, before, after, one, two, c)


def _check_answers(found: Tensor, true: Tensor) -> None:
    if found.shape != true.shape or true.ndim != 2 or not true.shape[1]:
        shapes = f"found is {tuple(found.shape)} and true {tuple(true.shape)}"
        raise DataError(f"{shapes}; both hold k answers to each query, (q, k)")
