r"""Paired references: what the same rows give to somebody who has the pairs.

All learn from rows x_i and y_i of one text, centred on their training means and brought
to length one. They show beside the unpaired methods what pairs are worth; none is an
upper bound.
"""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from tqdm.auto import trange

from ..spaces.rows import unit
from ..spaces.space import Space
from .base import Clock, Stages, centred
from .linalg import power, procrustes, whitening
from .linear import CentredTranslator, Learned, LinearTranslator


class PairedLinear(LinearTranslator):
    """A linear map in closed form from pairs; a method implements `_map`."""

    paired = True
    min_rows = 2

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def _learn(self, x: Tensor, y: Tensor, seed: int, progress: bool) -> Learned:
        clock, weight = Clock(), self._map(x, y)
        fit = (unit(x @ weight) * y).sum(dim=1).mean().item()
        return weight, [clock.stage("mean cosine of the pairs", fit)]


class Procrustes(PairedLinear):
    r"""The semi-orthogonal map that fits best (Schönemann 1966).

    $W = \arg\max \mathrm{tr}(W^\top X^\top Y) = UV^\top$ of the SVD $X^\top Y =
    USV^\top$. Between equal widths a rotation: it keeps every cosine of the source.
    """

    name = "procrustes"

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        return procrustes(x, y)


class Ridge(PairedLinear):
    r"""Least squares with a penalty: $W = (X^\top X + \lambda I)^{-1} X^\top Y$.

    $\lambda = n \cdot$ `RIDGE`. It minimises the distance, hence has the best cosine of
    the linear maps, but shrinks what it cannot predict: translations crowd together,
    and retrieval is worse than Procrustes'.
    """

    name = "ridge"
    # As a share of the variance, which sums to one over the dimensions. MiniLM's two
    # constant dimensions need some of it for the system to be solvable at all.
    RIDGE = 1e-4

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        gram = x.T @ x
        gram.diagonal().add_(self.RIDGE * x.shape[0])
        return torch.linalg.solve(gram, x.T @ y)


class Whitened(PairedLinear):
    r"""Procrustes between whitened spaces, weighted by the canonical correlations.

    $C_x^{-1/2} C_{xy} C_y^{-1/2} = U S V^\top$ gives the shared directions and their
    correlations S (Hotelling 1936), and the map

    $$ W = C_x^{-1/2}\, U S^{1/2} V^\top\, C_y^{1/4} . $$

    Scored within the whitened spaces, weighting both sides by S ranks better still
    (.999 for MiniLM to Granite), but a translator answers in the target's own
    coordinates. There $S^0$ and $C_y^{1/2}$ (whiten, rotate, undo) give Procrustes'
    ranks, and $S^1$ and $C_y^{1/2}$, the least-squares map, the best cosine and the
    worst ranks, because its translations crowd into the target's few large directions.
    Half of either weighting beats Procrustes in rank *and* cosine for all bundled
    pairs. The price: of a mere rotation it makes something near, not the rotation.
    """

    name = "whitened"
    # Of the mean variance: about d/n for the bundled spaces, which is how far a sample
    # covariance's small eigenvalues are off. Below it, whitening amplifies noise.
    RIDGE = 1e-2

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        n = x.shape[0]
        white_x, white_y = whitening(x, self.RIDGE), whitening(y, self.RIDGE)
        cross = white_x @ (x.T @ y / n) @ white_y
        u, s, vh = torch.linalg.svd(cross, full_matrices=False)
        half = power(y.T @ y / n, 0.25, self.RIDGE)
        return white_x @ (u * s.sqrt()) @ vh @ half


class MLP(CentredTranslator):
    r"""One hidden layer trained on pairs, the idea of the 2023 namesake.

    "Vec2Vec" (arXiv 2306.12689) is a *supervised* MLP from one embedding to another,
    unrelated to the unpaired method but for the name. Here: standardised centred rows,
    a hidden layer of SiLU, a linear path beside it, loss $1 - \cos$, Adam with a cosine
    schedule.
    """

    name = "mlp"
    paired = True
    min_rows = 2
    NET: ClassVar = {"hidden": "sh", "bias": "h", "out": "ht", "skip": "st"}
    layout = CentredTranslator.layout | NET
    WIDTH, EPOCHS, BATCH, LR = 512, 8, 256, 2e-3

    hidden: Tensor  # (d_s, h)
    bias: Tensor  # (h,)
    out: Tensor  # (h, d_t)
    skip: Tensor  # (d_s, d_t)

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        clock, generator = Clock(), Generator().manual_seed(seed)
        (x, _), (y, _) = centred(source), centred(target)
        normal, root = partial(torch.randn, generator=generator), math.sqrt(source.d)
        net = {
            "hidden": normal(source.d, self.WIDTH) * (math.sqrt(2) / root),
            "bias": torch.zeros(self.WIDTH),
            "out": torch.zeros(self.WIDTH, target.d),  # starts as a linear map
            "skip": normal(source.d, target.d) * (1 / root),
        }
        net = {key: tensor.to(x.device).requires_grad_() for key, tensor in net.items()}
        optimiser = torch.optim.Adam(net.values(), lr=self.LR)
        steps = self.EPOCHS * math.ceil(len(x) / self.BATCH)
        cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        total = torch.zeros((), device=x.device)
        for _ in trange(self.EPOCHS, desc="mlp", disable=not progress, leave=False):
            total.zero_()
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for rows in order.split(self.BATCH):
                cosine = (_forward(net, x[rows]) * y[rows]).sum(dim=1)
                optimiser.zero_grad()
                (-cosine.mean()).backward()
                optimiser.step()
                cooling.step()
                total += cosine.detach().sum()
        for key, tensor in net.items():
            setattr(self, key, tensor.detach())
        self._centre_on(source, target)
        return [clock.stage("mean cosine of the pairs", total.item() / len(x))]

    def _direction(self, x: Tensor) -> Tensor:
        net = {key: getattr(self, key).to(x.device) for key in self.NET}
        return _forward(net, unit(x))


def _forward(net: dict[str, Tensor], x: Tensor) -> Tensor:
    # (b, d_source) unit rows -> (b, d_target) unit rows
    x = x * math.sqrt(x.shape[1])  # entries of about one
    hidden = nn.functional.silu(x @ net["hidden"] + net["bias"])
    return unit(x @ net["skip"] + hidden @ net["out"])
