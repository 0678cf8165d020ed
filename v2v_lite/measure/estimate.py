"""A mean with its standard error, the one form in which averages are reported."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.files import DataError


@dataclass(frozen=True)
class Estimate:
    r"""The mean of `n` values and its standard error `se`.

    $\mathrm{se} = s / \sqrt n$ with the sample's standard deviation $s = \sqrt{\sum_i
    (v_i - \bar v)^2 / (n - 1)}$; 0 for a single value, whose error is unknown.
    """

    mean: float
    se: float
    n: int

    @classmethod
    def of(cls, values: Tensor | Sequence[float]) -> Estimate:
        """The estimate from `(n,)` numbers or booleans; DataError for none.

        >>> print(Estimate.of([1.0, 2.0, 3.0]))
        2.000 ± 0.577
        """
        v = torch.as_tensor(values, dtype=torch.float64).flatten()
        if not len(v):
            raise DataError("no values to average; give at least one")
        se = v.std().item() / math.sqrt(len(v)) if len(v) > 1 else 0.0
        return cls(v.mean().item(), se, len(v))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.se:.3f}"
