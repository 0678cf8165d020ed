r"""Whose encoder made these rows? The first step of an attack, from fifty of them.

An encoder leaves its mark in its coordinates: width, dimensions that never vary, a few
that stick out, a mean far from zero, a spectrum. All but the first are in two moments.
Rows of a known encoder lie about one standard deviation from its mean in every
direction; rows of another one of the same width lie where it never puts any.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..align.linalg import power
from ..measure.neighbors import Rows, as_unit_rows
from ..spaces.files import DataError

__all__ = ["UNKNOWN", "Fingerprint", "Named", "name_encoder", "traits"]

UNKNOWN = "unknown"
#: Farther than this from every known encoder, rows are of none of them. Set after a
#: look at the bundled ones: .98 to 1.35 from their own, 3.5 to 14 from one another.
LIMIT = 2.0


@dataclass(frozen=True, eq=False)
class Fingerprint:
    r"""Mean `(d,)` and precision $(C + r \bar\lambda I)^{-1}$ `(d, d)` of an encoder's
    unit rows, with the ridge r of the mean variance."""

    mean: Tensor
    precision: Tensor
    scale: float

    @classmethod
    def of(cls, rows: Rows, ridge: float = 0.1) -> Fingerprint:
        """From some thousands of its rows `(n, d)`, of any texts; DataError for fewer
        than two."""
        x = as_unit_rows(rows, "rows")
        if len(x) < 2:
            raise DataError(f"{len(x)} rows, but a fingerprint needs at least 2")
        mean = x.mean(0)
        covariance = (x - mean).T @ (x - mean) / len(x)
        precision = power(covariance, -1.0, ridge)
        return cls(mean, precision, (precision * covariance).sum().item())

    def distance(self, rows: Rows) -> float:
        r"""$\operatorname{mean}_i\, (x_i - \mu)^\top P (x_i - \mu)$ over its expected
        value: 1 for the encoder's rows of the same texts, infinite for other widths."""
        x = as_unit_rows(rows, "rows")
        if x.shape[1] != len(self.mean):
            return float("inf")
        x = x - self.mean
        return ((x @ self.precision) * x).sum(1).mean().item() / self.scale


@dataclass(frozen=True)
class Named:
    """The `name` of the nearest known encoder, or UNKNOWN, and all `distances`."""

    name: str
    distances: dict[str, float]


def name_encoder(
    rows: Rows, known: Mapping[str, Fingerprint], limit: float = LIMIT
) -> Named:
    """The known encoder behind unlabelled rows `(n, d)`: the nearest, if nearer than
    `limit`, else UNKNOWN. Raises DataError for no known encoder and bad rows."""
    if not known:
        raise DataError("no known encoder to compare with; give at least one")
    far = {name: one.distance(rows) for name, one in known.items()}
    best = min(far, key=far.__getitem__)
    return Named(best if far[best] < limit else UNKNOWN, far)


def traits(rows: Tensor) -> dict[str, Any]:
    r"""What rows `(n, d)` show on their own.

    Width, whether all have length one, constant dimensions, outlying ones, the mean's
    length, how they are stored, and the number of effective directions, $(\sum
    \lambda)^2 / \sum \lambda^2$ of the spectrum.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise DataError(
            f"rows of shape {tuple(rows.shape)}; at least 2 rows are needed"
        )
    x = rows.float()
    mean, sd = x.mean(0), x.std(0)
    spectrum = torch.linalg.svdvals(x - mean).square()
    typical = mean.abs().median().clamp_min(1e-9)
    kept = {"float16": x.half().float(), "bfloat16": x.bfloat16().float()}
    distinct = max(len(column.unique()) for column in x.T[:16])
    stored = [name for name, again in kept.items() if torch.equal(again, x)]
    if distinct <= min(256, len(x) // 2):
        stored = ["codes"]
    return {
        "rows": len(x),
        "d": x.shape[1],
        "unit": bool(((x.norm(dim=1) - 1).abs() < 1e-3).all()),
        "constant": (sd < 1e-7).nonzero().flatten().tolist(),
        "outlying": (mean.abs() > 10 * typical).nonzero().flatten().tolist()[:8],
        "mean_norm": mean.norm().item(),
        "stored": stored[0] if stored else "float32",
        "effective": (spectrum.sum() ** 2 / spectrum.square().sum()).item(),
    }
