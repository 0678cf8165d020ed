r"""A small transformer that reads a vector and writes a text, trained on own texts.

$p(w_t \mid w_{<t}, z)$ by a causal transformer that adds a linear map of the vector to
every position. It learns from the attacker's encoder alone: vectors of texts that he
owns. Noise is added in training, since the vectors to be inverted are translations.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..spaces.files import DataError, atomic
from ..spaces.rows import check_texts, unit
from ..spaces.space import read_tensors, write_tensors
from .proposals import END, spell, spellings, tokens

FORMAT = "v2v-decoder-1"


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and training; `cosine` is that of a noisy vector with the true one."""

    width: int = 96
    layers: int = 2
    heads: int = 4
    words: int = 64
    rare: int = 2
    cosine: float = 0.6
    epochs: int = 10
    batch: int = 32
    rate: float = 2e-3

    def __post_init__(self) -> None:
        if self.width % self.heads or min(self.layers, self.words, self.epochs) < 1:
            raise DataError(f"{self}: heads must divide width, the rest be at least 1")
        if not 0 < self.cosine <= 1:
            raise DataError(f"cosine = {self.cosine}, but one in (0, 1] is needed")


class Decoder(nn.Module):
    """Vectors in, text out; a `Proposal` once it is `given` a vector."""

    def __init__(
        self,
        words: Sequence[str],
        forms: dict[str, str],
        d: int,
        config: DecoderConfig | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or DecoderConfig()
        self.words, self.forms, self.d = tuple(words), dict(forms), d
        self.embed = nn.Embedding(len(words), c.width)
        self.place = nn.Parameter(torch.zeros(c.words + 1, c.width))
        self.read = nn.Linear(d, c.width)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(c.width))
        layer = nn.TransformerEncoderLayer(
            c.width, c.heads, 4 * c.width, 0.1, "gelu", True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, c.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(c.width)
        self.bias = nn.Parameter(torch.zeros(len(words)))

    def forward(self, z: Tensor, rows: Tensor) -> Tensor:
        """Logits `(b, T + 1, V)` of the next word after z `(b, d)` and 0 to T words."""
        # Every place reads the vector: left to attention, it is found late or never.
        x = F.pad(self.embed(rows), (0, 0, 1, 0)) + self.place[: rows.shape[1] + 1]
        x = x + self.read(z * math.sqrt(self.d))[:, None]  # (b, T + 1, width)
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = self.norm(self.body(x, mask=mask.to(x.device), is_causal=True))
        return x @ self.embed.weight.T + self.bias

    @classmethod
    def train_on(
        cls,
        texts: Sequence[str],
        aims: Tensor,
        config: DecoderConfig | None = None,
        seed: int = 0,
        progress: bool = False,
    ) -> Decoder:
        """Trained on texts and their centred unit vectors `(n, d)`, on aims' device."""
        from tqdm.auto import tqdm

        c, lines = config or DecoderConfig(), [tokens(t) for t in check_texts(texts)]
        if len(lines) != len(aims):
            raise DataError(f"{len(lines)} texts, but {len(aims)} vectors")
        count = Counter(word for line in lines for word in line)
        words = ("", *(word for word, n in count.items() if n >= c.rare))
        row_of = {word: row for row, word in enumerate(words)}
        rows = torch.full((len(lines), c.words), -1)
        for row, line in zip(rows, lines, strict=True):  # rare words are left out
            known = [row_of[word] for word in line if word in row_of]
            known = torch.tensor([*known, END][: c.words])
            row[: len(known)] = known
        rows = rows.to(aims.device)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(words, spellings(texts), aims.shape[1], c).to(aims.device)
            steps = c.epochs * math.ceil(len(rows) / c.batch)
            optimiser = torch.optim.AdamW(model.parameters(), c.rate, weight_decay=0.05)
            rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.rate, steps)
            with tqdm(total=steps, desc="decoder", disable=not progress) as bar:
                for _ in range(c.epochs):
                    order = torch.randperm(len(rows), generator=generator)
                    for some in order.split(c.batch):
                        loss = model.loss(aims[some], rows[some])
                        optimiser.zero_grad()
                        loss.backward()
                        optimiser.step()
                        rate.step()
                        bar.update()
        return model.eval()

    def loss(self, aims: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy, nats a word, on noisy aims; -1 in `rows` is no word."""
        noise = unit(torch.randn_like(aims))
        c = self.config.cosine
        z = unit(c * aims + math.sqrt(1 - c * c) * noise)
        logits = self(z, rows[:, :-1].clamp_min(0))
        return F.cross_entropy(logits.transpose(1, 2), rows, ignore_index=-1)

    def given(self, aim: Tensor) -> Given:
        """The proposal model of one vector `(d,)`."""
        if aim.shape != (self.d,):
            raise DataError(f"a vector of {tuple(aim.shape)} for a {self.d}-d decoder")
        return Given(self, aim)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights (float16), words and sizes as one .safetensors, atomically."""
        about = {"format": FORMAT, "config": asdict(self.config), "d": self.d}
        about |= {"words": self.words, "forms": self.forms}
        state = {key: value.half() for key, value in self.state_dict().items()}
        with atomic(Path(path)) as temporary:
            write_tensors(temporary, state, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Decoder:
        """Read what `save` wrote; DataError when it is something else."""
        tensors, about = read_tensors(Path(path))
        if about.get("format") != FORMAT:
            raise DataError(f"{path}: not a decoder of the form {FORMAT}")
        config = DecoderConfig(**about["config"])
        model = cls(about["words"], about["forms"], about["d"], config)
        model.load_state_dict({key: value.float() for key, value in tensors.items()})
        return model.eval()


class Given:
    """A decoder that has read its vector."""

    def __init__(self, decoder: Decoder, aim: Tensor) -> None:
        self.decoder, self.aim, self.words = decoder, aim, decoder.words

    @torch.no_grad()
    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every word; the prefixes are of one length."""
        most = self.decoder.config.words - 1
        rows = torch.tensor([list(prefix[-most:]) for prefix in prefixes]).long()
        logits = self.decoder(self.aim.expand(len(rows), -1), rows)
        return logits[:, -1].log_softmax(1)

    def text(self, prefix: Sequence[int]) -> str:
        """The words in writing."""
        return spell([self.words[row] for row in prefix], self.decoder.forms)
