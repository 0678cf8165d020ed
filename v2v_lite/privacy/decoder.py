r"""A small transformer that reads a vector and writes a text, trained on own texts.

$p(w_t \mid w_{<t}, z)$ by a causal transformer over word pieces that adds a linear map
of the vector to every place and to the last layer. It learns from the attacker's
encoder alone: vectors of texts that they own. Half of these get noise in training,
since the vectors to be inverted are translations.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..align.base import check_minima
from ..spaces.files import ConfigError, DataError, atomic, parsing
from ..spaces.headers import check_header, is_plain_text, read_tensors, write_tensors
from ..spaces.rows import unit
from .pieces import Pieces
from .proposals import END

__all__ = ["ConditionedDecoder", "Decoder", "DecoderConfig"]

FORMAT = "v2v-decoder-2"
Cache = tuple[tuple[Tensor, Tensor], ...]  # keys and values (b, h, T, width/h) by layer


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and training of a `Decoder`.

    `words` is the longest text in pieces, `rare` how often a piece must occur to be
    learned, `lr` the peak learning rate. In training, a share `clean` of the vectors is
    left as it is; the others get noise of the texts' own covariance until their cosine
    with the true ones is between `cosine` and 0.8 (or `cosine`, where that is higher).
    """

    width: int = 256
    layers: int = 3
    heads: int = 4
    words: int = 112
    rare: int = 20
    cosine: float = 0.4
    epochs: int = 4
    batch_size: int = 32
    lr: float = 1e-3
    clean: float = 0.5

    def __post_init__(self) -> None:
        check_minima(self, clean=0)
        if self.width % self.heads or not 0 < self.cosine <= 1 or self.clean > 1:
            raise ConfigError(
                f"{self}: heads must divide width, cosine be in (0, 1], clean at most 1"
            )


class Block(nn.Module):
    """Causal self-attention and a layer of four times the width, both residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_a, self.norm_b = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Outputs `(b, T, width)` for new places, and all keys and values so far."""
        b, t, width = x.shape
        many = self.qkv(self.norm_a(x)).view(b, t, 3, self.heads, -1)
        query, key, value = many.permute(2, 0, 3, 1, 4)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        seen = F.scaled_dot_product_attention(query, key, value, is_causal=t > 1)
        x = x + self.out(seen.transpose(1, 2).reshape(b, t, width))
        return x + self.down(F.gelu(self.up(self.norm_b(x)))), (key, value)


