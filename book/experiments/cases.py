"""Cases of `geometry`: what each side holds, and how its rows were changed.

A case starts from two bundled encoders and breaks one assumption of unpaired
translation by a `level`. Both sides are kept whole, row i of both one text, so that the
paired references can be fitted on the very texts that the unpaired method sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from v2v_lite.align.base import centred
from v2v_lite.align.kmeans import kmeans
from v2v_lite.spaces import (
    EVAL_ROWS,
    TRAIN_ROWS,
    Space,
    document_space,
    load_documents,
    unit,
)
from v2v_lite.spaces.documents import SETS
from v2v_lite.teaching.comparison import space_of

CLUSTERS, TOPICS_BY = 16, "granite"  # topics are clusters of one encoder's rows
HELD = 600  # documents to score on


@dataclass(frozen=True, eq=False)
class Sides:
    """Two spaces of the same texts, and the rows that the source's training set, the
    target's, and the evaluation pool take from them."""

    a: Space
    b: Space
    rows_a: Tensor
    rows_b: Tensor
    pool: Tensor

    def train(self) -> tuple[Space, Space]:
        """The unpaired training sets, each around its own mean."""
        return _own(self.a.take(self.rows_a)), _own(self.b.take(self.rows_b))

    def paired(self, most: int) -> tuple[Space, Space]:
        """Up to `most` pairs of the texts that either training set holds."""
        both = torch.cat([self.rows_a, self.rows_b]).unique()
        spread = torch.arange(min(most, len(both))) * len(both) // min(most, len(both))
        return tuple(_own(s.take(both[spread])) for s in (self.a, self.b))

    def test(self) -> tuple[Space, Space]:
        """The evaluation pairs, with the means of the training sets."""
        spaces = zip((self.a, self.b), self.train(), strict=True)
        return tuple(replace(s.take(self.pool), mean=t.mean) for s, t in spaces)


def make(
    source: str, target: str, change: str, level: float, n: int, pool: int, seed: int
) -> Sides:
    """The case `change` at `level`: about `n` training rows a side, disjoint texts."""
    g = torch.Generator().manual_seed(seed)
    a, b = space_of(source), space_of(target)
    order = torch.randperm(TRAIN_ROWS, generator=g)
    test = torch.arange(TRAIN_ROWS, TRAIN_ROWS + min(pool, EVAL_ROWS))
    sides = Sides(a, b, order[:n], order[n : 2 * n], test)
    return CHANGES[change](sides, level, g) if change in CHANGES else sides


def _own(space: Space) -> Space:
    return replace(space, mean=None)


def _rows(sides: Sides, level: float, g: torch.Generator) -> Sides:
    n, order = int(level), torch.cat([sides.rows_a, sides.rows_b])
    if 2 * n > len(order):
        order = torch.randperm(TRAIN_ROWS, generator=g)
    return replace(sides, rows_a=order[:n], rows_b=order[n : 2 * n])


def _fewer(side: str) -> Callable[[Sides, float, torch.Generator], Sides]:
    def change(sides: Sides, level: float, g: torch.Generator) -> Sides:
        rows = getattr(sides, side)
        return replace(sides, **{side: rows[: int(level)]})

    return change


def _topics(sides: Sides, level: float, g: torch.Generator) -> Sides:
    # At level m, (1 + m) / 2 of the source is of group 0 and as much of the target of
    # group 1: at 0 both are mixed alike, at 1 they have no topic in common.
    n = len(sides.rows_a)
    group, order = _groups(), torch.randperm(TRAIN_ROWS, generator=g)
    zero, one = (order[group[order] == which] for which in (0, 1))
    many = round(n * (1 + level) / 2)
    few = n - many
    return replace(
        sides,
        rows_a=torch.cat([zero[:many], one[:few]]),
        rows_b=torch.cat([one[few:n], zero[many:n]]),
    )


@lru_cache(maxsize=1)
def _groups() -> Tensor:
    # Clusters along their main axis, cut where half of the rows lie on either side.
    x, _ = centred(space_of(TOPICS_BY).take(slice(TRAIN_ROWS)))
    g = torch.Generator().manual_seed(0)
    found = kmeans(x, CLUSTERS, generator=g)
    means = found.centroids - found.centroids.mean(0)
    axis = torch.linalg.svd(means, full_matrices=False)[2][0]
    by_axis = (means @ axis).argsort()
    share = found.labels.bincount(minlength=CLUSTERS)[by_axis].cumsum(0) / len(x)
    group = torch.zeros(CLUSTERS, dtype=torch.long)
    group[by_axis[share > 0.5]] = 1
    return group[found.labels]


def _near(sides: Sides, level: float, g: torch.Generator) -> Sides:
    # A share of the target's texts are the source's own, as a paraphrase would be: the
    # vector moved by a random one of a third of the length.
    many = round(level * len(sides.rows_b))
    twins = sides.rows_a[:many]
    rows = sides.b.vectors.clone()
    rows[twins] = _noised(rows[twins], sides.b.mean, 0.33, g)
    rows_b = torch.cat([twins, sides.rows_b[many:]])
    return replace(sides, b=replace(sides.b, vectors=rows), rows_b=rows_b)


