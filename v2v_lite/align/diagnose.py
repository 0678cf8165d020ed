r"""Did it work? Numbers that need no pair.

Nobody without pairs can count hits, but a right alignment leaves traces (chapter 6).
All are taken on training rows, f the centred translation, around the training means.

- **closeness**: how near translations come to real rows, and real rows to translations,
  $c = (s(f(X), Y) - s_0) / (s(Y', Y) - s_0)$, with s the mean cosine to the nearest row
  in both directions. Other real rows, Y', are as near as a perfect translation could
  be; rows of a random map, $s_0$, as near as chance is.
- **density**: do crowded rows land in crowds? The correlation over rows of the mean
  cosine to the 10 nearest in X with that of the translation to the 10 nearest in Y. A
  map that only overlays two clouds of one shape has nothing to make it so.
- **csls**: mean CSLS of the best matches (MUSE, arXiv 1710.04087).
- **cycle**: 1 - mean cosine of a row and the row that comes back when it goes to its
  nearest target row and from there, by least squares, home to its nearest source row.
- **anchor**: the correlation of the cosines among rows with those among their matches.
- **agreement** with rivals, the same method from other seeds: the mean cosine of their
  translations. Two runs may fail alike, but seldom.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ..measure.neighbors import csls_topk, mean_topk, topk
from ..spaces.files import DataError
from ..spaces.rows import unit
from .base import Rows, Translator, as_space

ALIGNED, FAILED = 0.5, 0.25  # scores at and above, below: a verdict
NEAR = 10


@dataclass(frozen=True)
class Diagnosis:
    """What is known without pairs; `score` in [0, 1] sums it up, `verdict` names it."""

    score: float
    verdict: str
    closeness: float
    density: float
    cycle: float
    anchor: float
    csls: float
    agreement: float | None
    rows: int

    def as_dict(self) -> dict:
        """The fields by name."""
        return asdict(self)

    def line(self) -> str:
        """One line for people.

        >>> Diagnosis(0.8, "aligned", 0.7, 0.6, 0.3, 0.6, 0.1, None, 9).line()
        'aligned (score 0.80: closeness 0.70, density 0.60, cycle 0.30, anchor 0.60)'
        """
        text = f"{self.verdict} (score {self.score:.2f}: closeness {self.closeness:.2f}"
        text += f", density {self.density:.2f}, cycle {self.cycle:.2f}"
        text += f", anchor {self.anchor:.2f}"
        if self.agreement is not None:
            text += f", seeds agree {self.agreement:.2f}"
        return text + ")"


def diagnose(
    translator: Translator,
    source: Rows,
    target: Rows,
    *,
    rivals: Sequence[Translator] = (),
    seed: int = 0,
    n: int = 4096,
    progress: bool = False,
) -> Diagnosis:
    """Judge a fitted translator on unpaired `(n_s, d_s)` and `(n_t, d_t)` rows.

    `n` rows a side are drawn by `seed`; `rivals` are translators of the same pair
    fitted with other seeds. Raises DataError for fewer than 40 rows a side.
    """
    from tqdm.auto import tqdm

    source, target = as_space(source, "source"), as_space(target, "target")
    if min(source.n, target.n) < 4 * NEAR:
        raise DataError(
            f"{source.n} and {target.n} rows; a diagnosis needs {4 * NEAR} a side"
        )
    generator = torch.Generator().manual_seed(seed)
    n = min(n, source.n, target.n // 2)
    rows = source.take(_draw(source.n, n, generator))
    other = target.take(_draw(target.n, 2 * n, generator))
    with tqdm(total=4, desc="diagnose", disable=not progress) as bar:
        y, y_other = (unit(z - target.mean) for z in other.vectors.split(n))
        x, f = unit(rows.vectors - source.mean), _core(translator, rows, target.mean)
        bar.update()
        close = closeness(f, y, y_other, generator)
        bar.update()
        density = _correlation(_crowding(x), mean_topk(f, y, NEAR))
        bar.update()
        values, match = csls_topk(f, y, 1, NEAR)
        anchor = _correlation(x @ x[:512].T, y[match[:, 0]] @ y[match[:512, 0]].T)
        cycle = _cycle(x, f, y, match[:, 0])
        bar.update()
    agreement = None
    if rivals:
        cores = [_core(rival, rows, target.mean) for rival in rivals]
        agreement = sum((f * g).sum(1).mean().item() for g in cores) / len(cores)
    score = combine(close, density, agreement)
    csls = values.mean().item()
    return Diagnosis(
        score, verdict(score), close, density, cycle, anchor, csls, agreement, n
    )


def combine(close: float, density: float, agreement: float | None = None) -> float:
    r"""One score in [0, 1]: the geometric mean of the traces, each cut to [0, 1].

    A product, because an alignment that lacks one trace has failed.
    """
    parts = [close, density] + ([] if agreement is None else [agreement])
    return math.prod(min(max(part, 0.0), 1.0) for part in parts) ** (1 / len(parts))


def verdict(score: float) -> str:
    """The word for a score: aligned, partial or failed."""
    if score >= ALIGNED:
        return "aligned"
    return "failed" if score < FAILED else "partial"


def closeness(f: Tensor, y: Tensor, y_other: Tensor, generator) -> float:
    """How far translations `(n, d)` reach from chance (0) to real rows (1)."""

    def near(a: Tensor) -> float:
        forth, back = topk(a, y, 1)[0], topk(y, a, 1)[0]
        return min(forth.mean().item(), back.mean().item())

    turn, _ = torch.linalg.qr(torch.randn(f.shape[1], f.shape[1], generator=generator))
    chance, best = near(f @ turn.to(f.device)), near(y_other)
    return (near(f) - chance) / max(best - chance, 1e-6)


def _core(translator: Translator, rows: Rows, mean: Tensor) -> Tensor:
    # Unit rows around the target's mean; a zero row (the mean itself) stays one.
    return unit(translator.translate(rows) - mean)


def _crowding(x: Tensor) -> Tensor:
    return topk(x, x, NEAR + 1)[0][:, 1:].mean(dim=1)


def _cycle(x: Tensor, f: Tensor, y: Tensor, match: Tensor) -> float:
    home = torch.linalg.lstsq(_ridged(f), _padded(x, f.shape[1])).solution
    back = topk(unit(y[match] @ home), x, 1)[1][:, 0]
    return 1 - (x * x[back]).sum(dim=1).mean().item()


def _ridged(f: Tensor) -> Tensor:
    # Rows that add a little ridge, so that a map that drops dimensions has an inverse.
    ridge = (1e-3 * f.shape[0] / f.shape[1]) ** 0.5
    return torch.cat([f, ridge * torch.eye(f.shape[1], device=f.device)])


def _padded(x: Tensor, extra: int) -> Tensor:
    return torch.cat([x, x.new_zeros(extra, x.shape[1])])


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = (z.flatten() - z.mean() for z in (a, b))
    scale = (a.norm() * b.norm()).item()
    return (a @ b).item() / scale if scale > 0 else 0.0


def _draw(size: int, n: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(size, generator=generator)[:n]