class Decoder(nn.Module):
    """Vectors in, text out; `condition(vector)` makes it a `Proposal`.

    `encoder` names the encoder whose vectors it reads, `centre` `(d,)` is the mean of
    those it was trained on.
    """

    def __init__(
        self, pieces: Pieces, centre: Tensor, config: DecoderConfig | None = None,
        encoder: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = c = config or DecoderConfig()
        self.vocabulary, self.d, self.encoder = pieces, len(centre), encoder
        self.centre: Tensor
        self.register_buffer("centre", centre.clone())
        self.embed = nn.Embedding(len(pieces.words), c.width)
        self.place = nn.Parameter(torch.randn(c.words + 1, c.width) * 0.02)
        self.read = nn.Linear(self.d, c.width)
        self.say = nn.Linear(self.d, c.width, bias=False)
        nn.init.normal_(self.embed.weight, std=1 / math.sqrt(c.width))
        nn.init.normal_(self.read.weight, std=1 / math.sqrt(c.width))
        self.body = nn.ModuleList(Block(c.width, c.heads) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        self.bias = nn.Parameter(torch.zeros(len(pieces.words)))

    @torch.no_grad()
    def start_from(self, alone: Tensor) -> None:
        """Begin with each piece where its own vector `(V, d)` lies, so that pieces near
        the vector are likely before any training."""
        rows = unit(alone - alone.mean(0))
        basis = torch.linalg.svd(rows, full_matrices=False).Vh[: self.config.width]
        self.embed.weight[:, : len(basis)] = rows @ basis.T
        for layer, scale in ((self.read, 2.0), (self.say, 8.0)):
            layer.weight[: len(basis)] = scale * basis

    def forward(
        self, z: Tensor, rows: Tensor, past: Cache | None = None
    ) -> tuple[Tensor, Cache]:
        """Logits `(b, T + 1, V)` of the next piece after z `(b, d)` and 0 to T pieces;
        with the cache `past` of all but the last piece, `(b, 1, V)` after that one."""
        z = unit(z - self.centre)
        x = self.embed(rows)
        at = 0 if past is None else past[0][0].shape[2]
        if past is None:
            x = F.pad(x, (0, 0, 1, 0))
        # Every place reads the vector: left to attention, it is found late or never.
        x = x + self.place[at : at + x.shape[1]] + self.read(z)[:, None]
        seen = []
        for i, block in enumerate(self.body):
            x, new = block(x, past[i] if past else None)
            seen.append(new)
        x = self.norm(x) + self.say(z)[:, None]
        return x @ self.embed.weight.T + self.bias, tuple(seen)

    @classmethod
    def fit(
        cls, texts: Sequence[str], vectors: Tensor, config: DecoderConfig | None = None,
        seed: int = 0, progress: bool = False, encoder: str = "",
        known: Iterable[str] | None = None,
    ) -> Decoder:  # fmt: skip
        """Trained on texts and their unit vectors `(n, d)`, on their device; `known`
        are the encoder's pieces (default: the words of the texts)."""
        c = config or DecoderConfig()
        if len(texts) != len(vectors):
            raise DataError(f"{len(texts)} texts, but {len(vectors)} vectors")
        known = known or (word for text in texts for word in text.lower().split())
        pieces = Pieces.chosen(texts, known, c.rare)
        rows = padded(pieces, texts, c.words).to(vectors.device)
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(pieces, vectors.mean(0), c, encoder).to(vectors.device)
            noise = Noise.of(vectors)
            steps = c.epochs * math.ceil(len(rows) / c.batch_size)
            optimiser = torch.optim.AdamW(model.parameters(), c.lr, weight_decay=0.05)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, c.lr, steps)
            with tqdm(total=steps, desc="decoder", disable=not progress) as bar:
                for _ in range(c.epochs):
                    order = torch.randperm(len(rows), generator=generator)
                    for batch in order.split(c.batch_size):
                        loss = model.loss(noise(vectors[batch], c), rows[batch])
                        optimiser.zero_grad()
                        loss.backward()
                        optimiser.step()
                        schedule.step()
                        bar.update()
        return model.eval()

    def loss(self, z: Tensor, rows: Tensor) -> Tensor:
        """Mean cross-entropy in nats per piece, given `z` `(b, d)`; `rows` `(b, T)` are
        the pieces, -1 where there is none."""
        rows = rows[:, : int((rows >= 0).sum(1).max())]
        logits, _ = self(z, rows[:, :-1].clamp_min(0))
        there = rows >= 0
        return F.cross_entropy(logits[there], rows[there])

    def condition(self, vector: Tensor) -> ConditionedDecoder:
        """The proposal model of one vector `(d,)`; DataError for another width."""
        if vector.shape != (self.d,):
            raise DataError(f"a {tuple(vector.shape)} vector for a {self.d}-d decoder")
        words, forms = self.vocabulary.words, self.vocabulary.forms
        return ConditionedDecoder(words, forms, self, vector)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write weights, pieces and sizes as one .safetensors, atomically: matrices as
        int8 with one scale per row, the rest as float32."""
        about = {"format": FORMAT, "config": asdict(self.config), "d": self.d}
        about |= {"words": self.vocabulary.words, "forms": self.vocabulary.forms}
        about["encoder"], state = self.encoder, {}
        for key, value in self.state_dict().items():
            state[key] = value.detach().float()
            if value.dim() == 2:
                scale = value.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
                state[key] = (value / scale).round().to(torch.int8)
                state[f"{key}.scale"] = scale
        with atomic(Path(path)) as temporary:
            write_tensors(temporary, state, about)

    @classmethod
    def load(cls, path: str | os.PathLike[str], encoder: str = "") -> Decoder:
        """Read what `save` wrote; DataError when it is something else, or was trained
        for another encoder than `encoder` (if one is given)."""
        tensors, about = read_tensors(path)
        check_header(about, {"format": FORMAT, "encoder": is_plain_text}, path)
        if encoder and about["encoder"] != encoder:
            raise DataError(
                f"{path}: a decoder for {about['encoder']!r}, but the vectors are of "
                f"{encoder!r}; train one for it, or translate the vectors first"
            )
        with parsing(path, "a whole decoder"):
            pieces = Pieces(tuple(about["words"]), about["forms"])
            config = DecoderConfig(**about["config"])
            model = cls(pieces, torch.zeros(about["d"]), config, about["encoder"])
            scales = {k: tensors.pop(k) for k in [*tensors] if k.endswith(".scale")}
            model.load_state_dict({
                key: tensor.float() * scales.get(f"{key}.scale", 1.0)
                for key, tensor in tensors.items()
            })  # fmt: skip
        return model.eval()


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise for vectors `(b, d)` of one kind of text: their `mean`, and a root of their
    covariance."""

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, vectors: Tensor, ridge: float = 0.05) -> Noise:
        """Of the attacker's vectors `(n, d)` of that kind."""
        away = vectors - vectors.mean(0)
        covariance = away.T @ away / len(away)
        eye = torch.eye(len(covariance), device=covariance.device)
        covariance += ridge * covariance.diagonal().mean() * eye
        return cls(vectors.mean(0), torch.linalg.cholesky(covariance).T)

    def __call__(self, vectors: Tensor, c: DecoderConfig) -> Tensor:
        """The vectors, a share of them moved; drawn from torch's global generator."""
        b, away = len(vectors), vectors - self.mean
        low, high = c.cosine, max(c.cosine, 0.8)
        cosine = low + (high - low) * torch.rand(b, 1, device=away.device)
        cosine[torch.rand(b, device=away.device) < c.clean] = 1.0
        noise = unit(torch.randn_like(away) @ self.root)
        moved = unit(cosine * unit(away) + (1 - cosine**2).sqrt() * noise)
        return unit(self.mean + away.norm(dim=1, keepdim=True) * moved)


