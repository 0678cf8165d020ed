r"""Translators that map centred rows, and linear ones among them.

    translate(x) = unit( mean_t + scale * direction(x) )

The direction is a unit vector around the target's mean, for a linear map unit((x -
mean_s) W); the scale is the mean distance of the target's rows from their mean.

Decompositions grow with the cube of the width. So an unpaired method that `narrows`
learns a map M between the leading 512 principal axes $A_s$, $A_t$ of each side that has
more dimensions, and $W = A_s M A_t^\top$: what the rows hold outside of them is not
translated, and translations hold nothing outside but the target's mean.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import check_rows, unit
from ..spaces.space import Space
from .base import Rows, Stages, Translator, as_space, centred
from .linalg import WIDE, leading_axes

if TYPE_CHECKING:
    from typing_extensions import Self

Learned: TypeAlias = tuple[Tensor, Stages]  # W (d_s, d_t) and the stages of its fit
# What rows are seen through in a fit: (d_s, k) and (d_t, l), None for all of them.
Fronts: TypeAlias = tuple[Tensor | None, Tensor | None]


class CentredTranslator(Translator):
    """A translator whose map acts on centred rows; a method implements `_direction`."""

    layout = {"source_mean": "s", "target_mean": "t", "scale": ""}

    source_mean: Tensor  # (d_s,)
    target_mean: Tensor  # (d_t,)
    scale: float

    def direction(self, x: Rows) -> Tensor:
        """The centred translation, `(n, d_t)` unit rows around the target's mean."""
        rows = x.vectors if isinstance(x, Space) else check_rows(x)
        return self._direction(rows - self.source_mean.to(rows.device))

    @abstractmethod
    def _direction(self, x: Tensor) -> Tensor: ...

    def _translate(self, rows: Tensor) -> Tensor:
        mean = self.target_mean.to(rows.device)
        return unit(mean + self.scale * self.direction(rows))

    def _centre_on(self, source: Space, target: Space) -> None:
        self.source_mean, self.target_mean = source.mean, target.mean
        self.scale = mean_radius(target.vectors, target.mean)


class LinearTranslator(CentredTranslator):
    """A linear map W of centred rows; a method implements `_learn` alone.

    `LinearTranslator.from_map(W, source, target)` makes one of a map that is known.
    """

    name = "linear"
    layout = CentredTranslator.layout | {"weight": "st"}

    # Whether rows of more than WIDE dimensions are fitted in their WIDE leading axes.
    narrows: ClassVar[bool] = False
    maker: ClassVar[str] = "LinearTranslator.from_map(W, source, target)"

    weight: Tensor  # (d_s, d_t)

    @classmethod
    def from_map(
        cls, weight: Tensor, source: Rows, target: Rows, *, seed: int = 0
    ) -> Self:
        """The translator of a given map `(d_s, d_t)`, centred on rows of both sides.

        Raises DataError when the map has another shape or holds NaN or infinities.
        """
        source, target = as_space(source, "source"), as_space(target, "target")
        model = cls()
        model._set_map(weight, source, target)
        model._describe(source, target, seed)
        return model

    def _set_map(self, weight: Tensor, source: Space, target: Space) -> None:
        shape, want = tuple(weight.shape), (source.d, target.d)
        if shape != want or not weight.isfinite().all():
            fact = f"a map of shape {shape}, but {want} finite numbers are needed"
            mend = "if it was learned, the rows vary in too few directions"
            raise DataError(f"{self.name}: {fact}; {mend}")
        # One memory layout, or a loaded copy would round its products differently.
        self.weight = weight.contiguous()
        self._centre_on(source, target)

    def _learn(self, x: Tensor, y: Tensor, seed: int, progress: bool) -> Learned:
        """W `(d_s, d_t)` and stages, from unit centred rows of both sides."""
        raise DataError(f"{self.name} has no `fit` of its own; use {self.maker}")

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        (x, _), (y, _) = centred(source), centred(target)
        front_x, front_y = self._fronts(x, y, seed)
        x, y = through(front_x, x), through(front_y, y)
        weight, stages = self._learn(x, y, seed, progress)
        weight = weight if front_x is None else front_x @ weight
        weight = weight if front_y is None else weight @ front_y.T
        self._set_map(weight, source, target)
        return stages

    def _fronts(self, x: Tensor, y: Tensor, seed: int) -> Fronts:
        return self._front(x), self._front(y)

    def _front(self, z: Tensor) -> Tensor | None:
        wide = self.narrows and z.shape[1] > WIDE
        return leading_axes(z, WIDE) if wide else None

    def _direction(self, x: Tensor) -> Tensor:
        return unit(x @ self.weight.to(x.device))


def through(front: Tensor | None, z: Tensor) -> Tensor:
    """Unit rows `(n, k)` of `z` `(n, d)` in the axes of a front `(d, k)`, if any."""
    return z if front is None else unit(z @ front)


def mean_radius(rows: Tensor, mean: Tensor) -> float:
    """Mean distance of rows `(n, d)` from `mean` `(d,)`: the scale of a translator."""
    return (rows - mean).norm(dim=1).mean().item()
