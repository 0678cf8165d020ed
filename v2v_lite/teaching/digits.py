"""Small image networks, many at once, for chapters 2 and 3.

Every tensor has a leading axis of networks S: images `(S, n, p)`, weights
`(S, d, k)`. A batched matrix product runs all S of them, the sum of their losses has
the gradient of each in its own slice, and Adam works entry by entry, so the networks
train side by side as if each were alone. Network s draws its start and the order of its
batches from seed s and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..align.base import check_minima
from ..spaces.files import ConfigError, DataError

KINDS = ("mlp", "cnn", "autoencoder")
CLASSES = 10


@dataclass(frozen=True)
class Recipe:
    """A network and its training; `width` is the length of its code.

    mlp: p -> width -> 10. autoencoder: p -> 64 -> width -> 64 -> p, squared error. cnn:
    two 3 x 3 convolutions of stride 2 with c and 2c channels, on 8 x 8 pixels a code of
    8c = `width`, and a linear layer. Adam, its rate falling linearly to 0.
    """

    kind: str = "mlp"
    width: int = 64
    epochs: int = 20
    rate: float = 6e-3
    batch: int = 64
    side: int = 8  # of the images, in pixels
    colours: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"kind = {self.kind!r}; there are {', '.join(KINDS)}")
        check_minima(self, width=1, epochs=0, batch=1, side=1, colours=1)
        if self.kind == "cnn" and self.width % 8:
            raise ConfigError(f"width = {self.width}; a cnn's is a multiple of 8")


def digits() -> tuple[Tensor, Tensor]:
    """scikit-learn's 1,797 handwritten digits: `(1797, 64)` in [0, 1], and labels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.tensor(found.data, dtype=torch.float32) / 16
    return images, torch.tensor(found.target)


def shuffled(x: Tensor, generator: torch.Generator, each: bool = False) -> Tensor:
    """Images `(n, p)` under one permutation of the pixels, or `each` under its own."""
    many = len(x) if each else 1
    order = torch.rand(many, x.shape[1], generator=generator).argsort(dim=1)
    return x.gather(1, order.to(x.device).expand_as(x))


