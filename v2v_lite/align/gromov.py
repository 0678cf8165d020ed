r"""Gromov-Wasserstein: transport between spaces that share no coordinates.

$$ \min_P \sum_{ijkl} (D^x_{ik} - D^y_{jl})^2 P_{ij} P_{kl} $$

over plans P `(n, m)` between equal weights (Mémoli 2011), where D are the cosine
distances *within* either side, whatever its width: no cosine across is ever taken. The
translation is that of every plan (`transport`). Quadratic in P and not convex.
"""

from __future__ import annotations

import numpy as np
import torch

from ..spaces.files import DataError
from ..spaces.space import Space
from .base import centred
from .registry import register
from .transport import PlanTranslator, TransportConfig, sinkhorn, uniform


@register
class GromovWasserstein(PlanTranslator):
    """The plan that keeps distances within either side; unpaired, any widths.

    Not convex, so it descends from several starts and keeps the lowest end: all rows
    alike, the plan between the rows' sorted distances (Mémoli's third lower bound;
    already right for a rotated copy), and plans by chance. Time is some dozens of EMDs
    a start: hence fewer rows.
    """

    name = "gw"
    defaults = TransportConfig(rows=1024)

    def _plan(
        self, source: Space, target: Space, generator: torch.Generator, bar
    ) -> tuple[np.ndarray, float]:
        d_x, d_y = _distances(source), _distances(target)
        weights, found = uniform((len(d_x), len(d_y))), []
        for number in range(self.config.starts):
            start = _start(number, d_x, d_y, generator)
            plan, log = self._descend(d_x, d_y, *weights, start)
            found.append((float(log["gw_dist"]), plan))
            bar.update()
        objective, plan = min(found, key=lambda pair: pair[0])
        return plan, objective

    def _descend(self, d_x, d_y, p, q, start) -> tuple[np.ndarray, dict]:
        import ot

        return ot.gromov.gromov_wasserstein(
            d_x, d_y, p, q, "square_loss", symmetric=True, log=True, G0=start,
            max_iter=200,
        )  # fmt: skip


@register
class EntropicGromov(GromovWasserstein):
    """Gromov-Wasserstein less epsilon times the plan's entropy (Peyré et al. 2016).

    The entropy keeps plans soft, hence undecided, for long: with the same texts on both
    sides it often ends where the exact descent never does, in the truth (chapter 5).
    """

    name = "gw-entropic"
    defaults = TransportConfig(rows=512, epsilon=0.0015, starts=4)

    ROUNDS, STEPS = 150, 50

    def _descend(self, d_x, d_y, p, q, start) -> tuple[np.ndarray, dict]:
        # POT's own loop (mirror descent) takes no stabilised Sinkhorn, and its plain
        # one underflows at temperatures low enough to find anything.
        from ot.gromov import gwggrad, gwloss, init_matrix

        parts = init_matrix(d_x, d_y, p, q, "square_loss")
        plan = np.outer(p, q) if start is None else start
        for _ in range(self.ROUNDS):
            cost = gwggrad(*parts, plan)
            old, plan = plan, sinkhorn(cost, self.config.epsilon, self.STEPS)
            if np.abs(plan - old).sum() < 1e-4:
                break
        return plan, {"gw_dist": gwloss(*parts, plan)}


def _start(
    number: int, d_x: np.ndarray, d_y: np.ndarray, generator: torch.Generator
) -> np.ndarray | None:
    import ot

    if number == 0:
        return None
    weights = uniform((len(d_x), len(d_y)))
    if number == 1:
        return ot.emd(*weights, _profiles(d_x, d_y))
    noise = torch.empty(len(d_x), len(d_y), dtype=torch.float64)
    return ot.sinkhorn(*weights, noise.exponential_(generator=generator).numpy(), 1.0)


def _distances(space: Space) -> np.ndarray:
    # Root mean square 1, or two encoders' different spread would be a cost of its own.
    if (space.vectors - space.vectors[0]).abs().max() < 1e-6:
        raise DataError(f"{space.name}: all rows are alike; there is nothing to keep")
    x = centred(space)[0].double()
    distances = (1 - x @ x.T).clamp_min_(0).fill_diagonal_(0).cpu().numpy()
    return distances / np.sqrt((distances**2).mean())


def _profiles(d_x: np.ndarray, d_y: np.ndarray, points: int = 100) -> np.ndarray:
    # (n, m) squared differences of the rows' sorted distances, at equal quantiles.
    at = (np.arange(points) + 0.5) / points
    a, b = (np.quantile(d, at, axis=1).T for d in (d_x, d_y))
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.maximum(squares, 0) / points
