r"""Adapting a translator to stolen vectors of another kind of text, without a pair.

A translator learned on one kind of text (an encyclopedia) works less well on another
(patient notes): the mean is different, and directions matter that hardly varied before.
The attacker has two more things to learn from: the stolen vectors themselves, and texts
of the same kind that they own. The method is ours; see chapter 14.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..align.base import Rows, as_space, centred, check_minima
from ..align.linalg import power
from ..align.linear import LinearTranslator, mean_radius
from ..align.selflearn import SharedSubspace, translation_matrix
from ..align.sinkhorn import sinkhorn_plan
from ..spaces.files import DataError
from ..spaces.rows import unit
from ..spaces.space import mean_of


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of `adapt`.

    `n_iter` rounds match new rows by plans of the given `temperature`, singular values
    raised to `singular_value_exponent`. The new rows' cross moment and covariance count
    `new_cross_weight` and `new_covariance_weight` against those of the old rows. The
    whitening's `ridge` is in units of the mean variance; the one plan of old rows takes
    `batch_size` a side. Set while watching scores, mostly of Granite's notes and
    Arctic's notes and emails, seed 0.
    """

    n_iter: int = 10
    temperature: float = 0.1
    singular_value_exponent: float = 0.3
    new_cross_weight: float = 1.0
    new_covariance_weight: float = 0.3
    ridge: float = 2.0
    batch_size: int = 4096

    def __post_init__(self) -> None:
        check_minima(self, temperature=1e-6, ridge=1e-6)
        check_minima(self, new_cross_weight=0, new_covariance_weight=0)


def recentre_translator(
    model: LinearTranslator, stolen: Rows, own: Rows
) -> LinearTranslator:
    """A copy of `model` with the means of other texts: the source's is that of the
    `stolen` rows `(n, d_s)`, the target's that of the attacker's `own` rows `(m, d_t)`
    of the same kind of text. Raises DataError for rows of other widths."""
    stolen, own = as_space(stolen, "stolen"), as_space(own, "own")
    widths = tuple(model.weight.shape)
    if (stolen.d, own.d) != widths:
        raise DataError(
            f"stolen rows are {stolen.d}-d and own rows {own.d}-d, but the translator "
            f"goes from {widths[0]}-d to {widths[1]}-d"
        )
    moved = copy.copy(model)
    moved.source_mean = mean_of(stolen.vectors)
    moved.target_mean = mean_of(own.vectors)
    moved.scale = mean_radius(own.vectors, moved.target_mean)
    return moved


def adapt(
    model: LinearTranslator, stolen: Rows, own: Rows, source: Rows, target: Rows,
    config: AdaptConfig | None = None, seed: int = 0,
) -> LinearTranslator:  # fmt: skip
    r"""A new translator: self-learning continued on `stolen` and `own` rows.

    `source` and `target` are the rows that `model` was fitted on. Coordinates are
    whitened for old and new rows together, by $C + w_c\, C_{new}$. In them the old rows
    give a cross moment $M = X^\top P Y$ once, by one plan $P$ under the old map. Each
    round matches stolen with own rows by a plan under the present map and learns from
    $M + w_m\, X_{new}^\top P_{new} Y_{new}$ by its SVD (chapter 6).
    """
    c = config or AdaptConfig()
    moved = recentre_translator(model, stolen, own)
    (x, _), (y, _) = centred(source), centred(target)
    new_x = unit(as_space(stolen, "stolen").vectors - moved.source_mean)
    new_y = unit(as_space(own, "own").vectors - moved.target_mean)
    generator = torch.Generator().manual_seed(seed)
    x, y = (z[torch.randperm(len(z), generator=generator)] for z in (x, y))
    white_x, white_y = (
        power(_moment(old) + c.new_covariance_weight * _moment(new), -0.5, c.ridge)
        for old, new in ((x, new_x), (y, new_y))
    )
    x, new_x = x[: c.batch_size] @ white_x, new_x @ white_x
    y, new_y = y[: c.batch_size] @ white_y, new_y @ white_y
    # The old map between whitened sides says which directions it takes to be shared.
    shared = SharedSubspace.of(torch.linalg.solve(white_x, model.weight))
    old = _cross(x, y, shared, 1.0, 0.03)
    shared = SharedSubspace.of(old)
    for _ in range(c.n_iter):
        new = _cross(new_x, new_y, shared, c.singular_value_exponent, c.temperature)
        shared = SharedSubspace.of(old + c.new_cross_weight * new)
    moved.weight = translation_matrix(white_x, shared).contiguous()
    return moved


def _moment(z: Tensor) -> Tensor:
    return z.T @ z / len(z)


def _cross(
    x: Tensor, y: Tensor, shared: SharedSubspace, exponent: float, temperature: float
) -> Tensor:
    # X' P Y for the plan P between rows as seen through the shared directions.
    phi, psi = shared.features(x, y, exponent)
    return x.T @ (sinkhorn_plan(phi @ psi.T, temperature, 20) @ y)
