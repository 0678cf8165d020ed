"""Baselines that learn nothing: the identity, the target's mean, a random rotation.

A score means what it stands above these. Where one of them scores well, the score is
at fault (the mean vector's cosine in a narrow space) or the task is easy (the identity
between two encoders that share a backbone).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ..spaces.space import Space
from .base import Stages
from .linalg import random_orthogonal
from .linear import Learned, LinearTranslator


class Identity(LinearTranslator):
    """The row as it is, padded with zeros or cut to the target's width.

    Not centred: two encoders grown from one backbone share even their mean. Between
    such the paper's Table 3 has the identity ahead of vec2vec (arXiv 2505.12540).
    """

    name = "identity"

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        self.source_mean = torch.zeros_like(source.mean)
        self.target_mean = torch.zeros_like(target.mean)
        self.weight = torch.eye(source.d, target.d, device=source.vectors.device)
        self.scale = 1.0
        return ()


class MeanVector(LinearTranslator):
    """The target's mean for every row: the best answer that ignores the row."""

    name = "mean"

    def _learn(self, x: Tensor, y: Tensor, seed: int, progress: bool) -> Learned:
        return x.new_zeros(x.shape[1], y.shape[1]), ()


class RandomRotation(LinearTranslator):
    """A random semi-orthogonal map of the centred spaces: chance, with right means.

    Uniform over all such maps, reflections included (`linalg.random_orthogonal`).
    """

    name = "random"

    def _learn(self, x: Tensor, y: Tensor, seed: int, progress: bool) -> Learned:
        # Drawn on the CPU so that a seed gives one map whatever the device.
        generator = Generator().manual_seed(seed)
        weight = random_orthogonal(x.shape[1], y.shape[1], generator=generator)
        return weight.to(x.device), ()
