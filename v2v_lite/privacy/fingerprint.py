r"""Whose encoder made these rows? The first step of an attack, from fifty of them.

An encoder leaves its mark in its coordinates: width, dimensions that never vary, a few
that stick out, a mean far from zero, a spectrum. All but the first are in two moments.
Rows of a known encoder lie about one standard deviation from its mean in every
direction; rows of another one of the same width lie where it never puts any.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..align.linalg import power
from ..measure.neighbors import Rows, as_unit_rows
from ..spaces.files import DataError

UNKNOWN = "unknown"
#: Farther than this from every known encoder, rows are of none of them. Set after a
#: look at the bundled ones, as were the two factors in `Fingerprint.compare`.
LIMIT = 2.0


@dataclass(frozen=True, eq=False)
class Fingerprint:
    r"""Two moments of an encoder's unit rows: mean `(d,)` and $C + r \bar\lambda I$,
    kept as precision P `(d, d)` and log-determinant; $\operatorname{tr}(PC)$ as `scale`
    and $\operatorname{tr}(C^2)$ as `overlap`."""

    mean: Tensor
    precision: Tensor
    logdet: float
    scale: float
    overlap: float

    @classmethod
    def of(cls, rows: Rows, ridge: float = 0.1) -> Fingerprint:
        """From n rows `(n, d)` of it, some thousands, of any texts; the ridge is larger
        by d / n for what a few rows do not show. DataError for fewer than two."""
        x = as_unit_rows(rows, "rows")
        if len(x) < 2:
            raise DataError(f"{len(x)} rows, but a fingerprint needs at least 2")
        (n, d), mean = x.shape, x.mean(0)
        covariance = (x - mean).T @ (x - mean) / n
        precision = power(covariance, -1.0, ridge + d / n)
        scale = (precision * covariance).sum().item()
        logdet = -torch.linalg.slogdet(precision).logabsdet.item()
        return cls(mean, precision, logdet, scale, covariance.square().sum().item())

    def compare(self, rows: Rows) -> tuple[float, float]:
        r"""How far rows `(n, d)` are, and their log-likelihood per row.

        Far is the largest of $\operatorname{mean}_i\, \tilde x_i^\top P \tilde x_i /
        \operatorname{tr}(PC)$, with $\tilde x = x - \mu$; half the square root of
        $\operatorname{mean}_{i \ne j} (\tilde x_i \cdot \tilde x_j)^2 /
        \operatorname{tr}(C^2)$; and $3 (1 - a)$, where $a = \bar x^\top P \mu / q + 2 /
        \sqrt{n q}$, $q = \mu^\top P \mu$, is how much of $\mu$ there is in the rows'
        mean (the coefficient of Fisher's discriminant between $\mu$ and 0), plus two
        standard errors. The first sees rows where the encoder puts none, the second
        rows that crowd where it spreads, the third rows without its mean. Infinite, and
        minus infinity, for another width.
        """
        x = as_unit_rows(rows, "rows")
        if x.shape[1] != len(self.mean):
            return math.inf, -math.inf
        along = self.precision @ self.mean
        q = max((self.mean @ along).item(), 1e-12)
        share = (x.mean(0) @ along).item() / q + 2 / math.sqrt(len(x) * q)
        x = x - self.mean
        square = ((x @ self.precision) * x).sum(1).mean().item()
        gram = (x @ x.T).square().fill_diagonal_(0).sum().item()
        crowd = gram / max(1, len(x) * (len(x) - 1)) / self.overlap
        far = max(square / self.scale, math.sqrt(crowd) / 2, 3 * (1 - share))
        return far, -(square + self.logdet) / 2


@dataclass(frozen=True)
class Named:
    """The `name` of the known encoder behind some rows, or UNKNOWN; all `distances`."""

    name: str
    distances: dict[str, float]


def name_encoder(
    rows: Rows, known: Mapping[str, Fingerprint], limit: float = LIMIT
) -> Named:
    """The known encoder behind unlabelled rows `(n, d)`: the likeliest of those nearer
    than `limit`, else UNKNOWN. Raises DataError for no known encoder and bad rows."""
    if not known:
        raise DataError("no known encoder to compare with; give at least one")
    found = {name: one.compare(rows) for name, one in known.items()}
    near = [name for name, (far, _) in found.items() if far < limit]
    best = max(near, key=lambda name: found[name][1], default=UNKNOWN)
    return Named(best, {name: far for name, (far, _) in found.items()})


def traits(rows: Tensor) -> dict[str, object]:
    r"""What rows `(n, d)` show on their own.

    Width, whether all have length one, constant dimensions, outlying ones, the mean's
    length, how they are stored, and the number of effective directions, $(\sum
    \lambda)^2 / \sum \lambda^2$ of the spectrum.
    """
    if rows.ndim != 2 or len(rows) < 2:
        raise DataError(f"rows of shape {tuple(rows.shape)}; at least 2 are needed")
    x, mean = rows.float(), rows.float().mean(0)
    spectrum = torch.linalg.svdvals(x - mean).square()
    typical = mean.abs().median().clamp_min(1e-9)
    kept = {"float16": x.half(), "bfloat16": x.bfloat16()}
    stored = next((k for k, y in kept.items() if torch.equal(y.float(), x)), "float32")
    if max(len(column.unique()) for column in x.T[:16]) <= min(256, len(x) // 2):
        stored = "codes"
    return {
        "rows": len(x),
        "d": x.shape[1],
        "unit": bool(((x.norm(dim=1) - 1).abs() < 1e-3).all()),
        "constant": (x.std(0) < 1e-7).nonzero().flatten().tolist(),
        "outlying": (mean.abs() > 10 * typical).nonzero().flatten().tolist()[:8],
        "mean_norm": mean.norm().item(),
        "stored": stored,
        "effective": (spectrum.sum() ** 2 / spectrum.square().sum()).item(),
    }
