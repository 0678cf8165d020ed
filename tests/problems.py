"""Small made-up data for tests, the same for the same seed; fixtures in `conftest`.

A plain module, because scripts that tests start in processes of their own use it too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from v2v_lite.spaces import Space


def generator(seed: int = 0) -> torch.Generator:
    """torch's generator with a seed."""
    return torch.Generator().manual_seed(seed)


def rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of a shape."""
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def rotation(d: int, seed: int = 0) -> Tensor:
    """An orthogonal matrix `(d, d)`."""
    return torch.linalg.qr(rows(d, d, seed=seed))[0]


def cloud(n: int = 400, d: int = 6, seed: int = 0, skewed: bool = False) -> Space:
    """A stretched cloud off its origin; `skewed`: no symmetry maps it to itself."""
    g = generator(seed)
    if skewed:
        x = torch.randn(n, d, generator=g).exp() * (1 + torch.arange(d)) + 2
        return Space.of(x, encoder="a")
    mix = torch.randn(d, d, generator=g)
    return Space.of(torch.randn(n, d, generator=g) @ mix + 0.5)


def noisy(
    n: int, d: int, seed: int, noise: float = 0.7
) -> tuple[np.ndarray, np.ndarray]:
    """Rows `(n, d)` in NumPy with their noise, and the same without it."""
    g = np.random.default_rng(seed)
    y = g.normal(size=(n, d)) + 0.5
    return y + noise * g.normal(size=(n, d)), y


def world(
    n: int = 520, widths: tuple[int, ...] = (8, 6), names: str = "ab", seed: int = 0
) -> dict[str, Space]:
    """Spaces of the same twelve clusters in five dimensions, not of the same rows."""
    g = generator(seed)
    centres = torch.randn(12, 5, generator=g)
    spaces = {}
    for name, width in zip(names, widths, strict=True):
        z = centres[torch.randint(12, (n,), generator=g)]
        z = z + 0.3 * torch.randn(n, 5, generator=g)
        x = z @ torch.randn(5, width, generator=g) + 0.2
        spaces[name] = Space.of(x, encoder=name)
    return spaces
