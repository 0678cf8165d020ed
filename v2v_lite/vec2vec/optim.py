r"""Optimisers: Adam, and Muon for matrices; their learning rates at each step.

Muon makes steps of the same length in every direction that a matrix can turn to. Adam
scales each entry of a gradient by itself, and so depends on the axes in which rows
are written. Between whitened spaces a map is nearly a rotation and no axes are special.
Muon (Jordan et al. 2024) replaces the gradient's moving average $G = U S V^\top$ by
$U V^\top$: weak directions move as far as strong ones, whatever the axes (chapter 11).
(`torch.optim.Muon` takes single matrices; these are `(S, m, n)`, one per seed.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from ..align.linalg import orthogonalised
from .config import OptimConfig
from .nets import Networks
from .step import Optimisers


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
                if (grad := weight.grad) is not None:
                    state, momentum = self.state[weight], group["momentum"]
                    if not state:  # Adam's loading looks for a step
                        state["mean"] = torch.zeros_like(grad)
                        state["step"] = torch.zeros(())
                    state["mean"].lerp_(grad, 1 - momentum)
                    ahead = grad.lerp(state["mean"], momentum)
                    weight.sub_(orthogonalised(ahead), alpha=group["lr"])
        return loss


def build_optimisers(networks: Networks, config: OptimConfig) -> Optimisers:
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
    first: dict[str, Any] = {"params": fast, "lr_scale": 1.0}
    rest: dict[str, Any] = {"params": slow, "lr_scale": config.slow_lr_scale}
    found: dict[str, torch.optim.Optimizer] = {}
    if config.optimizer == "muon":
        slow += [w for w in fast if w.ndim != 3 or w.shape[1] == 1]
        matrices = [w for w in fast if w.ndim == 3 and w.shape[1] > 1]
        first |= {"params": matrices, "momentum": config.momentum}
        # Not fused: a loss scaler then keeps gradients of infinite length away.
        found["nets"] = Muon([first, rest], config.lr, betas=config.betas)
    else:
        found["nets"] = torch.optim.Adam([first, rest], config.lr, **adam)
    if weights := networks.discriminator_parameters():
        adam["eps"] = config.d_eps
        found["discriminators"] = torch.optim.Adam(weights, config.d_lr, **adam)
    return found


def set_learning_rates(optimisers: Optimisers, config: OptimConfig, step: int) -> None:
    """Set the learning rates of both sides for a step, counted from 0."""
    factor = lr_multiplier(step, config)
    for name, lr in (("nets", config.lr), ("discriminators", config.d_lr)):
        for group in optimisers[name].param_groups if name in optimisers else ():
            group["lr"] = lr * factor * group.get("lr_scale", 1.0)


def lr_multiplier(step: int, config: OptimConfig) -> float:
    """Factor on the learning rates at a step, counted from 0.

    >>> [lr_multiplier(s, OptimConfig(warmup_steps=4, steps=8)) for s in (0, 3, 7)]
    [0.25, 1.0, 1.0]
    >>> config = OptimConfig(warmup_steps=4, steps=8, schedule="cosine")
    >>> round(lr_multiplier(6, config), 3)
    0.5
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return (1 + math.cos(math.pi * min(done, 1.0))) / 2
