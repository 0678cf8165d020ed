"""The rows of each step, drawn on the device by generators seeded anew."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

BLOCK = 64  # steps whose rows are drawn together: one kernel per seed and space


class Batches:
    """Rows of each space for any step: each space draws its own, each seed its own.

    `spaces` holds `(n, d)` rows on the device. What is drawn depends on the seed, the
    space's place and the step alone, not on the steps before.
    """

    def __init__(
        self, spaces: dict[str, Tensor], seeds: tuple[int, ...], batch_size: int
    ) -> None:
        self.spaces, self.seeds, self.batch_size = spaces, seeds, batch_size
        self.block = -1
        self.index: dict[str, Tensor] = {}

    def at(self, step: int, rows: slice) -> dict[str, Tensor]:
        """Those `rows` of the step's batch, `{name: (S, B, d)}`."""
        block, within = divmod(step, BLOCK)
        if block != self.block:
            self.block = block
            self.index = {
                name: torch.stack([self._draw(s, k, x) for s in self.seeds], dim=1)
                for k, (name, x) in enumerate(self.spaces.items())
            }
        drawn = {name: index[within, :, rows] for name, index in self.index.items()}
        return {name: x[drawn[name]] for name, x in self.spaces.items()}

    def _draw(self, seed: int, space: int, x: Tensor) -> Tensor:
        number = derive_seed(seed, space, self.block)
        generator = torch.Generator(x.device).manual_seed(number)
        size = BLOCK, self.batch_size
        return torch.randint(len(x), size, generator=generator, device=x.device)


def derive_seed(*numbers: int) -> int:
    """One seed of 63 bits from several numbers.

    >>> derive_seed(0, 1) != derive_seed(1, 0)
    True
    """
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
