r"""Defences of a vector database, each with what it costs the owner.

A defence changes the stored rows and, where it must, the queries, so that the owner can
still search. Its cost is what search in the defended database no longer finds: of the
exact list (`recall`), or of the right topic (`topical_search`). Its benefit is how much
less an attacker reads out of stolen rows (chapter 16). A key is a number that only the
owner knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..align.linalg import random_orthogonal
from ..measure.estimate import Estimate
from ..measure.neighbors import Rows, as_unit_rows, topk
from ..measure.search import recall_at
from ..spaces.files import ConfigError, DataError
from ..spaces.rows import unit

#: Today's kind for each name that version 0.1 used.
RENAMED = {"stretch": "scale", "bend": "rff", "average": "knn-average",
           "drop": "remove-top"}  # fmt: skip
# Step of the uniform quantiser with least squared error for a standard normal, by bits
# (Max 1960, IRE Trans. Inform. Theory 6(1), Table I; 6 to 8 bits by the same method).
STEPS = {1: 1.596, 2: 0.9957, 3: 0.586, 4: 0.3352,
         5: 0.1881, 6: 0.1041, 7: 0.0569, 8: 0.0308}  # fmt: skip
HASH = 50.0  # radians per unit of length: neighbours get unrelated keyed noise


@dataclass(frozen=True)
class DefenceSpec:
    """One kind of defence.

    `apply(x, base, strength, generator)` maps rows `(n, d)` given the database
    `(m, d)`; `strength` says what that number means, `least` how small and `whole`
    whether it must be an integer; `queries` whether queries are changed like rows.
    """

    apply: Callable[[Tensor, Tensor, float, Generator], Tensor]
    strength: str
    queries: bool
    least: float = 0.0
    whole: bool = False


@dataclass(frozen=True)
class Defence:
    """A kind of defence (a key of `DEFENCES`), its strength and the owner's key.

    Raises ConfigError for an unknown kind or a strength outside its range.

    >>> rows = unit(torch.eye(3)[[0, 1, 2, 0]] + 0.1)
    >>> Defence("rotate", key=7).protect(rows).shape
    torch.Size([4, 3])
    """

    kind: str
    strength: float = 0.0
    key: int = 0

    def __post_init__(self) -> None:
        if self.kind in RENAMED:
            raise ConfigError(f"defence {self.kind!r} is now {RENAMED[self.kind]!r}")
        if self.kind not in DEFENCES:
            known = ", ".join(DEFENCES)
            raise ConfigError(f"no defence {self.kind!r}; there are {known}")
        spec, s = DEFENCES[self.kind], self.strength
        if not math.isfinite(s) or s < spec.least or (spec.whole and s != int(s)):
            number = "a whole number" if spec.whole else "a number"
            raise ConfigError(
                f"{self.kind}: strength = {s} ({spec.strength}) must be {number} >= "
                f"{spec.least:g}"
            )

    def protect(self, x: Rows, base: Rows | None = None, read: int = 0) -> Tensor:
        """What the database stores for rows `(n, d)`: unit rows, `(n, d')`.

        The mean, spread, and principal components that a defence uses are those of
        `base` `(m, d)` (default: `x`). `read` numbers the draws of fresh noise: two
        reads see two draws. Everything else is a function of row, base and key.
        """
        rows = as_unit_rows(x, "rows")
        base = rows if base is None else as_unit_rows(base, "base")
        seed = self.key + 1_000_003 * read if self.kind == "noise" else self.key
        generator = Generator().manual_seed(seed)
        return unit(DEFENCES[self.kind].apply(rows, base, self.strength, generator))

    def protect_query(self, queries: Rows, base: Rows) -> Tensor:
        """The queries `(n, d)` as they must be compared with protected rows."""
        if DEFENCES[self.kind].queries:
            return self.protect(queries, base)
        return as_unit_rows(queries, "queries")

    def adaptive(self) -> Defence:
        """This defence under another key: an adaptive attacker, who knows the method
        but not the key, applies it to their own rows so that both sides look alike."""
        return replace(self, key=self.key + 1)


def recall(
    stored: Rows, asked: Rows, exact: Rows, queries: Rows, k: int = 10
) -> Estimate:
    r"""recall@k of search in a defended database, relative to exact search.

    The fraction of the k rows of `exact` `(n, d)` nearest to each of the `queries`
    `(q, d)` that are among the k rows of `stored` `(n, d')` nearest to the protected
    query in `asked` `(q, d')`; its standard error is over queries. Centring alone
    changes who is near whom: to see what removing components costs beyond that, give
    `exact` and `queries` centred. Raises DataError when the two databases or the two
    sets of queries differ in number.
    """
    stored, asked = as_unit_rows(stored, "stored"), as_unit_rows(asked, "asked")
    exact, queries = as_unit_rows(exact, "exact"), as_unit_rows(queries, "queries")
    if len(stored) != len(exact) or len(asked) != len(queries):
        raise DataError(
            f"{len(stored)} stored rows for {len(exact)} exact ones, {len(asked)} "
            f"protected queries for {len(queries)}; row i of both must be one text"
        )
    true, found = topk(queries, exact, k)[1], topk(asked, stored, k)[1]
    return Estimate.of(recall_at(found, true))


@dataclass(frozen=True)
class TopicalSearch:
    """precision@k and nDCG@k by shared labels, each less what a random order gives."""

    precision: Estimate
    ndcg: Estimate


def topical_search(
    stored: Rows, asked: Rows, shared: Tensor, k: int = 10
) -> TopicalSearch:
    r"""How well search finds the right topic, in a database defended or not.

    `shared` `(q, n)` is the number of labels that query i and row j have in common,
    $s_{ij}$; each of the `asked` rows `(q, d)` is answered by the k nearest of the
    `stored` `(n, d)`. Precision is the fraction of answers with $s_{ij} > 0$, less that
    fraction of all rows. nDCG is $\sum_r s_{i r} / \log_2 (r + 1)$ over the answers'
    places r, divided by the largest such sum (Jarvelin and Kekalainen 2002), less its
    mean over random orders. So 0 is a search by chance, for both; divided by what the
    undefended rows give, they say what share of its use a database keeps. Queries that
    share a label with no row are left out; DataError for shapes that do not fit.
    """
    stored, asked = as_unit_rows(stored, "stored"), as_unit_rows(asked, "asked")
    if shared.shape != (len(asked), len(stored)):
        raise DataError(
            f"shared labels are {tuple(shared.shape)}, but {len(asked)} queries ask "
            f"{len(stored)} rows; row i is a query, column j a stored row"
        )
    some, k = (shared > 0).any(1), min(k, len(stored))
    if not some.any():
        raise DataError("no query shares a label with any stored row")
    gain = shared[some].double()
    found = gain.gather(1, topk(asked[some], stored, k)[1])
    discount = 1 / torch.arange(2, k + 2, dtype=torch.float64).log2()
    best = gain.topk(k, dim=1).values @ discount
    precision = (found > 0).double().mean(1) - (gain > 0).double().mean(1)
    ndcg = (found @ discount - gain.mean(1) * discount.sum()) / best
    return TopicalSearch(Estimate.of(precision), Estimate.of(ndcg))


def gaussian_sigma(
    epsilon: float, delta: float = 1e-5, sensitivity: float = 2.0
) -> float:
    r"""Standard deviation per coordinate of noise that is (epsilon, delta)-private.

    The least $\sigma$ at which, for any two rows at most `sensitivity` $\Delta$ apart,
    $\Phi(a - b) - e^\varepsilon \Phi(-a - b) \le \delta$ with $a = \Delta / 2 \sigma$
    and $b = \varepsilon \sigma / \Delta$ (Balle and Wang 2018). Two unit rows are at
    most 2 apart; in d dimensions the noise has the length $\sigma \sqrt d$.
    It is for one read: m reads of fresh noise are one with $\sigma / \sqrt m$. Raises
    ConfigError for numbers that are not above 0, or a delta of 1 or more.
    """
    from scipy.optimize import brentq
    from scipy.special import log_ndtr

    if not (0 < epsilon < math.inf and 0 < delta < 1 and 0 < sensitivity < math.inf):
        given = f"epsilon = {epsilon}, delta = {delta}, sensitivity = {sensitivity}"
        raise ConfigError(f"{given}: all must be finite and above 0, delta below 1")

    def excess(log_sigma: float) -> float:  # sigma in units of the sensitivity
        a, b = math.exp(-log_sigma) / 2, epsilon * math.exp(log_sigma)
        kept = math.exp(log_ndtr(a - b)) - math.exp(epsilon + log_ndtr(-a - b))
        return kept - delta

    return sensitivity * math.exp(brentq(excess, -15.0, 15.0, xtol=1e-10))


def _noise(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    # unit(x + s n), n Gaussian of length about one, drawn anew with every read.
    return x + strength * (torch.randn(x.shape, generator=g) / math.sqrt(x.shape[1]))


def _keyed_noise(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    # The noise is a function of the row: the same row gets the same noise for ever.
    return x + strength * math.sqrt(2 / x.shape[1]) * _rff(x, base, HASH, g)


def _truncate(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    if strength > x.shape[1]:
        raise DataError(f"truncate: {strength:g} dimensions of {x.shape[1]}")
    return x[:, : int(strength)]


def _quantise(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    bits = int(strength)
    if bits not in STEPS:
        raise DataError(f"quantise: {bits} bits, but 1 to {max(STEPS)} are known")
    mean, sd = base.mean(0), base.std(0, correction=0).clamp_min(1e-9)
    half, step = 2 ** (bits - 1), STEPS[bits] * sd
    code = ((x - mean) / step).floor().clamp(-half, half - 1)
    return mean + (code + 0.5) * step


def _rotate(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    return x @ random_orthogonal(x.shape[1], generator=g)


def _permute(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    return x[:, torch.randperm(x.shape[1], generator=g)]


def _scale(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    # Linear, keyed and no isometry: each axis of a secret basis by its own exp(s n).
    rotated = x @ random_orthogonal(x.shape[1], generator=g)
    return rotated * (strength * torch.randn(x.shape[1], generator=g)).exp()


def _rff(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    # Random Fourier features (Rahimi and Recht 2007) with a secret basis: the cosine of
    # two rows becomes about exp(-(s |x - y|)^2 / 2), so that near rows stay near and
    # all far ones become equally far.
    d = x.shape[1]
    frequencies = torch.randn(d, d, generator=g)
    phase = 2 * math.pi * torch.rand(d, generator=g)
    return torch.cos(strength * x @ frequencies + phase)


def _knn_average(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    # Each row becomes the mean of its k nearest rows, itself included.
    near = topk(x, x, min(int(strength), len(x)))[1]
    return torch.cat([x[some].mean(1) for some in near.split(64)])  # little memory


def _remove_top(x: Tensor, base: Tensor, strength: float, g: Generator) -> Tensor:
    # Centres too, which alone changes cosines; see `recall`.
    mean = base.mean(0)
    _, axes = torch.linalg.eigh((base - mean).T @ (base - mean))
    top = axes[:, axes.shape[1] - int(strength) :]
    x = x - mean
    return x - x @ top @ top.T


DEFENCES = {
    "noise": DefenceSpec(_noise, "length of the noise", queries=False),
    "keyed-noise": DefenceSpec(_keyed_noise, "length of the noise", queries=False),
    "truncate": DefenceSpec(_truncate, "dimensions kept", True, 2, True),
    "quantise": DefenceSpec(_quantise, "bits per coordinate", False, 1, True),
    "rotate": DefenceSpec(_rotate, "unused", queries=True),
    "permute": DefenceSpec(_permute, "unused", queries=True),
    "scale": DefenceSpec(_scale, "sd of the log scale factors", queries=True),
    "rff": DefenceSpec(_rff, "radians per unit of length", True, 1e-3),
    "knn-average": DefenceSpec(_knn_average, "rows in a mean", False, 1, True),
    "remove-top": DefenceSpec(_remove_top, "components removed", True, 0, True),
}
