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
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Generator, Tensor
from tqdm.auto import tqdm

from ..measure.neighbors import csls_topk, mean_topk, mutual_pairs, topk
from ..spaces.files import DataError
from ..spaces.rows import unit
from ..spaces.space import Space
from .base import Rows, Translator, as_space
from .linalg import correlation, random_orthogonal, whitening

__all__ = ["ALIGNED", "FAILED", "Diagnosis", "diagnose", "label_of"]

Map: TypeAlias = Translator | Callable[[Space], Tensor]

# Scores at and above, below. Set by hand on 30 runs of MiniLM to Granite and WordLlama
# to Arctic: fits of rank under 50 of 4,096 scored .46 and more, those above 500 at most
# .35. A good map drowned in noise by hand (rank 49) scored .21: the score is no rank.
ALIGNED, FAILED = 0.42, 0.34
NEAR = 10
SHOWN = ("density", "anchor", "closeness", "cycle")
RIDGE = 0.5  # of the mean variance, as in self-learning


@dataclass(frozen=True)
class Diagnosis:
    """What is known without pairs; `score` in [0, 1] sums it up, `verdict` names it."""

    score: float
    verdict: str
    density: float
    anchor: float
    closeness: float
    cycle: float
    csls: float
    agreement: float | None
    rows: int

    def line(self) -> str:
        """One line for people.

        >>> Diagnosis(0.5, "aligned", 0.6, 0.4, 0.7, 0.3, 0.1, None, 9).line()
        'aligned (score 0.50: density 0.60, anchor 0.40, closeness 0.70, cycle 0.30)'
        """
        shown = [f"{k} {getattr(self, k):.2f}" for k in SHOWN]
        if self.agreement is not None:
            shown.append(f"seeds agree {self.agreement:.2f}")
        return f"{self.verdict} (score {self.score:.2f}: {', '.join(shown)})"


def diagnose(
    translator: Map, source: Rows, target: Rows, *,
    other_seeds: Sequence[Map] = (), seed: int = 0, n: int = 2048,
    progress: bool = False,
) -> Diagnosis:  # fmt: skip
    """Diagnose a translator, or any map, on unpaired `(n_s, d_s)`, `(n_t, d_t)` rows.

    The rows must be ones that no fit has seen (`spaces.hold_out`), or every score is
    too high. At most `n` a side are drawn by `seed`; `other_seeds` are those of the
    same pair fitted with other seeds. Raises DataError for under 40 rows a side.
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
        white = _white(x)
        near = topk(white, white, NEAR + 1)[0][:, 1:]  # the first is the row itself
        density = correlation(near.mean(dim=1), mean_topk(_white(f), _white(y), NEAR))
        bar.update()
        anchor, cycle, csls = _matched(x, f, y)
        bar.update()
        closeness = nearest_neighbor_score(f, y, generator)
        bar.update()
    agreement = None
    if other_seeds:
        found = [_direction(other, rows, target.mean) for other in other_seeds]
        agreement = sum((f * g).sum(1).mean().item() for g in found) / len(found)
    score = combined_score(density, anchor, agreement)
    return Diagnosis(
        score, label_of(score), density, anchor, closeness, cycle, csls, agreement, n
    )


def combined_score(
    density: float, anchor: float, agreement: float | None = None
) -> float:
    """One score in [0, 1]; a product, because a map that lacks one trace has failed.

    >>> round(combined_score(0.8, 0.5), 3), combined_score(-0.1, 0.9)
    (0.632, 0.0)
    """
    parts = [density, anchor] + ([] if agreement is None else [agreement])
    return math.prod(min(max(part, 0.0), 1.0) for part in parts) ** 0.5


def label_of(score: float) -> str:
    """The verdict on a score: aligned, partial or failed."""
    if score >= ALIGNED:
        return "aligned"
    return "failed" if score < FAILED else "partial"


def nearest_neighbor_score(f: Tensor, y: Tensor, generator: Generator) -> float:
    """How near translations `(n, d)` come to real rows, from chance (0) to 1.

    Mean cosine to the nearest row, the worse of both directions; the real rows are one
    half of y against the other.
    """
    half = y.shape[0] // 2
    y, other = y[:half], y[half : 2 * half]

    def near(a: Tensor) -> float:
        return min(topk(a, y, 1)[0].mean().item(), topk(y, a, 1)[0].mean().item())

    turn = random_orthogonal(f.shape[1], generator=generator).to(f.device)
    f = f[:half]
    chance, best = near(f @ turn), near(other)
    return (near(f) - chance) / max(best - chance, 1e-6)


def _matched(x: Tensor, f: Tensor, y: Tensor) -> tuple[float, float, float]:
    # The anchor, cycle and csls of the module's docstring.
    i, j = mutual_pairs(_white(f), _white(y), NEAR)
    anchor = correlation(x[i] @ x[i].T, y[j] @ y[j].T) if len(i) > NEAR else 0.0
    values, match = csls_topk(f, y, 1, NEAR)
    # Rows that add a little ridge, so that a map that drops dimensions has an inverse.
    n, d = f.shape
    ridge = (1e-3 * n / d) ** 0.5 * torch.eye(d, device=f.device)
    rows, wanted = torch.cat([f, ridge]), torch.cat([x, x.new_zeros(d, x.shape[1])])
    home = torch.linalg.lstsq(rows, wanted).solution
    back = topk(unit(y[match[:, 0]] @ home), x, 1)[1][:, 0]
    cycle = 1 - (x * x[back]).sum(dim=1).mean().item()
    return anchor, cycle, values.mean().item()


def _white(z: Tensor) -> Tensor:
    z = z - z.mean(dim=0)
    return unit(z @ whitening(z, RIDGE))


def _direction(map_: Map, rows: Space, mean: Tensor) -> Tensor:
    # Unit rows around the target's mean; a zero row (the mean itself) stays one.
    translate = map_.translate if isinstance(map_, Translator) else map_
    return unit(translate(rows) - mean)
