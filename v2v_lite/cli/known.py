"""Pairs that are known, beside the rows of a fit that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from tyro.conf import arg

import v2v_lite as v2v

from . import base

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PairFiles", "with_pairs"]

METAVAR = "SOURCE_ROWS TARGET_ROWS"
PairFiles: TypeAlias = Annotated[
    tuple[str, str] | None, arg(metavar=METAVAR, help_behavior_hint="")
]


def with_pairs(
    sides: list[v2v.spaces.Space], words: tuple[str, str]
) -> tuple[list[v2v.spaces.Space], tuple[Tensor, Tensor]]:
    """Both sides with the rows of the two files behind theirs, and where these are."""
    import torch

    from ..spaces.splits import check_same_texts

    known = [v2v.spaces.resolve(word, "train") for word in words]
    check_same_texts(*known)
    joined, places = [], []
    for side, rows, word in zip(sides, known, words, strict=True):
        if rows.d != side.d or len({rows.name, side.name} - {"unknown"}) > 1:
            found = f"{word} holds {rows.d}-d rows of {rows.name}"
            fact = f"this side is {side.d}-d, of {side.name}"
            raise base.UsageError(f"--pairs: {found}, but {fact}")
        both, ids = torch.cat([side.vectors, rows.vectors]), None
        if side.ids is not None and rows.ids is not None:
            ids = torch.cat([side.ids, rows.ids])
        joined.append(v2v.spaces.Space(both, side.provenance, ids=ids))
        places.append(torch.arange(side.n, side.n + rows.n))
    return joined, (places[0], places[1])
