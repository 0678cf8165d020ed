r"""Text from a translated vector, without a pair: a search guided by an encoder.

The attacker has $z$, a vector in the space of an encoder $E$ that they own, and texts
of their own. If the noise of translation scatters directions around the true one by a
von Mises-Fisher law of concentration $\kappa$, Bayes' rule ranks texts $t$ by

$$\log p(t \mid z) = \log p(t) + \kappa \cos(E(t), z) + \text{const}.$$

The language model gives the first term, the encoder the second; beam search looks for
the largest sum. Chapter 15 derives it. By default the proposals read the vector too:
each word's log-probability gains `topic_weight` times the cosine of its topic with z,
so that even at $\kappa = 0$ the text depends on the vector. With `edits`, rounds of
replacing, inserting and deleting words follow (`edits`), from the text that the beam
found, from the attacker's own `drafts`, and after `restarts` from what is left of the
best.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..align.base import check_minima
from ..measure.neighbors import Rows
from ..spaces.files import ConfigError, DataError
from .edits import Draft, edited, exact_cosines
from .proposals import END, Proposal
from .scorer import EncoderScorer


class Stopped(KeyboardInterrupt):
    """Ctrl-C during a search; `found` holds the texts of the rows that were done."""

    def __init__(self, found: list[Inverted]) -> None:
        super().__init__(f"interrupted; {len(found)} texts were found before")
        self.found = found


@dataclass(frozen=True)
class SearchConfig:
    """Beam and length of the search, and the weights of its terms.

    `beam` prefixes of at most `words` words are kept. `kappa` is the concentration of
    the noise, in nats for a cosine of one; it grows in proportion to the length of a
    prefix. `topic_weight` is how much a word's topic adds to its log-probability;
    `length_bonus` is in nats per word, and without it the shortest text would be the
    likeliest. Unless `repeats` is set, a word may not occur more often than in any of
    the attacker's own texts; otherwise beam search repeats the best word. `shortlist`
    words are considered for each row. `exact` candidates per row and step are encoded;
    with 0 the word table decides alone, and the encoder only reranks the `keep` best
    texts. After the beam come at most `rounds` of edits, with `edits` changed texts
    encoded per row and round; 0 leaves the text as the beam found it. Edits stop at a
    text that none of them improves; each of `restarts` then leaves words out of the
    best text at random and edits what is left. The constants of the beam were set on
    sixty private notes, those of the edits on public ones. Raises ConfigError for
    negative or missing values, and for restarts without edits.
    """

    beam: int = 8
    words: int = 60
    kappa: float = 400.0
    topic_weight: float = 15.0
    length_bonus: float = 4.0
    shortlist: int = 2000
    keep: int = 8
    exact: int = 0
    repeats: bool = False
    edits: int = 0
    rounds: int = 4
    restarts: int = 0
    edit_kappa: float = 2000.0

    def __post_init__(self) -> None:
        free = ("kappa", "topic_weight", "exact", "edits", "restarts", "edit_kappa")
        check_minima(self, **dict.fromkeys(free, 0))
        if self.restarts and not self.edits:
            raise ConfigError(f"restarts = {self.restarts}, but edits = 0; try 32")


@dataclass(frozen=True)
class Inverted:
    """A text found for a row, its score and its cosine to the row, both centred.

    The score is what the search maximises: log-probability under the proposals with
    their topics, the bonus for each word, and kappa times the cosine.
    """

    text: str
    score: float
    cosine: float


def invert(
    vectors: Rows, proposal: Proposal, scorer: EncoderScorer,
    config: SearchConfig | None = None, progress: bool = False, batch_size: int = 32,
    drafts: Sequence[Sequence[str]] | None = None, seed: int = 0,
) -> list[Inverted]:  # fmt: skip
    """The likeliest text for each row of `vectors` `(n, d)`, in the encoder's space.

    `batch_size` rows are searched side by side, so that a step or a last choice is one
    call of the encoder. Where there are `edits`, they also begin at the `drafts` of a
    row, such as the nearest of the attacker's own texts; `seed` is for `restarts`.
    Raises DataError for no rows, another width and other than one list of drafts per
    row, and Stopped, with what was found, on Ctrl-C.
    """
    config, targets = config or SearchConfig(), scorer.target(vectors)
    drafts = [()] * len(targets) if drafts is None else drafts
    if len(drafts) != len(targets):
        raise DataError(f"{len(targets)} rows, but {len(drafts)} lists of drafts")
    generator = torch.Generator().manual_seed(seed)
    found: list[Inverted] = []
    try:
        with tqdm(total=len(targets), desc="inversion", disable=not progress) as bar:
            for start in range(0, len(targets), batch_size):
                some = slice(start, start + batch_size)
                beams = [Beam(one, proposal, scorer, config) for one in targets[some]]
                found += _search(beams, drafts[some], scorer, config, generator)
                bar.update(len(beams))
    except KeyboardInterrupt:
        raise Stopped(found) from None
    return found


def _search(
    beams: list[Beam], own: Sequence[Sequence[str]], scorer: EncoderScorer,
    config: SearchConfig, generator: torch.Generator,
) -> list[Inverted]:  # fmt: skip
    for _ in range(config.words):
        for beam in beams:
            beam.advance()
        if config.exact or scorer.words is None:
            exact = exact_cosines(beams, [beam.prefixes for beam in beams], scorer)
            for beam, cosine in zip(beams, exact, strict=True):
                beam.prune(cosine)
    for beam in beams:
        beam.finish(*beam.expand())
    texts = [[prefix for _, _, prefix in beam.finished] for beam in beams]
    exact = exact_cosines(beams, texts, scorer)
    drafts = [beam.best(cosine) for beam, cosine in zip(beams, exact, strict=True)]
    if config.edits:
        some = zip(beams, drafts, own, strict=True)
        lines = [[d.words, *map(b.proposal.rows, texts)] for b, d, texts in some]
        drafts = edited(beams, lines, scorer, config, generator)
    return [
        Inverted(beam.proposal.text(draft.words), draft.score, draft.cosine)
        for beam, draft in zip(beams, drafts, strict=True)
    ]


class Beam:
    """The best prefixes of a text for one row, and the best texts that are finished.

    `prefixes` have log-probabilities `log_p`, cosines with the target (exact ones after
    `prune`), sums of word vectors `sums` `(b, d)` and word counts `(b, V)`; `finished`
    holds log-probability, cosine and words. V is the size of the shortlist `rows`.
    """

    def __init__(
        self, target: Tensor, proposal: Proposal, scorer: EncoderScorer, c: SearchConfig
    ) -> None:
        self.proposal, self.target, self.config = proposal, target, c
        self.prefixes: list[list[int]] = [[]]
        self.log_p = self.cosine = torch.zeros(1)
        self.sums = torch.zeros(1, len(target))
        self.finished: list[tuple[float, float, list[int]]] = []
        self.rows = self._shortlist(scorer)
        size = len(self.rows)
        self.table: Tensor | None = None
        self.topic, self.max_count = torch.zeros(size), torch.full((size,), math.inf)
        if scorer.words is not None:
            self.table = scorer.words.vectors[self.rows]
            self.along, self.squares = self.table @ target, self.table.square().sum(1)
            self.topic = c.topic_weight * (scorer.words.topics[self.rows] @ target)
            if not c.repeats:
                self.max_count = scorer.words.max_count[self.rows]
        self.counts = torch.zeros(1, size)

    def _shortlist(self, scorer: EncoderScorer) -> Tensor:
        # Words near the target by table or topic, and the most frequent; END is first.
        words, size = scorer.words, self.config.shortlist
        if words is None or size >= len(self.proposal.words):
            return torch.arange(len(self.proposal.words))
        near = words.vectors @ self.target / words.vectors.norm(dim=1).add(1e-9)
        orders = [near, words.topics @ self.target, words.doc_freq]
        rows = torch.cat([order.topk(size // 3).indices for order in orders])
        return torch.cat([torch.tensor([END]), rows[rows != END].unique()])

    def advance(self) -> None:
        """Let every prefix end, or continue with each word; keep the best."""
        c, (log_p, cosine) = self.config, self.expand()
        self.finish(log_p, cosine)
        log_p = log_p + c.length_bonus
        score = log_p + (self._kappa() + c.kappa / c.words) * cosine
        score[:, 0] = -math.inf
        score[self.counts >= self.max_count] = -math.inf
        encoded = c.exact or (4 * c.beam if self.table is None else c.beam)
        best = score.flatten().topk(min(encoded, score.numel() - len(score))).indices
        b, w = best // score.shape[1], best % score.shape[1]
        self._keep(b, log_p[b, w], cosine[b, w])
        words = self.rows[w].tolist()
        self.prefixes = [p + [v] for p, v in zip(self.prefixes, words, strict=True)]
        if self.table is not None:
            self.sums = self.sums + self.table[w]
        self.counts[torch.arange(len(w)), w] += 1

    def expand(self) -> tuple[Tensor, Tensor]:
        """Log-probabilities and cosines of the prefixes with each word `(b, V)`."""
        step = self.proposal.log_probs(self.prefixes)[:, self.rows] + self.topic
        return self.log_p[:, None] + step.log_softmax(1), self.cosines()

    def cosines(self) -> Tensor:
        """`(b, V)` cosines of `sums` and each word with the target, by inner products
        alone; those of the prefixes when there is no word table."""
        if self.table is None:
            return self.cosine[:, None].expand(-1, len(self.rows))
        squares = self.sums.square().sum(1, keepdim=True) + self.squares
        squares = squares + 2 * self.sums @ self.table.T
        along = (self.sums @ self.target)[:, None] + self.along
        return along / squares.clamp_min(1e-9).sqrt()

    def finish(self, log_p: Tensor, cosine: Tensor) -> None:
        """Let the prefixes end here; keep the best of all finished texts."""
        for b, prefix in enumerate(self.prefixes):
            if prefix:
                self.finished.append((log_p[b, 0].item(), cosine[b, 0].item(), prefix))
        kappa = self.config.kappa
        self.finished.sort(key=lambda end: end[0] + kappa * end[1], reverse=True)
        del self.finished[self.config.keep :]

    def prune(self, cosine: Tensor) -> None:
        """Keep the best prefixes under their exact cosines."""
        score = self.log_p + self._kappa() * cosine
        best = score.topk(min(self.config.beam, len(score))).indices
        self._keep(best, self.log_p[best], cosine[best])

    def best(self, cosine: Tensor) -> Draft:
        """The best finished text under exact cosines."""
        log_p = torch.tensor([log_p for log_p, _, _ in self.finished])
        score = log_p + self.config.kappa * cosine
        i = int(score.argmax())
        return Draft(self.finished[i][2], score[i].item(), cosine[i].item())

    def _keep(self, index: Tensor, log_p: Tensor, cosine: Tensor) -> None:
        self.prefixes = [self.prefixes[i] for i in index.tolist()]
        self.sums, self.counts = self.sums[index], self.counts[index]
        self.log_p, self.cosine = log_p, cosine

    def _kappa(self) -> float:
        # At t of T words: a prefix can account for its share of the vector only.
        return self.config.kappa * len(self.prefixes[0]) / self.config.words
