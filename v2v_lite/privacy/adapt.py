r"""Adapting a translator to stolen vectors of another kind of text, without a pair.

A translator learned on one kind of text (an encyclopedia) serves worse on another
(patient notes): the mean lies elsewhere, directions matter that hardly varied before.
The attacker has two more things to learn from: the stolen vectors themselves, and texts
of his own of that kind. Ours; chapter 13.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ..align.base import LinearTranslator, Rows, as_space, centred
from ..align.paired import power
from ..align.sinkhorn import transport
from ..spaces.files import DataError
from ..spaces.rows import unit
from ..spaces.space import mean_of


@dataclass(frozen=True)
class AdaptConfig:
    """Rounds, the temperature of the plan, the exponent of the singular values, the
    weights of the new rows' plan and covariance against those of the old ones, the
    ridge of the whitening in mean variances, and old rows a side in the one old plan.

    Set while watching scores, mostly of Granite's notes and Arctic's notes and e-mails,
    seed 0.
    """

    rounds: int = 10
    temperature: float = 0.1
    focus: float = 0.3
    weight: float = 1.0
    spread: float = 0.3
    ridge: float = 2.0
    batch: int = 4096

    def __post_init__(self) -> None:
        if min(self.rounds, self.batch) < 1 or min(self.temperature, self.ridge) <= 0:
            raise DataError(f"{self}: rounds, batch, temperature, ridge must be > 0")
        if min(self.weight, self.spread) < 0:
            raise DataError(f"{self}: weight and spread must be >= 0")


def recentre(model: LinearTranslator, stolen: Rows, own: Rows) -> LinearTranslator:
    """A copy of `model` that centres on the stolen rows' own mean `(d_s,)`, and answers
    around the mean of the attacker's `own` rows `(d_t,)` of the same kind of text."""
    stolen, own = as_space(stolen, "stolen"), as_space(own, "own")
    if (stolen.d, own.d) != model.widths:
        raise DataError(
            f"stolen rows are {stolen.d}-d and own rows {own.d}-d, but the translator "
            f"goes from {model.widths[0]}-d to {model.widths[1]}-d"
        )
    found = copy.copy(model)
    found.source_mean = mean_of(stolen.vectors)
    found.target_mean = mean_of(own.vectors)
    found.scale = (own.vectors - found.target_mean).norm(dim=1).mean().item()
    return found


def adapt(
    model: LinearTranslator,
    stolen: Rows,
    own: Rows,
    source: Rows,
    target: Rows,
    config: AdaptConfig | None = None,
    seed: int = 0,
) -> LinearTranslator:
    r"""Self-learning taken up again on `stolen` and `own`; a new translator.

    `source` and `target` are the rows that `model` was fitted on. In coordinates that
    are whitened for old and new rows together, $C + \text{spread}\, C_{new}$, the old
    rows give a cross moment $M = X^\top P Y$ once, by one plan under the old map. Each
    round matches stolen with own rows by a plan under the present map, and learns from
    $M + \text{weight}\, X_{new}^\top P_{new} Y_{new}$ by its SVD (chapter 6).
    """
    c = config or AdaptConfig()
    found = recentre(model, stolen, own)
    (x, _), (y, _) = centred(source), centred(target)
    new_x = unit(as_space(stolen, "stolen").vectors - found.source_mean)
    new_y = unit(as_space(own, "own").vectors - found.target_mean)
    generator = torch.Generator().manual_seed(seed)
    x, y = (z[torch.randperm(len(z), generator=generator)] for z in (x, y))
    white_x, white_y = (
        power(_moment(old) + c.spread * _moment(new), -0.5, c.ridge)
        for old, new in ((x, new_x), (y, new_y))
    )
    x, new_x = x[: c.batch] @ white_x, new_x @ white_x
    y, new_y = y[: c.batch] @ white_y, new_y @ white_y
    # The old map between whitened sides says which directions it takes to be shared.
    old = _cross(x, y, _svd(torch.linalg.solve(white_x, model.weight)), 1.0, 0.03)
    shared = _svd(old)
    for _ in range(c.rounds):
        new = _cross(new_x, new_y, shared, c.focus, c.temperature)
        shared = _svd(old + c.weight * new)
    u, s, v = shared
    found.weight = (white_x @ (u * s**0.3) @ v.T).contiguous()
    return found


def _moment(z: Tensor) -> Tensor:
    return z.T @ z / len(z)


def _svd(m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    return u, s, vh.T


def _cross(x: Tensor, y: Tensor, shared, focus: float, temperature: float) -> Tensor:
    # X' P Y for the plan P between rows as seen through the shared directions.
    u, s, v = shared
    weight = (s / s[0]) ** focus
    phi, psi = unit(x @ u * weight), unit(y @ v * weight)
    return x.T @ (transport(phi @ psi.T, temperature, 20) @ y)
