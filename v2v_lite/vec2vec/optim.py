r"""Muon: a step of the same length in every direction that a matrix can turn to.

Adam scales each entry of a gradient by itself, and so depends on the axes in which rows
are written. Between whitened spaces a map is nearly a rotation and no axes are special.
Muon (Jordan et al. 2024) replaces the gradient's running mean $G = U S V^\top$ by
$U V^\top$: weak directions move as far as strong ones, whatever the axes (chapter 11).
"""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDS = 5
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
    for _ in range(ROUNDS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x if wide else x.mT


class Muon(torch.optim.Adam):
    r"""Adam, but for groups with `momentum`: these take orthogonalised steps.

    For their matrices `(S, m, n)`, each seed's alone, with gradient g and lr $\eta$:

    $$ M \leftarrow \mu M + (1 - \mu) g, \qquad W \leftarrow W - \eta \,
    \mathrm{orth}(\mu M + (1 - \mu) g). $$

    A step turns W by about $\eta$ in all directions, so that rates of 0.1 are usual.
    """

    @torch.no_grad()
    def step(self, closure=None):
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
                    self._turn(weight, group["momentum"], group["lr"])
        return loss

    def _turn(self, weight: Tensor, momentum: float, lr: float) -> None:
        state = self.state[weight]
        if not state:
            state["mean"] = torch.zeros_like(weight)
            state["step"] = torch.zeros(())  # Adam's loading looks for one
        state["mean"].lerp_(weight.grad, 1 - momentum)
        ahead = weight.grad.lerp(state["mean"], momentum)
        weight.sub_(orthogonalised(ahead), alpha=lr)
