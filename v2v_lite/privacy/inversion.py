r"""Text from a translated vector, without a pair: a search that the encoder guides.

The attacker holds $z$, a vector in the space of an encoder $E$ that he owns, and texts
of his own. If translation noise scatters directions around the true one like a von
Mises-Fisher law of concentration $\kappa$, Bayes' rule ranks texts $t$ by

$$\log p(t \mid z) = \log p(t) + \kappa \cos(E(t), z) + \text{const}.$$

The language model gives the first term, the encoder the second; beam search looks for
the largest sum. Chapter 14 derives it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.space import Space
from .guide import Guide
from .proposals import END, Proposal


class Stopped(KeyboardInterrupt):
    """Ctrl-C during a search; `found` holds the texts of the rows that were done."""

    def __init__(self, found: list[Inverted]) -> None:
        super().__init__(f"interrupted; {len(found)} texts were found before")
        self.found = found


@dataclass(frozen=True)
class SearchConfig:
    """Beam and length of the search, and the weights of its terms.

    `kappa` is the concentration of the noise, in nats for a cosine of one; it grows in
    proportion to the words of a beginning. `tilt` is how far the vector bends the
    proposals; `bonus` nats for each further word, without which the shortest text would
    be the likeliest. A word may not stand more often than in any of the attacker's own
    texts (`repeats`): to say the best one again is what a cosine of sums likes most.
    `exact` is how many candidates a row and step are encoded; with 0
    the word table guides alone and the encoder only chooses among the `keep` best
    texts. The constants were set on sixty private notes; see chapter 14.
    """

    beam: int = 8
    words: int = 60
    kappa: float = 400.0
    tilt: float = 15.0
    bonus: float = 4.0
    shortlist: int = 2000
    keep: int = 8
    exact: int = 0
    repeats: bool = False

    def __post_init__(self) -> None:
        for name in ("beam", "words", "shortlist", "keep"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} = {getattr(self, name)}; at least 1 is needed")
        if min(self.kappa, self.tilt, self.exact) < 0:
            raise DataError("kappa, tilt and exact must not be negative")


@dataclass(frozen=True)
class Inverted:
    """A text found for a row, its score and its cosine to the row, both centred.

    The score is what the search maximises: log-probability under the tilted proposals,
    the bonus for each further word, and kappa times the cosine.
    """

    text: str
    score: float
    cosine: float


def invert(
    vectors: Space | Tensor,
    proposal: Proposal,
    guide: Guide,
    config: SearchConfig | None = None,
    progress: bool = False,
    together: int = 32,
) -> list[Inverted]:
    """The likeliest text for each row of `vectors` `(n, d)`, in the encoder's space.

    `together` rows are searched side by side, so that a step or a last choice is one
    call of the encoder. Raises DataError for an empty database and another width, and
    Stopped, with what was found, on Ctrl-C.
    """
    from tqdm.auto import tqdm

    config, aims = config or SearchConfig(), guide.aim(vectors)
    found: list[Inverted] = []
    try:
        with tqdm(total=len(aims), desc="inversion", disable=not progress) as bar:
            for some in aims.split(together):
                found += _search(some, proposal, guide, config)
                bar.update(len(some))
    except KeyboardInterrupt:
        raise Stopped(found) from None
    return found


def _search(
    aims: Tensor, proposal: Proposal, guide: Guide, config: SearchConfig
) -> list[Inverted]:
    beams = [Beam(aim, proposal, guide, config) for aim in aims]
    for _ in range(config.words):
        for beam in beams:
            beam.grow()
        if config.exact or guide.table is None:
            cosines = _measure(beams, [beam.prefixes for beam in beams], guide)
            for beam, cosine in zip(beams, cosines, strict=True):
                beam.prune(cosine)
    for beam in beams:
        beam.end(*beam.ways())
    ends = [beam.ends() for beam in beams]
    cosines = _measure(beams, [[prefix for _, prefix in some] for some in ends], guide)
    return [b.choose(e, c) for b, e, c in zip(beams, ends, cosines, strict=True)]


def _measure(
    beams: Sequence[Beam], prefixes: Sequence[Sequence[list[int]]], guide: Guide
) -> Sequence[Tensor]:
    # The exact cosines of all rows' candidates, by one call of the encoder.
    texts = [
        beam.proposal.text(prefix)
        for beam, some in zip(beams, prefixes, strict=True)
        for prefix in some
    ]
    counts = [len(some) for some in prefixes]
    aims = torch.stack([beam.aim for beam in beams])
    aims = aims.repeat_interleave(torch.tensor(counts), dim=0)
    return guide.cosines(texts, aims).split(counts)


class Beam:
    """The `beam` best beginnings of a text for one row, and the texts that ended."""

    def __init__(
        self, aim: Tensor, proposal: Proposal, guide: Guide, config: SearchConfig
    ) -> None:
        given = getattr(proposal, "given", None)  # a decoder reads the vector itself
        self.proposal = given(aim) if given else proposal
        self.aim, self.config, self.guide = aim, config, guide
        self.prefixes: list[list[int]] = [[]]
        self.log_p = self.cosine = torch.zeros(1)
        self.sums = torch.zeros(1, len(aim))
        self.finished: list[tuple[float, float, list[int]]] = []
        self.rows = self._shortlist()
        if guide.table is not None:
            table = guide.table[self.rows]
            self.table, self.along = table, table @ aim
            self.squares = table.square().sum(1)
        self.most = self.counts = None
        if guide.most is not None and not config.repeats:
            self.most = guide.most[self.rows]
            self.counts = torch.zeros(1, len(self.rows))
        self.tilt = 0.0
        if guide.topics is not None:
            self.tilt = config.tilt * (guide.topics[self.rows] @ aim)

    def _shortlist(self) -> Tensor:
        # Words near the aim by table or topic, and the commonest; END is the first.
        likely = self.proposal.log_probs([[]])[0]
        size = self.config.shortlist
        if self.guide.table is None or size >= len(likely):
            return torch.arange(len(likely))
        near = self.guide.table @ self.aim / self.guide.table.norm(dim=1).add(1e-9)
        orders = [near, self.guide.topics @ self.aim, self.guide.common]
        rows = torch.cat([order.topk(size // 3).indices for order in orders])
        return torch.cat([torch.tensor([END]), rows[rows != END].unique()])

    def grow(self) -> None:
        """Let every beginning end, or go on with each word; keep the best."""
        c, (log_p, cosine) = self.config, self.ways()
        self.end(log_p, cosine)
        log_p = log_p + c.bonus
        score = log_p + (self._kappa() + c.kappa / c.words) * cosine
        score[:, 0] = -math.inf
        if self.most is not None:
            score[self.counts >= self.most] = -math.inf
        encoded = c.exact or (4 * c.beam if self.guide.table is None else c.beam)
        best = score.flatten().topk(min(encoded, score.numel() - len(score))).indices
        b, w = best // score.shape[1], best % score.shape[1]
        words = self.rows[w].tolist()
        old = [self.prefixes[i] for i in b.tolist()]
        self.prefixes = [p + [word] for p, word in zip(old, words, strict=True)]
        self.log_p, self.cosine, self.sums = log_p[b, w], cosine[b, w], self.sums[b]
        if self.guide.table is not None:
            self.sums = self.sums + self.table[w]
        if self.most is not None:
            self.counts = self.counts[b]
            self.counts[torch.arange(len(w)), w] += 1

    def ways(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities and cosines of the beginnings with each word `(b, V)`."""
        step = self.proposal.log_probs(self.prefixes)[:, self.rows] + self.tilt
        return self.log_p[:, None] + step.log_softmax(1), self._cosines()

    def end(self, log_p: Tensor, cosine: Tensor) -> None:
        """Let the beginnings end here; the best of all ends are kept."""
        for b, prefix in enumerate(self.prefixes):
            if prefix:
                end = log_p[b, 0].item(), cosine[b, 0].item(), prefix
                self.finished.append(end)
        self.finished = self._best(self.finished)

    def _kappa(self) -> float:
        # The t-th of T words: a beginning can answer for its share of the vector only.
        return self.config.kappa * len(self.prefixes[0]) / self.config.words

    def _cosines(self) -> Tensor:
        # (b, shortlist), of sums + word with the aim, from inner products alone.
        if self.guide.table is None:
            return self.cosine[:, None].expand(-1, len(self.rows))
        squares = self.sums.square().sum(1, keepdim=True) + self.squares
        squares = squares + 2 * self.sums @ self.table.T
        along = (self.sums @ self.aim)[:, None] + self.along
        return along / squares.clamp_min(1e-9).sqrt()

    def prune(self, cosine: Tensor) -> None:
        """Keep the best beginnings under their exact cosines."""
        score = self.log_p + self._kappa() * cosine
        best = score.topk(min(self.config.beam, len(score))).indices
        self.prefixes = [self.prefixes[i] for i in best.tolist()]
        self.log_p, self.cosine = self.log_p[best], cosine[best]
        self.sums = self.sums[best]
        if self.most is not None:
            self.counts = self.counts[best]

    def _best(self, ends: list) -> list:
        ends.sort(key=lambda end: end[0] + self.config.kappa * end[1], reverse=True)
        return ends[: self.config.keep]

    def ends(self) -> list[tuple[float, list[int]]]:
        """The best finished texts, log-probability and words."""
        return [(log_p, prefix) for log_p, _, prefix in self.finished]

    def choose(self, ends: list[tuple[float, list[int]]], cosine: Tensor) -> Inverted:
        """The best of `ends` under their exact cosines."""
        score = torch.tensor([log_p for log_p, _ in ends]) + self.config.kappa * cosine
        best = int(score.argmax())
        text = self.proposal.text(ends[best][1])
        return Inverted(text, score[best].item(), cosine[best].item())
