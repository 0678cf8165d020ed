r"""Optimisers: Adam, and Muon for matrices.

Muon makes steps of the same length in every direction that a matrix can turn to. Adam
scales each entry of a gradient by itself, and so depends on the axes in which rows
are written. Between whitened spaces a map is nearly a rotation and no axes are special.
Muon (Jordan et al. 2024) replaces the gradient's moving average $G = U S V^\top$ by
$U V^\top$: weak directions move as far as strong ones, whatever the axes (chapter 11).
(`torch.optim.Muon` takes single matrices; these are `(S, m, n)`, one per seed.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .config import OptimConfig
from .nets import Networks

__all__ = ["Muon", "build_optimisers", "orthogonalised"]

ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: steepest at 0, bounded near 1


def orthogonalised(g: Tensor) -> Tensor:
    r"""About $U V^\top$ of $G = U S V^\top$, `(..., m, n)`, by matrix products alone.

    Five rounds of $X \leftarrow a X + (b X X^\top + c (X X^\top)^2) X$ from $G / \lVert
    G \rVert_F$ bring singular values above a hundredth of the norm to between 0.6 and
    1.3, which serves as well as 1. A zero matrix stays zero.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers".
    """
    wide = g.shape[-2] <= g.shape[-1]
    x = g if wide else g.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-30)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


class Muon(torch.optim.Adam):
    r"""Adam, except for groups with `momentum`: these take orthogonalised steps.

    For their matrices `(S, m, n)`, each seed's alone, with gradient g and lr $\eta$:

    $$ M \leftarrow \mu M + (1 - \mu) g, \qquad W \leftarrow W - \eta \,
    \mathrm{orth}(\mu M + (1 - \mu) g). $$

    A step turns W by about $\eta$ in all directions, so rates of 0.1 are usual.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups."""
        groups = self.param_groups
        try:
            self.param_groups = [g for g in groups if "momentum" not in g]
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for weight in group["params"] if "momentum" in group else ():
                if weight.grad is not None:
                    self._step_matrix(weight, group["momentum"], group["lr"])
        return loss

    def _step_matrix(self, weight: Tensor, momentum: float, lr: float) -> None:
        state, grad = self.state[weight], weight.grad
        assert grad is not None
        if not state:
            state["mean"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # Adam's loading looks for one
        state["mean"].lerp_(grad, 1 - momentum)
        ahead = grad.lerp(state["mean"], momentum)
        weight.sub_(orthogonalised(ahead), alpha=lr)


def build_optimisers(
    networks: Networks, config: OptimConfig
) -> dict[str, torch.optim.Optimizer]:
    """The optimisers of `train_step`: "nets" and, if any are trained, "discriminators".

    The translator's input adapters learn at the full rate, the rest at `slow_lr_scale`
    of it; with Muon what is no matrix goes with the rest.
    """
    nets = networks.nets
    fast = [*nets.inputs.parameters()]
    slow = [*nets.outputs.parameters(), *nets.backbone.parameters()]
    # One pass over weights, gradients and moments, not a dozen; on CPUs since 2.4.
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    fused = fast[0].is_cuda or release >= (2, 4)
    adam: dict[str, Any] = {"betas": config.betas, "fused": fused}
    if config.optimizer == "muon":
        slow += [w for w in fast if w.ndim != 3 or w.shape[1] == 1]
        fast = [w for w in fast if w.ndim == 3 and w.shape[1] > 1]
    groups: list[dict[str, Any]] = [
        {"params": fast, "lr_scale": 1.0},
        {"params": slow, "lr_scale": config.slow_lr_scale},
    ]
    found: dict[str, torch.optim.Optimizer] = {}
    if config.optimizer == "muon":
        groups[0]["momentum"] = config.momentum
        # Not fused: a loss scaler then keeps gradients of infinite length away.
        found["nets"] = Muon(groups, config.lr, betas=config.betas)
    else:
        found["nets"] = torch.optim.Adam(groups, config.lr, **adam)
    if weights := networks.discriminator_parameters():
        d_adam = torch.optim.Adam(weights, config.d_lr, eps=config.d_eps, **adam)
        found["discriminators"] = d_adam
    return found
