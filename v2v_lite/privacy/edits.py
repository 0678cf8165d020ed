r"""Edit rounds: a text is changed word by word where its exact cosine rises.

The proposals say which word might stand in each place, the word table which would
carry the text nearer, and the encoder which did. Where that stops depends on where it
began: so it begins at several texts, and again at parts of the best (iterated local
search). What vec2text learns (Morris et al. 2023) is searched for here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, islice
from operator import attrgetter
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from .proposals import END, Proposal
from .scorer import EncoderScorer

if TYPE_CHECKING:
    from .inversion import Beam, SearchConfig

FINAL = 6  # candidates per round whose log-probabilities are worked out
TOGETHER = (2, 3, 5)  # so many of the best edits are also tried at once
TORN, KEPT = 3, 0.6  # beginnings of a restart; the share of the words that they keep


@dataclass(frozen=True)
class Draft:
    """A text as rows of the proposal, its score, and its exact cosine."""

    words: list[int]
    score: float
    cosine: float


@dataclass(frozen=True)
class Edit:
    """Words `[start, end)` of a text give way to `new`."""

    start: int
    end: int
    new: tuple[int, ...]


def exact_cosines(
    rows: Sequence[Beam | Editor], lines: Sequence[list[list[int]]],
    scorer: EncoderScorer,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The exact cosines of all rows' candidates, by one call of the encoder."""
    texts, targets = [], []
    for row, some in zip(rows, lines, strict=True):
        texts += [row.proposal.text(words) for words in some]
        targets.append(row.target.expand(len(some), -1))
    cosines = scorer.cosines(texts, torch.cat(targets))
    return cosines.split([len(some) for some in lines])


def edited(
    beams: Sequence[Beam], lines: Sequence[list[list[int]]], scorer: EncoderScorer,
    config: SearchConfig, generator: Generator,
) -> list[Draft]:  # fmt: skip
    """For each row the best text that edits reach from its `lines`, and then from
    parts of that text, `config.restarts` times."""
    best = _best_of(beams, lines, scorer, config)
    for _ in range(config.restarts):
        torn = [
            [one.words, *(_torn(one.words, generator) for _ in range(TORN))]
            for one in best
        ]
        best = _best_of(beams, torn, scorer, config)
    return best


def _best_of(
    beams: Sequence[Beam], lines: Sequence[list[list[int]]], scorer: EncoderScorer,
    config: SearchConfig,
) -> list[Draft]:  # fmt: skip
    # A text of no known word has no place to edit.
    some = [[w for line in each if (w := line[: config.words])] for each in lines]
    editors = [
        Editor(beam.proposal, beam.target, beam.rows, scorer, config)
        for beam, each in zip(beams, some, strict=True)
        for _ in each
    ]
    starts = [words for each in some for words in each]
    cosines = torch.cat(exact_cosines(editors, [[w] for w in starts], scorer)).tolist()
    drafts = [Draft(w, 0.0, cosine) for w, cosine in zip(starts, cosines, strict=True)]
    found = iter(improved(editors, drafts, scorer, config.rounds))
    return [max(islice(found, len(each)), key=attrgetter("score")) for each in some]


def _torn(words: list[int], generator: Generator) -> list[int]:
    keep = torch.rand(len(words), generator=generator) < KEPT
    return list(compress(words, keep)) or words


def improved(
    editors: Sequence[Editor], drafts: Sequence[Draft], scorer: EncoderScorer,
    rounds: int,
) -> list[Draft]:  # fmt: skip
    """The drafts after at most `rounds` of edits; a row stops when none helps."""
    for editor, draft in zip(editors, drafts, strict=True):
        editor.begin(draft)
    some = list(editors)
    for _ in range(rounds):
        edits = [editor.edits() for editor in some]
        lines = [
            [e.apply([one]) for one in each]
            for e, each in zip(some, edits, strict=True)
        ]
        cosines = exact_cosines(some, lines, scorer)
        more = [
            e.joined(each, c) for e, each, c in zip(some, edits, cosines, strict=True)
        ]
        extra = exact_cosines(some, more, scorer)
        found = zip(some, lines, more, cosines, extra, strict=True)
        some = [e for e, a, b, c, d in found if e.choose(a + b, torch.cat([c, d]))]
        if not some:
            break
    return [editor.draft for editor in editors]