def initialise(
    recipe: Recipe, seeds: Sequence[int], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Weights `(S, d, k)`, normal with variance 2 / d, and zero biases `(S, 1, k)`."""
    pixels = recipe.side**2 * recipe.colours
    if recipe.kind == "mlp":
        shapes = [(pixels, recipe.width), (recipe.width, CLASSES)]
    elif recipe.kind == "autoencoder":
        shapes = [(pixels, 64), (64, recipe.width), (recipe.width, 64), (64, pixels)]
    else:
        c, last = recipe.width // 8, ((recipe.side + 3) // 4) ** 2
        shapes = [(9 * recipe.colours, c), (9 * c, 2 * c), (2 * c * last, CLASSES)]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    parameters = []
    for d, k in shapes:
        drawn = [torch.randn(d, k, generator=g, dtype=dtype) for g in generators]
        weight = torch.stack(drawn) * math.sqrt(2 / d)
        parameters += [weight, torch.zeros(len(drawn), 1, k, dtype=dtype)]
    return parameters


def run(recipe: Recipe, parameters: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """Images `(S, n, p)` to codes `(S, n, width)` and outputs `(S, n, k)`."""
    weights, biases = parameters[::2], parameters[1::2]
    if recipe.kind == "cnn":
        return _run_cnn(recipe, weights, biases, x)
    h, code, middle = x, x, len(weights) // 2 - 1  # the same of either network
    for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = torch.baddbmm(b, h, w)
        bare = recipe.kind == "autoencoder" and i == middle  # a relu would starve it
        if i < len(weights) - 1 and not bare:
            h = h.relu()
        if i == middle:
            code = h
    return code, h


def _run_cnn(
    recipe: Recipe, weights: list[Tensor], biases: list[Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    # One network's channels stand beside the next one's, as groups of a convolution.
    s, n = x.shape[:2]
    h = x.view(s, n, recipe.colours, recipe.side, recipe.side).transpose(0, 1)
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        filters = w.transpose(1, 2).reshape(-1, w.shape[1] // 9, 3, 3)
        h = F.conv2d(h.flatten(1, 2) if h.ndim == 5 else h, filters, b.flatten(),
                     stride=2, padding=1, groups=s).relu()  # fmt: skip
    code = h.reshape(n, s, -1).transpose(0, 1)
    return code, torch.baddbmm(biases[-1], code, weights[-1])


def train(
    recipe: Recipe, parameters: list[Tensor], x: Tensor, y: Tensor,
    seeds: Sequence[int], progress: bool = False,
) -> list[Tensor]:  # fmt: skip
    """Train on images `(S, n, p)` and labels `(S, n)`; new parameters.

    Batches are whole: what an epoch's last one lacks is left out. Raises DataError for
    fewer images than one batch.
    """
    from tqdm.auto import tqdm

    s, n, p = x.shape
    if n < recipe.batch:
        raise DataError(f"{n} images; a batch has {recipe.batch}")
    parameters = [w.clone().requires_grad_() for w in parameters]
    adam = torch.optim.Adam(parameters, lr=recipe.rate, foreach=True)
    generators = [torch.Generator().manual_seed(seed + 1) for seed in seeds]
    steps = max(recipe.epochs * (n // recipe.batch), 1)
    rate = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)
    for _ in tqdm(range(recipe.epochs), desc=recipe.kind, disable=not progress):
        order = torch.stack([torch.randperm(n, generator=g) for g in generators])
        whole = order[:, : n - n % recipe.batch].to(x.device)
        for rows in whole.split(recipe.batch, dim=1):
            images = x.gather(1, rows[:, :, None].expand(-1, -1, p))
            output = run(recipe, parameters, images)[1]
            if recipe.kind == "autoencoder":
                loss = F.mse_loss(output, images)
            else:
                labels = y.gather(1, rows).flatten()
                loss = F.cross_entropy(output.flatten(0, 1), labels)
            adam.zero_grad()
            (s * loss).backward()  # the mean over s networks, times s: each its own
            adam.step()
            rate.step()
    return [w.detach() for w in parameters]


def held_out_codes(
    recipe: Recipe, n_train: int, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Train on `n_train` digits; centred codes `(S, n, width)` and accuracy `(S,)`.

    Both are of the digits held out. Centred, because a small network gives some digits
    a zero row, which has no cosine. The digits come sorted by writer and are mixed
    before they are cut, in the same way for every recipe.
    """
    x, y = digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order].expand(len(seeds), -1, -1), y[order].expand(len(seeds), -1)
    first = initialise(recipe, seeds)
    trained = train(recipe, first, x[:, :n_train], y[:, :n_train], seeds)
    with torch.no_grad():
        codes, out = run(recipe, trained, x[:, n_train:])
    codes -= codes.mean(dim=1, keepdim=True)
    return codes, accuracy(out, y[:, n_train:])


def accuracy(output: Tensor, y: Tensor) -> Tensor:
    """`(S,)` share of images whose largest output `(S, n, k)` is their label."""
    return (output.argmax(dim=2) == y).double().mean(dim=1)


def probe(
    code: Tensor, y: Tensor, test_code: Tensor, test_y: Tensor, ridge: float = 1e-3
) -> Tensor:
    """`(S,)` accuracy of a linear reading of the classes from codes `(S, n, w)`.

    Ridge regression of one-hot labels, the penalty as a share of the mean variance.
    """
    mean = code.mean(dim=1, keepdim=True)
    x, z = (code - mean).double(), (test_code - mean).double()
    gram = x.transpose(1, 2) @ x
    mean_variance = gram.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
    gram += ridge * mean_variance * torch.eye(x.shape[2], dtype=x.dtype)
    wanted = F.one_hot(y, CLASSES).double() - 1 / CLASSES
    weight = torch.linalg.solve(gram, x.transpose(1, 2) @ wanted)
    return accuracy(z @ weight, test_y)
