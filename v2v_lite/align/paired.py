r"""Paired references: what the same rows would give to somebody who had the pairs.

All learn from rows x_i and y_i of one text, centred on their training means and brought
to length one. They stand beside the unpaired methods as what pairs are worth; none is a
ceiling.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..spaces.rows import unit
from ..spaces.space import Space
from .base import LinearTranslator, Stage, Translator, centred, procrustes
from .registry import register


class PairedLinear(LinearTranslator):
    """A linear map in closed form from pairs; a method implements `_map`."""

    paired = True
    min_rows = 2

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError

    def _learn(
        self, x: Tensor, y: Tensor, seed: int, progress: bool
    ) -> tuple[Tensor, Sequence[Stage]]:
        start = time.perf_counter()
        weight = self._map(x, y)
        fit = (unit(x @ weight) * y).sum(dim=1).mean().item()
        seconds = time.perf_counter() - start
        return weight, [Stage("mean cosine of the pairs", fit, seconds)]


@register
class Procrustes(PairedLinear):
    r"""The semi-orthogonal map that fits best (Schönemann 1966).

    $W = \arg\max \mathrm{tr}(W^\top X^\top Y) = UV^\top$ of the SVD $X^\top Y =
    USV^\top$. Between equal widths a rotation: it keeps every cosine of the source.
    """

    name = "procrustes"

    def _map(self, x: Tensor, y: Tensor) -> Tensor:
        return procrustes(x, y)


@register
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


@register
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
        white_x = power(x.T @ x / n, -0.5, self.RIDGE)
        white_y = power(y.T @ y / n, -0.5, self.RIDGE)
        cross = white_x @ (x.T @ y / n) @ white_y
        u, s, vh = torch.linalg.svd(cross, full_matrices=False)
        half = power(y.T @ y / n, 0.25, self.RIDGE)
        return white_x @ (u * s.sqrt()) @ vh @ half


@register
class MLP(Translator):
    r"""One hidden layer trained on pairs, the idea of the 2023 namesake.

    "Vec2Vec" (arXiv 2306.12689) is a *supervised* MLP from one embedding to another,
    unrelated to the unpaired method but for the name. Here: standardised centred rows,
    a hidden layer of SiLU, a linear path beside it, loss $1 - \cos$, Adam with a cosine
    schedule.
    """

    name = "mlp"
    paired = True
    min_rows = 2
    WIDTH, EPOCHS, BATCH, RATE = 512, 8, 256, 2e-3

    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]:
        start = time.perf_counter()
        (x, source_mean), (y, target_mean) = centred(source), centred(target)
        generator = torch.Generator().manual_seed(seed)
        self.net = _initial(source.d, self.WIDTH, target.d, generator, x.device)
        cosine = self._train(x, y, generator, progress)
        self.source_mean, self.target_mean = source_mean, target_mean
        self.scale = (target.vectors - target_mean).norm(dim=1).mean().item()
        seconds = time.perf_counter() - start
        return [Stage("mean cosine of the pairs", cosine, seconds)]

    def _train(
        self, x: Tensor, y: Tensor, generator: torch.Generator, progress: bool
    ) -> float:
        from tqdm.auto import trange

        for tensor in self.net.values():
            tensor.requires_grad_(True)
        optimiser = torch.optim.Adam(self.net.values(), lr=self.RATE)
        batches = -(-x.shape[0] // self.BATCH)
        steps = self.EPOCHS * batches
        cooling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        total = torch.zeros((), device=x.device)
        for _ in trange(self.EPOCHS, desc="mlp", disable=not progress, leave=False):
            total.zero_()
            order = torch.randperm(x.shape[0], generator=generator).to(x.device)
            for rows in order.split(self.BATCH):
                cosine = (_core(self.net, x[rows]) * y[rows]).sum(dim=1)
                optimiser.zero_grad()
                (-cosine.mean()).backward()
                optimiser.step()
                cooling.step()
                total += cosine.detach().sum()
        self.net = {key: tensor.detach() for key, tensor in self.net.items()}
        return total.item() / x.shape[0]

    def _translate(self, rows: Tensor) -> Tensor:
        net = {key: tensor.to(rows.device) for key, tensor in self.net.items()}
        core = _core(net, unit(rows - self.source_mean.to(rows.device)))
        return unit(self.target_mean.to(rows.device) + self.scale * core)

    def _state(self) -> dict[str, Tensor]:
        means = {"source_mean": self.source_mean, "target_mean": self.target_mean}
        return self.net | means | {"scale": torch.tensor(self.scale)}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        self.net = dict(tensors)
        self.source_mean = self.net.pop("source_mean")
        self.target_mean = self.net.pop("target_mean")
        self.scale = self.net.pop("scale").item()


def power(c: Tensor, exponent: float, ridge: float) -> Tensor:
    """`c` `(d, d)`, a covariance, to a real power; `ridge` of its mean variance added.

    Directions without variance (MiniLM has two) thereby stay finite.
    """
    values, vectors = torch.linalg.eigh(c)
    values = values.clamp_min(0) + ridge * values.clamp_min(0).mean()
    return (vectors * values**exponent) @ vectors.T


def _initial(
    d_source: int,
    width: int,
    d_target: int,
    generator: torch.Generator,
    device: torch.device,
) -> dict[str, Tensor]:
    def normal(d_in: int, d_out: int, gain: float) -> Tensor:
        scale = gain / math.sqrt(d_in)
        return (torch.randn(d_in, d_out, generator=generator) * scale).to(device)

    return {
        "hidden": normal(d_source, width, math.sqrt(2)),
        "bias": torch.zeros(width, device=device),
        "out": torch.zeros(width, d_target, device=device),  # starts as a linear map
        "skip": normal(d_source, d_target, 1.0),
    }


def _core(net: dict[str, Tensor], x: Tensor) -> Tensor:
    # (b, d_source) unit rows -> (b, d_target) unit rows
    x = x * math.sqrt(x.shape[1])  # entries of about one
    hidden = nn.functional.silu(x @ net["hidden"] + net["bias"])
    return unit(x @ net["skip"] + hidden @ net["out"])