class Editor:
    """The edits of one row's text.

    `rows` are the words that may be written, by their places in the proposal's list.
    """

    def __init__(
        self, proposal: Proposal, target: Tensor, rows: Tensor, scorer: EncoderScorer,
        config: SearchConfig,
    ) -> None:  # fmt: skip
        self.proposal, self.target, self.config = proposal, target, config
        self.rows = rows[rows != END]
        self.table = None if scorer.words is None else scorer.words.vectors
        self.seen: set[tuple[int, ...]] = set()
        self.draft = Draft([], 0.0, 0.0)

    def begin(self, draft: Draft) -> None:
        """Score a draft as edited ones will be."""
        score = self._scores([draft.words], torch.tensor([draft.cosine]))[0]
        self.draft = Draft(draft.words, score.item(), draft.cosine)
        self.seen = {tuple(draft.words)}

    def edits(self) -> list[Edit]:
        """The likeliest edits: half replace, a quarter insert, the rest delete."""
        words, n = self.draft.words, self.config.edits
        log_p = torch.cat(
            [self.proposal.log_probs([words[:i]]) for i in range(len(words) + 1)]
        )[:, self.rows]
        free = [Edit(i, i + 1, ()) for i in range(len(words)) if len(words) > 1]
        found = free[:: max(1, len(free) * 4 // n)]
        swaps = [
            Edit(i, i + 2, (words[i + 1], words[i])) for i in range(len(words) - 1)
        ]
        found += swaps[:: max(1, len(swaps) * 8 // n)]
        if len(words) < self.config.words:
            found += self._best(log_p + self._gains(inserted=True), n // 4, 0)
        swapped = log_p[:-1] + self._gains(inserted=False)
        found += self._best(swapped, n - len(found), 1)
        new = [e for e in found if tuple(self.apply([e])) not in self.seen]
        return new or found[:1]

    def _best(self, score: Tensor, n: int, gone: int) -> list[Edit]:
        each = max(1, 2 * n // max(1, len(score)))  # no place may take all the edits
        top = score.topk(min(each + 1, score.shape[1]), dim=1)
        flat = top.values.flatten().topk(min(max(n, 1), top.values.numel())).indices
        places, ranks = flat // top.values.shape[1], flat % top.values.shape[1]
        return [
            Edit(i, i + gone, (int(self.rows[top.indices[i, r]]),))
            for i, r in zip(places.tolist(), ranks.tolist(), strict=True)
        ]

    def _gains(self, inserted: bool) -> Tensor:
        # kappa times the cosine that the word table expects of each word in each place
        words = self.draft.words
        if self.table is None:
            return torch.zeros(1)
        own, new = self.table[words], self.table[self.rows]
        left = own.sum(0)[None] if inserted else own.sum(0) - own
        along = (left @ self.target)[:, None] + new @ self.target
        squares = left.square().sum(1)[:, None] + new.square().sum(1) + 2 * left @ new.T
        return self.config.edit_kappa * along / squares.clamp_min(1e-9).sqrt()

    def apply(self, edits: Sequence[Edit]) -> list[int]:
        """The draft's words with edits that do not overlap."""
        words = list(self.draft.words)
        for edit in sorted(edits, key=lambda e: e.start, reverse=True):
            words[edit.start : edit.end] = edit.new
        return words

    def joined(self, edits: Sequence[Edit], cosines: Tensor) -> list[list[int]]:
        """The draft with several of the best edits at once."""
        good: list[Edit] = []
        taken: set[int] = set()
        for i in cosines.argsort(descending=True).tolist():
            places = set(range(edits[i].start - 1, edits[i].end + 1))
            if cosines[i] > self.draft.cosine and not places & taken:
                good.append(edits[i])
                taken |= places
        lines = [self.apply(good[:n]) for n in TOGETHER if len(good) >= n]
        return lines or [self.draft.words]

    def choose(self, lines: list[list[int]], cosines: Tensor) -> bool:
        """Take the best of the edited texts; whether one is better than the draft."""
        self.seen |= {tuple(words) for words in lines}
        some = cosines.topk(min(FINAL, len(lines))).indices.tolist()
        scores = self._scores([lines[i] for i in some], cosines[some])
        best = int(scores.argmax())
        if scores[best] <= self.draft.score + 1e-3:
            return False
        i = some[best]
        self.draft = Draft(lines[i], scores[best].item(), cosines[i].item())
        return True

    def _scores(self, lines: list[list[int]], cosines: Tensor) -> Tensor:
        c = self.config
        lengths = torch.tensor([len(words) for words in lines])
        score = log_likelihood(self.proposal, lines) + c.length_bonus * lengths
        return score + c.edit_kappa * cosines


def log_likelihood(proposal: Proposal, lines: Sequence[list[int]]) -> Tensor:
    """`(b,)` log-probabilities of whole texts, their ends included."""
    total, texts = torch.zeros(len(lines)), [[*words, END] for words in lines]
    for i in range(max(map(len, texts))):
        there = [j for j, words in enumerate(texts) if i < len(words)]
        step = proposal.log_probs([texts[j][:i] for j in there])
        total[there] += step[range(len(there)), [texts[j][i] for j in there]]
    return total
