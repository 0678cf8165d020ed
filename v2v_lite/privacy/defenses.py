r"""Defences of a vector database, each with its cost.

A defence changes the rows that are stored, and where it must the questions that are
asked, so that the owner can still search. Its cost is the recall that is lost inside
the defended database; its use is what an attacker who steals the rows reads less
(chapter 15). A key is a number that only the owner knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..measure.neighbors import Rows, as_rows, topk
from ..measure.retrieval import Estimate
from ..spaces.files import DataError
from ..spaces.rows import unit

# Step of the uniform quantiser with least squared error for a standard normal, by bits
# (Max 1960, IRE Trans. Inform. Theory 6(1), Table I; 6 to 8 bits by his recipe).
STEPS = {1: 1.596, 2: 0.9957, 3: 0.586, 4: 0.3352,
         5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}  # fmt: skip
HASH = 50.0  # radians a unit of length: neighbours get unrelated keyed noise


@dataclass(frozen=True)
class Kind:
    """A kind of defence: rows, the database and strength to rows; what strength means;
    whether questions are changed too; the least strength."""

    apply: Callable[[Tensor, Tensor, float, torch.Generator], Tensor]
    strength: str
    asks: bool
    least: float = 0.0
    whole: bool = False


@dataclass(frozen=True)
class Defense:
    """A kind of defence (a key of `DEFENSES`), its strength and the owner's key.

    Raises DataError for an unknown kind and a strength that it cannot have.

    >>> rows = unit(torch.eye(3)[[0, 1, 2, 0]] + 0.1)
    >>> Defense("rotate", key=7).store(rows).shape
    torch.Size([4, 3])
    """

    kind: str
    strength: float = 0.0
    key: int = 0

    def __post_init__(self) -> None:
        if self.kind not in DEFENSES:
            raise DataError(
                f"no defence {self.kind!r}; there are {', '.join(DEFENSES)}"
            )
        kind, s = DEFENSES[self.kind], self.strength
        if not math.isfinite(s) or s < kind.least or (kind.whole and s != int(s)):
            number = "a whole number" if kind.whole else "a number"
            raise DataError(
                f"{self.kind}: strength = {s} ({kind.strength}) must be {number} >= "
                f"{kind.least:g}"
            )

    def store(self, x: Rows, base: Rows | None = None, read: int = 0) -> Tensor:
        """What the database holds for rows `(n, d)`: unit rows, `(n, d')`.

        `base` are the rows whose mean, spread and components the defence goes by
        (default: `x`). `read` numbers the draws of fresh noise: whoever reads twice
        sees two. Everything else is a function of the row, the base and the key.
        """
        x, base = as_rows(x, "rows"), as_rows(x if base is None else base, "base")
        drawn = self.key + 1_000_003 * read if self.kind == "noise" else self.key
        generator = torch.Generator().manual_seed(drawn)
        return unit(DEFENSES[self.kind].apply(x, base, self.strength, generator))

    def ask(self, questions: Rows, base: Rows) -> Tensor:
        """The questions as they have to be asked of the stored rows."""
        if DEFENSES[self.kind].asks:
            return self.store(questions, base)
        return as_rows(questions, "questions")

    def mirror(self) -> Defense:
        """The same defence under another key: an attacker who knows the method does to
        his own rows what was done to the stolen ones, so that the two look alike."""
        return replace(self, key=self.key + 1)


def recall(
    stored: Rows, asked: Rows, exact: Rows, questions: Rows, k: int = 10
) -> Estimate:
    r"""recall@k inside a defended database, `(n, d')`, against exact search.

    The share of the k rows of `exact` `(n, d)` nearest to each question that are among
    the k rows of `stored` nearest to it as `asked`; the error is over questions. Raises
    DataError when the two databases or the two sets of questions differ in number.
    """
    stored, asked, exact, questions = (
        as_rows(rows, name)
        for rows, name in ((stored, "stored"), (asked, "asked"), (exact, "exact"),
                           (questions, "questions"))
    )  # fmt: skip
    if len(stored) != len(exact) or len(asked) != len(questions):
        raise DataError(
            f"{len(stored)} stored rows for {len(exact)} exact ones, {len(asked)} "
            f"questions for {len(questions)}; row i of both must be one text"
        )
    true, found = topk(questions, exact, k)[1], topk(asked, stored, k)[1]
    share = (true[:, :, None] == found[:, None, :]).any(2).double().mean(1)
    return Estimate(
        share.mean().item(), share.std(correction=0).item() / math.sqrt(len(share))
    )


def crossing(
    x: Sequence[float], y: Sequence[float], level: float, z: Sequence[float]
) -> tuple[float, float] | None:
    """Where y over x first falls to `level`, and what z is there, both linear between
    the points; None where it never does.

    >>> crossing([0, 1, 2], [1.0, 0.8, 0.2], 0.5, [1.0, 0.9, 0.7])
    (1.5, 0.8)
    """
    for i in range(1, len(x)):
        if y[i] <= level < y[i - 1]:
            t = (y[i - 1] - level) / (y[i - 1] - y[i])
            return tuple(round(v[i - 1] + t * (v[i] - v[i - 1]), 9) for v in (x, z))
    return None


def rotation(d: int, generator: torch.Generator) -> Tensor:
    """A random orthogonal `(d, d)`, uniform over all (Mezzadri 2007)."""
    q, r = torch.linalg.qr(torch.randn(d, d, generator=generator))
    return q * r.diagonal().sign()


def _normal(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator) / math.sqrt(x.shape[1])


def _noise(x, base, strength, generator):
    # unit(x + s g), g of length about one, drawn anew with every read.
    return x + strength * _normal(x, generator)


def _keyed_noise(x, base, strength, generator):
    # The noise is a function of the row: the same row, the same noise, for ever.
    d = x.shape[1]
    wave = torch.randn(d, d, generator=generator)
    phase = 2 * math.pi * torch.rand(d, generator=generator)
    return x + strength * math.sqrt(2 / d) * torch.cos(HASH * x @ wave + phase)


def _truncate(x, base, strength, generator):
    if strength > x.shape[1]:
        raise DataError(f"truncate: {strength:g} dimensions of {x.shape[1]}")
    return x[:, : int(strength)]


def _quantise(x, base, strength, generator):
    if strength not in STEPS:
        raise DataError(f"quantise: {strength:g} bits, but 1 to {max(STEPS)} are known")
    mean, sd = base.mean(0), base.std(0, correction=0).clamp_min(1e-9)
    half, step = 2 ** (int(strength) - 1), STEPS[int(strength)] * sd
    code = ((x - mean) / step).floor().clamp(-half, half - 1)
    return mean + (code + 0.5) * step


def _rotate(x, base, strength, generator):
    return x @ rotation(x.shape[1], generator)


def _stretch(x, base, strength, generator):
    # Linear, keyed and no isometry: each direction of a secret basis by exp(s g).
    turned = _rotate(x, base, 0, generator)
    return turned * (strength * torch.randn(x.shape[1], generator=generator)).exp()


def _bend(x, base, strength, generator):
    # Random Fourier features (Rahimi and Recht 2007) with a secret basis: the cosine of
    # two rows becomes about exp(-(s |x - y|)^2 / 2), so that near rows stay near and
    # all far ones become equally far.
    d = x.shape[1]
    wave = torch.randn(d, d, generator=generator)
    phase = 2 * math.pi * torch.rand(d, generator=generator)
    return torch.cos(strength * x @ wave + phase)


def _average(x, base, strength, generator):
    # Each row becomes the mean of its k nearest rows, itself included.
    return x[topk(x, x, min(int(strength), len(x)))[1]].mean(1)


def _drop(x, base, strength, generator):
    mean = base.mean(0)
    _, axes = torch.linalg.eigh((base - mean).T @ (base - mean))
    top = axes[:, axes.shape[1] - int(strength) :]
    x = x - mean
    return x - x @ top @ top.T


DEFENSES = {
    "noise": Kind(_noise, "length of the noise", asks=False),
    "keyed-noise": Kind(_keyed_noise, "length of the noise", asks=False),
    "truncate": Kind(_truncate, "dimensions kept", True, 2, True),
    "quantise": Kind(_quantise, "bits a coordinate", False, 1, True),
    "rotate": Kind(_rotate, "unused", asks=True),
    "stretch": Kind(_stretch, "sd of the log of the stretch", asks=True),
    "bend": Kind(_bend, "radians a unit of length", True, 1e-3),
    "average": Kind(_average, "rows in a mean", False, 1, True),
    "drop": Kind(_drop, "components dropped", True, 0, True),
}
