r"""Diagnosis of a translator without pairs: did the alignment work?

Without pairs nobody can count hits, but a right alignment leaves traces (chapter 6).
They are measured on rows that the fit never saw: on its own rows every fit scores
well, since it laid the one cloud over the other. f is the centred translation.

- **density**: do rows of dense regions go to dense regions? The correlation, over rows,
  of the mean cosine to the 10 nearest in X with that of the translation to the 10
  nearest in Y. Both clouds are whitened first, so that the few largest directions,
  which any map with the right spectrum gets right, do not decide.
- **anchor**: the correlation of the cosines among rows with the cosines among their
  matches (mutual nearest neighbours): the objective of the anchors, on rows.
- **closeness**: the cosine of translations to their nearest real rows and back, from
  chance (a randomly rotated cloud, 0) to what other real rows reach (1).
- **csls**: mean CSLS of the best matches (MUSE, arXiv 1710.04087).
- **cycle**: 1 - mean cosine of a row and the row that comes back when it goes to its
  match and from there, by least squares, to the nearest source row.
- **agreement** with other seeds of the same method: the mean cosine of their
  translations. Two runs may still fail in the same way.

The score is the geometric mean of density and anchor, times the root of the agreement
where it is known. The others do not count: a wrong map can reach each of them.

Few rows, or few directions, let a wrong map score well too. So a verdict other than
"failed" needs a score above **chance**: what two unrelated Gaussian clouds of the same
number of rows and the same spectra reach when each axis goes to the other's of the same
rank, plus four standard deviations. Below it the verdict is "undecided". Rows of more
than 512 dimensions are judged in their 512 leading axes, as they are fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad
from tqdm.auto import tqdm

from ..measure.neighbors import csls_topk, mean_topk, mutual_pairs, topk
from ..spaces.files import DataError
from ..spaces.rows import unit
from ..spaces.space import Space
from .base import Rows, Translator, as_space
from .linalg import WIDE, correlation, leading_axes, random_orthogonal, whitening
from .linear import through

Map: TypeAlias = Translator | Callable[[Space], Tensor]

# Scores at and above, below. Set by hand on 30 runs of MiniLM to Granite and WordLlama
# to Arctic: fits of rank under 50 of 4,096 scored .46 and more, those above 500 at most
# .35. A good map drowned in noise by hand (rank 49) scored .21: the score is no rank.
ALIGNED, FAILED = 0.42, 0.34
NEAR = 10
SHOWN = ("density", "anchor", "closeness", "cycle")
SURROGATE_ROWS = 512
SAME = 1e-5  # translations that differ by less are one
CLEAR = 0.02  # cosines that differ by less do not tell real rows from chance
RIDGE = 0.5  # of the mean variance, as in self-learning


@dataclass(frozen=True)
class Diagnosis:
    """What is known without pairs; `score` in [0, 1] sums it up, `verdict` names it.

    `chance` is the score up to which unrelated rows come; 0 where it was not asked for.
    """

    score: float
    verdict: str
    density: float
    anchor: float
    closeness: float
    cycle: float
    csls: float
    agreement: float | None
    rows: int
    chance: float = 0.0

    def line(self) -> str:
        """One line for people.

        >>> Diagnosis(0.5, "aligned", 0.6, 0.4, 0.7, 0.3, 0.1, None, 9).line()
        'aligned (score 0.50: density 0.60, anchor 0.40, closeness 0.70, cycle 0.30)'
        """
        shown = [f"{k} {getattr(self, k):.2f}" for k in SHOWN]
        if self.agreement is not None:
            shown.append(f"seeds agree {self.agreement:.2f}")
        if self.verdict == "undecided":
            few = f"{self.rows} rows a side are too few to tell"
            shown.append(f"{few}: unrelated ones come up to {self.chance:.2f}")
        return f"{self.verdict} (score {self.score:.2f}: {', '.join(shown)})"


def diagnose(
    translator: Map, source: Rows, target: Rows, *,
    other_seeds: Sequence[Map] = (), seed: int = 0, n: int = 2048,
    chance: bool = True, progress: bool = False,
) -> Diagnosis:  # fmt: skip
    """Diagnose a translator, or any map, on unpaired `(n_s, d_s)`, `(n_t, d_t)` rows.

    The rows must be ones that no fit has seen (`spaces.hold_out`), or every score is
    too high. At most `n` a side are drawn by `seed`; `other_seeds` are those of the
    same pair fitted with other seeds. `chance=False` saves the time to find out what
    unrelated rows reach, and the verdict is that of the score alone. A map that sends
    all rows to one place has failed. Raises DataError for under 40 rows a side.
    """
    source, target = as_space(source, "source"), as_space(target, "target")
    generator, least = Generator().manual_seed(seed), min(source.n, target.n)
    if least < 4 * NEAR:
        raise DataError(f"{least} rows; a diagnosis needs {4 * NEAR} a side")
    n = min(n, least)
    rows, others = (
        space.take(torch.randperm(space.n, generator=generator)[:n])
        for space in (source, target)
    )
    x, y = unit(rows.vectors - source.mean), unit(others.vectors - target.mean)
    with tqdm(total=3, desc="diagnose", disable=not progress) as bar:
        f = _direction(translator, rows, target.mean)
        if (f - f[:1]).abs().max() < SAME:
            return Diagnosis(0.0, "failed", 0.0, 0.0, 0.0, 1.0, 0.0, None, n)
        whole, (x,), (y, f) = f, _narrowed(x), _narrowed(y, f)
        density = _density(_white(x), _white(f), _white(y))
        bar.update()
        anchor, cycle, csls = _matched(x, f, y)
        bar.update()
        closeness = nearest_neighbor_score(f, y, generator)
        bar.update()
    found = [_direction(other, rows, target.mean) for other in other_seeds]
    agree = [(whole * g).sum(1).mean().item() for g in found]
    agreement = sum(agree) / len(agree) if agree else None
    score, reached = combined_score(density, anchor, agreement), 0.0
    if chance and (score >= FAILED or n < SURROGATE_ROWS):
        reached = chance_score(x, f, y, generator)
    return Diagnosis(
        score, label_of(score, reached), density, anchor, closeness, cycle, csls,
        agreement, n, reached,
    )  # fmt: skip


def combined_score(
    density: float, anchor: float, agreement: float | None = None
) -> float:
    """One score in [0, 1]; a product, because a map that lacks one trace has failed.

    >>> round(combined_score(0.8, 0.5), 3), combined_score(-0.1, 0.9)
    (0.632, 0.0)
    """
    parts = [density, anchor] + ([] if agreement is None else [agreement])
    return math.prod(min(max(part, 0.0), 1.0) for part in parts) ** 0.5


def label_of(score: float, chance: float = 0.0) -> str:
    """The verdict on a score: aligned, partial or failed; undecided where unrelated
    rows come as far, or so far that a score below says nothing."""
    if score < chance and (score >= FAILED or chance >= ALIGNED):
        return "undecided"
    if score >= ALIGNED:
        return "aligned"
    return "failed" if score < FAILED else "partial"


def chance_score(
    x: Tensor, f: Tensor, y: Tensor, generator: Generator, draws: int = 6
) -> float:
    """A score that unrelated rows hardly pass, for rows `(n, d)` with these spectra.

    From density and anchor of Gaussian clouds whose axes go to the axes of the same
    rank, each its mean plus four standard deviations.
    """
    x, f, y = (z[:SURROGATE_ROWS] for z in (x, f, y))
    spectra, n, found = [_spectrum(z) for z in (x, f, y)], len(x), []
    width = max(map(len, spectra[1:]))
    spectra[1:] = [pad(s, (0, width - len(s))) for s in spectra[1:]]
    for _ in range(draws):
        z = torch.randn(2, n, max(map(len, spectra)), generator=generator).to(x.device)
        both = zip((z[0], z[0], z[1]), spectra, strict=True)
        clouds = [unit(normal[:, : len(s)] * s) for normal, s in both]
        # Axes without variance are left out, which alters the mean that ridges go by.
        white = [
            _white(cloud, RIDGE * cloud.shape[1] / rows.shape[1])
            for cloud, rows in zip(clouds, (x, f, y), strict=True)
        ]
        i, j = mutual_pairs(white[1], white[2], NEAR)
        found.append((_density(*white), _anchor(clouds[0][i], clouds[2][j])))
    traces = torch.tensor(found, dtype=torch.float64)
    mean, sd = traces.mean(dim=0), traces.std(dim=0)
    sd[0] = max(sd[0], (1 - mean[0] ** 2) / n**0.5)  # of a correlation over n rows
    return combined_score(*(mean + 4 * sd).tolist())


def nearest_neighbor_score(f: Tensor, y: Tensor, generator: Generator) -> float:
    """How near translations `(n, d)` come to real rows, from chance (0) to 1.

    Mean cosine to the nearest row, the worse of both directions; the real rows are one
    half of y against the other. Where chance comes as near as real rows do, so that
    their difference tells nothing, it counts as CLEAR; the result is within -1 and 2.
    """
    half = y.shape[0] // 2
    y, other = y[:half], y[half : 2 * half]

    def near(a: Tensor) -> float:
        return min(topk(a, y, 1)[0].mean().item(), topk(y, a, 1)[0].mean().item())

    turn = random_orthogonal(f.shape[1], generator=generator).to(f.device)
    f = f[:half]
    chance, best = near(f @ turn), near(other)
    return min(max((near(f) - chance) / max(best - chance, CLEAR), -1.0), 2.0)


def _matched(x: Tensor, f: Tensor, y: Tensor) -> tuple[float, float, float]:
    # The anchor, cycle and csls of the module's docstring.
    i, j = mutual_pairs(_white(f), _white(y), NEAR)
    anchor = _anchor(x[i], y[j])
    values, match = csls_topk(f, y, 1, NEAR)
    # Rows that add a little ridge, so that a map that drops dimensions has an inverse.
    n, d = f.shape
    ridge = (1e-3 * n / d) ** 0.5 * torch.eye(d, device=f.device)
    rows, wanted = torch.cat([f, ridge]), torch.cat([x, x.new_zeros(d, x.shape[1])])
    home = torch.linalg.lstsq(rows, wanted).solution
    back = topk(unit(y[match[:, 0]] @ home), x, 1)[1][:, 0]
    cycle = 1 - (x * x[back]).sum(dim=1).mean().item()
    return anchor, cycle, values.mean().item()


def _density(x: Tensor, f: Tensor, y: Tensor) -> float:
    # Of whitened rows; the nearest of x among x is the row itself.
    near = topk(x, x, NEAR + 1)[0][:, 1:]
    return correlation(near.mean(dim=1), mean_topk(f, y, NEAR))


def _anchor(x: Tensor, y: Tensor) -> float:
    return correlation(x @ x.T, y @ y.T) if len(x) > NEAR else 0.0


def _spectrum(z: Tensor) -> Tensor:
    # Standard deviations of rows `(n, d)` along their axes, but those that have none.
    s = torch.linalg.svdvals(z - z.mean(dim=0)) / len(z) ** 0.5
    return s[s > 1e-4 * s[0]]


def _narrowed(z: Tensor, *others: Tensor) -> list[Tensor]:
    # Wide rows, and others of their space, in their leading axes, as fits see them.
    if z.shape[1] <= WIDE:
        return [z, *others]
    front = leading_axes(z, WIDE)
    return [through(front, rows) for rows in (z, *others)]


def _white(z: Tensor, ridge: float = RIDGE) -> Tensor:
    z = z - z.mean(dim=0)
    return unit(z @ whitening(z, ridge))


def _direction(map_: Map, rows: Space, mean: Tensor) -> Tensor:
    # Unit rows around the target's mean; a zero row (the mean itself) stays one.
    translate = map_.translate if isinstance(map_, Translator) else map_
    return unit(translate(rows) - mean)
