"""Floors: what a number means is how far it stands above these.

None of them has learned anything. Where one scores well, the score is at fault (the
mean vector's cosine in a narrow space) or the task is easy (the identity between two
encoders that share a backbone).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..spaces.space import Space
from .base import LinearTranslator, Stage
from .registry import register


@register
class Identity(LinearTranslator):
    """The row as it is, padded with zeros or cut to the target's width.

    Not centred: two encoders grown from one backbone share even their mean. Between
    such the paper's Table 3 has the identity ahead of vec2vec (arXiv 2505.12540).
    """

    name = "identity"

    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]:
        self.source_mean = torch.zeros_like(source.mean)
        self.target_mean = torch.zeros_like(target.mean)
        self.weight = torch.eye(source.d, target.d, device=source.vectors.device)
        self.scale = 1.0
        return ()


@register
class MeanVector(LinearTranslator):
    """The target's mean for every row: the best that knows nothing of the row."""

    name = "mean"

    def _learn(
        self, x: Tensor, y: Tensor, seed: int, progress: bool
    ) -> tuple[Tensor, Sequence[Stage]]:
        return x.new_zeros(x.shape[1], y.shape[1]), ()


@register
class RandomRotation(LinearTranslator):
    """A random semi-orthogonal map of the centred spaces: chance, with right means.

    W is the Q of a Gaussian matrix's QR with signs set by the diagonal of R, uniform
    over all such maps (Mezzadri 2007).
    """

    name = "random"

    def _learn(
        self, x: Tensor, y: Tensor, seed: int, progress: bool
    ) -> tuple[Tensor, Sequence[Stage]]:
        wide, narrow = max(x.shape[1], y.shape[1]), min(x.shape[1], y.shape[1])
        # Drawn on the CPU so that a seed gives one map whatever the device.
        generator = torch.Generator().manual_seed(seed)
        q, r = torch.linalg.qr(torch.randn(wide, narrow, generator=generator))
        q = (q * r.diagonal().sign()).to(x.device)
        return (q if x.shape[1] == wide else q.T.contiguous()), ()