def padded(pieces: Pieces, texts: Sequence[str], longest: int) -> Tensor:
    """`(n, longest)` rows of the texts' pieces and END, cut off there; then -1."""
    rows = torch.full((len(texts), longest), -1)
    for row, text in zip(rows, texts, strict=True):
        line = [*pieces.rows(text), END][:longest]
        row[: len(line)] = torch.tensor(line)
    return rows


@dataclass(frozen=True, eq=False)
class ConditionedDecoder(Pieces):
    """The proposal model of a decoder that has read the vector `target` `(d,)`.

    It keeps the attention's keys and values of the last prefixes, so that longer ones
    that go on from them cost one piece each.
    """

    decoder: Decoder
    target: Tensor
    kept: dict[tuple[int, ...], tuple[Cache, int]] = field(default_factory=dict)

    @torch.no_grad()
    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every piece; the prefixes are of one length."""
        longest = self.decoder.config.words
        lines = [tuple(prefix[-longest:]) for prefix in prefixes]
        z = self.target.expand(len(lines), -1)
        last = [self.kept[p] for line in lines if (p := line[:-1]) in self.kept]
        if lines[0] and len(last) == len(lines) and len(lines[0]) < longest:
            at = [i for _, i in last]
            past = tuple((k[at], v[at]) for k, v in last[0][0])
            rows = torch.tensor([line[-1:] for line in lines])
            logits, cache = self.decoder(z, rows, past)
        else:
            rows = torch.tensor(lines).long().reshape(len(lines), -1)
            logits, cache = self.decoder(z, rows)
        self.kept.clear()
        self.kept.update({line: (cache, i) for i, line in enumerate(lines)})
        return logits[:, -1].log_softmax(1)
