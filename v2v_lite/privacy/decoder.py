r"""A small transformer that reads a vector and writes a text, trained on own texts.

$p(w_t \mid w_{<t}, z)$ by a causal transformer that adds a linear map of the vector to
every position. It learns from the attacker's encoder alone: vectors of texts that they
own. Noise is added in training, since the vectors to be inverted are translations.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..align.base import check_minima
from ..spaces.files import ConfigError, DataError, atomic, parsing
from ..spaces.headers import check_header, read_tensors, write_tensors
from ..spaces.rows import unit
from .proposals import END, Vocabulary

__all__ = ["ConditionedDecoder", "Decoder", "DecoderConfig"]

FORMAT = "v2v-decoder-1"
RENAMED = {"rate": "lr", "batch": "batch_size"}  # settings in files of version 0.1


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and training of a `Decoder`.

    `words` is the longest text, `rare` how often a word must occur to be learned, `lr`
    the peak learning rate; in training vectors get noise until their cosine with the
    true ones is `cosine`.
    """

    width: int = 96
    layers: int = 2
    heads: int = 4
    words: int = 64
    rare: int = 2
    cosine: float = 0.6
    epochs: int = 10
    batch_size: int = 32
    lr: float = 2e-3

    def __post_init__(self) -> None:
        check_minima(self)
        if self.width % self.heads or not 0 < self.cosine <= 1:
            raise ConfigError(f"{self}: heads must divide width, cosine be in (0, 1]")


class Decoder(nn.Module):
    """Vectors in, text out; `condition(vector)` makes it a `Proposal`."""

    def __init__(
        self, vocabulary: Vocabulary, d: int, config: DecoderConfig | None = None
    ) -> None:
        super().__init__()
        self.config = c = config or DecoderConfig()
        self.vocabulary, self.d, size = vocabulary, d, len(vocabulary.words)
        self.embed = nn.Embedding(size, c.width)
        self.place = nn.Parameter(torch.zeros(c.words + 1, c.width))
        self.read = nn.Linear(d, c.width)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(c.width))
        layer = nn.TransformerEncoderLayer(
            c.width, c.heads, 4 * c.width, 0.1, "gelu", True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(c.width)
        self.bias = nn.Parameter(torch.zeros(size))

    def forward(self, z: Tensor, rows: Tensor) -> Tensor:
        """Logits `(b, T + 1, V)` of the next word after z `(b, d)` and 0 to T words."""
        # Every place reads the vector: left to attention, it is found late or never.
        x = F.pad(self.embed(rows), (0, 0, 1, 0)) + self.place[: rows.shape[1] + 1]
        x = x + self.read(z * math.sqrt(self.d))[:, None]  # (b, T + 1, width)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = self.norm(self.body(x, mask=mask.to(x.device), is_causal=True))
        return x @ self.embed.weight.T + self.bias

    @classmethod
    def fit(
        cls, texts: Sequence[str], targets: Tensor, config: DecoderConfig | None = None,
        seed: int = 0, progress: bool = False,
    ) -> Decoder:  # fmt: skip
        """Trained on texts and their centred unit vectors `(n, d)`, on their device."""
        c = config or DecoderConfig()
        vocabulary = Vocabulary.of(texts, min_count=c.rare)
        if len(texts) != len(targets):
            raise DataError(f"{len(texts)} texts, but {len(targets)} vectors")
        rows = torch.full((len(texts), c.words), -1)
        for row, text in zip(rows, texts, strict=True):
            known = [*vocabulary.rows(text), END][: c.words]
            row[: len(known)] = torch.tensor(known)
        rows = rows.to(targets.device)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(vocabulary, targets.shape[1], c).to(targets.device)
            steps = c.epochs * math.ceil(len(rows) / c.batch_size)
            optimiser = torch.optim.AdamW(model.parameters(), c.lr, weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.lr, steps)
            with tqdm(total=steps, desc="decoder", disable=not progress) as bar:
                for _ in range(c.epochs):
                    order = torch.randperm(len(rows), generator=generator)
                    for batch in order.split(c.batch_size):
                        loss = model.loss(targets[batch], rows[batch])
                        optimiser.zero_grad()
                        loss.backward()
                        optimiser.step()
                        schedule.step()
                        bar.update()
        return model.eval()

    def loss(self, targets: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy in nats per word, given noisy `targets` `(b, d)`; `rows`
        `(b, T)` are the words, -1 where there is none."""
        noise = unit(torch.randn_like(targets))
        c = self.config.cosine
        z = unit(c * targets + math.sqrt(1 - c * c) * noise)
        logits = self(z, rows[:, :-1].clamp_min(0))
        return F.cross_entropy(logits.transpose(1, 2), rows, ignore_index=-1)

    def condition(self, target: Tensor) -> ConditionedDecoder:
        """The proposal model of one vector `(d,)`; DataError for another width."""
        if target.shape != (self.d,):
            raise DataError(f"a {tuple(target.shape)} vector for a {self.d}-d decoder")
        words, forms = self.vocabulary.words, self.vocabulary.forms
        return ConditionedDecoder(words, forms, self, target)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights (float16), words and sizes as one .safetensors, atomically."""
        about = {"format": FORMAT, "config": asdict(self.config), "d": self.d}
        about |= {"words": self.vocabulary.words, "forms": self.vocabulary.forms}
        state = {key: value.half() for key, value in self.state_dict().items()}
        with atomic(Path(path)) as temporary:
            write_tensors(temporary, state, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Decoder:
        """Read what `save` wrote; DataError when it is something else."""
        tensors, about = read_tensors(path)
        check_header(about, {"format": FORMAT}, path)
        with parsing(path, "a whole decoder"):
            sizes = {RENAMED.get(key, key): n for key, n in about["config"].items()}
            vocabulary = Vocabulary(tuple(about["words"]), about["forms"])
            model = cls(vocabulary, about["d"], DecoderConfig(**sizes))
            model.load_state_dict({k: tensor.float() for k, tensor in tensors.items()})
        return model.eval()


@dataclass(frozen=True, eq=False)
class ConditionedDecoder(Vocabulary):
    """The proposal model of a decoder that has read the vector `target` `(d,)`."""

    decoder: Decoder
    target: Tensor

    @torch.no_grad()
    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every word; the prefixes are of one length."""
        longest = self.decoder.config.words - 1
        rows = torch.tensor([list(prefix[-longest:]) for prefix in prefixes]).long()
        logits = self.decoder(self.target.expand(len(rows), -1), rows)
        return logits[:, -1].log_softmax(1)