def _noised(rows: Tensor, mean: Tensor, level: float, g: torch.Generator) -> Tensor:
    noise = unit(torch.randn(rows.shape, generator=g))
    length = (rows - mean).norm(dim=1, keepdim=True)
    return unit(rows + level * length * noise)


def _noise(sides: Sides, level: float, g: torch.Generator) -> Sides:
    a, b = (
        replace(s, vectors=_noised(s.vectors, s.mean, level, g))
        for s in (sides.a, sides.b)
    )
    return replace(sides, a=a, b=b)


def _source_as(rows_of: Callable[[Tensor, Tensor, int], Tensor]) -> Callable:
    # The owner of the source has changed all its rows, fitted on their own rows.
    def change(sides: Sides, level: float, g: torch.Generator) -> Sides:
        rows = rows_of(sides.a.vectors, sides.rows_a, int(level))
        return replace(sides, a=replace(sides.a, vectors=unit(rows), mean=None))

    return change


def _pca(rows: Tensor, train: Tensor, k: int) -> Tensor:
    mean = rows[train].mean(0)
    axes = torch.linalg.svd(rows[train] - mean, full_matrices=False)[2][:k]
    return (rows - mean) @ axes.T


def _prefix(rows: Tensor, train: Tensor, k: int) -> Tensor:
    return rows[:, :k]


def _bits(rows: Tensor, train: Tensor, bits: int) -> Tensor:
    if bits == 1:
        return (rows > rows[train].mean(0)).float() * 2 - 1
    top = 2 ** (bits - 1) - 1
    scale = rows[train].abs().amax(0).clamp_min(1e-9) / top
    return (rows / scale).round().clamp(-top, top) * scale


def _no_top(rows: Tensor, train: Tensor, k: int) -> Tensor:
    mean = rows[train].mean(0)
    axes = torch.linalg.svd(rows[train] - mean, full_matrices=False)[2][:k]
    return rows - mean - (rows - mean) @ axes.T @ axes


def _documents(sides: Sides, level: float, g: torch.Generator) -> Sides:
    # Level 0: the target holds our documents; 1: the source does.
    names = sides.a.name, sides.b.name
    a, b = (
        concat([s, *_all_documents(name)])
        for s, name in zip((sides.a, sides.b), names, strict=True)
    )
    rows = torch.arange(sides.a.n, a.n)
    place = "rows_a" if level else "rows_b"
    return replace(sides, a=a, b=b, **{place: rows})


def _lengths(sides: Sides, level: float, g: torch.Generator) -> Sides:
    # Level 1: of each set of documents the source has the shorter half, the target the
    # longer; 0: halves by chance. Scored on documents held out.
    sets = zip(*(_all_documents(s.name) for s in (sides.a, sides.b)), strict=True)
    start, short, long, held = 0, [], [], []
    spaces_a, spaces_b = [], []
    for name, (a, b) in zip(SETS, sets, strict=True):
        size = torch.tensor([len(t) for t in load_documents(name).texts]).double()
        order = torch.randperm(a.n, generator=g)
        out = round(HELD * a.n / sum(_sizes()))
        held.append(start + order[:out])
        rest = order[out:]
        rest = rest[size[rest].argsort()] if level else rest
        short.append(start + rest[: len(rest) // 2])
        long.append(start + rest[len(rest) // 2 :])
        spaces_a.append(a)
        spaces_b.append(b)
        start += a.n
    rows = (torch.cat(part) for part in (short, long, held))
    return Sides(concat(spaces_a), concat(spaces_b), *rows)


def concat(spaces: Sequence[Space]) -> Space:
    """All rows of one encoder's spaces, with the mean of their means by rows."""
    means = torch.stack([s.mean for s in spaces])
    weights = means.new_tensor([s.n for s in spaces])
    mean = (weights / weights.sum()) @ means
    ids = torch.cat([s.known_ids for s in spaces])
    about = replace(spaces[0].provenance, texts_sha256="")
    return Space(torch.cat([s.vectors for s in spaces]), about, mean, ids)


@lru_cache(maxsize=8)
def _all_documents(encoder: str) -> tuple[Space, ...]:
    return tuple(document_space(load_documents(name), encoder) for name in SETS)


def _sizes() -> list[int]:
    return [space.n for space in _all_documents(TOPICS_BY)]


CHANGES: dict[str, Callable[[Sides, float, torch.Generator], Sides]] = {
    "rows": _rows,
    "fewer source rows": _fewer("rows_a"),
    "fewer target rows": _fewer("rows_b"),
    "other topics": _topics,
    "documents": _documents,
    "lengths": _lengths,
    "near-duplicates": _near,
    "noise": _noise,
    "pca": _source_as(_pca),
    "prefix": _source_as(_prefix),
    "bits": _source_as(_bits),
    "top directions removed": _source_as(_no_top),
}
