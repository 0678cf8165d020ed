"""What belongs to a step: its learning rates and its rows, both without a memory."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from .presets import OptimConfig

BLOCK = 64  # steps whose rows are drawn together: one kernel a seed and space


class Batches:
    """Rows of each space for any step: each space draws its own, each seed its own.

    `spaces` holds `(n, d)` rows on the device. What is drawn depends on the seed, the
    space's place and the step alone, not on the steps before.
    """

    def __init__(
        self, spaces: dict[str, Tensor], seeds: tuple[int, ...], batch: int
    ) -> None:
        self.spaces, self.seeds, self.batch = spaces, seeds, batch
        self.block, self.index = -1, {}

    def at(self, step: int, rows: slice) -> dict[str, Tensor]:
        """Those `rows` of the step's batch, `{name: (S, B, d)}`."""
        block, within = divmod(step, BLOCK)
        if block != self.block:
            self.block = block
            self.index = {
                name: torch.stack([self._draw(s, k, x) for s in self.seeds], dim=1)
                for k, (name, x) in enumerate(self.spaces.items())
            }
        return {
            name: x[self.index[name][within, :, rows]]
            for name, x in self.spaces.items()
        }

    def _draw(self, seed: int, space: int, x: Tensor) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(mix(seed, space, self.block))
        size = BLOCK, self.batch
        return torch.randint(len(x), size, generator=generator, device=x.device)


def mix(*numbers: int) -> int:
    """One seed of 63 bits from several numbers.

    >>> mix(0, 1) != mix(1, 0)
    True
    """
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rate(step: int, optim: OptimConfig) -> float:
    """The share of the learning rates at a step, counted from 0.

    >>> [rate(s, OptimConfig(warmup=4, steps=8)) for s in (0, 3, 7)]
    [0.25, 1.0, 1.0]
    >>> round(rate(6, OptimConfig(warmup=4, steps=8, schedule="cosine")), 3)
    0.5
    """
    if step < optim.warmup:
        return (step + 1) / optim.warmup
    if optim.schedule == "constant":
        return 1.0
    done = (step - optim.warmup) / max(optim.steps - optim.warmup, 1)
    return (1 + math.cos(math.pi * min(done, 1.0))) / 2
