r"""Edit rounds: a text is changed word by word where its exact cosine rises.

The proposals say which word might stand in each place, the word table which would
carry the text nearer, and the encoder which did. What vec2text learns (Morris et al.
2023) is searched for here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .proposals import END, Proposal, TextModel
from .scorer import EncoderScorer

if TYPE_CHECKING:
    from .inversion import SearchConfig

__all__ = ["Draft", "Editor", "exact_cosines", "improved"]

FINAL = 6  # candidates per round whose log-probabilities are worked out
TOGETHER = (2, 3, 5)  # so many of the best edits are also tried at once


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


class Searcher(Protocol):
    """What works on one row: a beam or an editor."""

    proposal: Proposal
    target: Tensor


def exact_cosines(
    rows: Sequence[Searcher], lines: Sequence[list[list[int]]], scorer: EncoderScorer
) -> Sequence[Tensor]:
    """The exact cosines of all rows' candidates, by one call of the encoder."""
    texts, targets = [], []
    for row, some in zip(rows, lines, strict=True):
        texts += [row.proposal.text(words) for words in some]
        targets.append(row.target.expand(len(some), -1))
    cosines = scorer.cosines(texts, torch.cat(targets))
    return cosines.split([len(some) for some in lines])


def improved(
    editors: Sequence[Editor], drafts: list[Draft], scorer: EncoderScorer, rounds: int,
    lm: TextModel | None = None,
) -> list[Draft]:  # fmt: skip
    """The drafts after at most `rounds` of edits; a row stops when none helps."""
    drafts, open_rows = list(drafts), list(range(len(drafts)))
    for editor, draft in zip(editors, drafts, strict=True):
        editor.begin(draft, lm)
    for _ in range(rounds):
        some = [editors[i] for i in open_rows]
        edits = [editor.edits() for editor in some]
        lines = [
            [editor.apply([e]) for e in each]
            for editor, each in zip(some, edits, strict=True)
        ]
        cosines = exact_cosines(some, lines, scorer)
        more = [
            editor.joined(e, c)
            for editor, e, c in zip(some, edits, cosines, strict=True)
        ]
        extra = exact_cosines(some, more, scorer)
        goes_on = []
        for i, editor, a, b, c, d in zip(
            open_rows, some, lines, more, cosines, extra, strict=True
        ):
            if editor.choose(a + b, torch.cat([c, d]), lm):
                goes_on.append(i)
        open_rows = goes_on
        if not open_rows:
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

    def begin(self, draft: Draft, lm: TextModel | None) -> None:
        """Score a draft as edited ones will be."""
        score = self._scores([draft.words], torch.tensor([draft.cosine]), lm)[0]
        self.draft = Draft(draft.words, score.item(), draft.cosine)
        self.seen = {tuple(draft.words)}

    def edits(self) -> list[Edit]:
        """The likeliest edits: half replace, a quarter insert, the rest delete."""
        words, n = self.draft.words, self.config.edits
        log_p = torch.cat(
            [self.proposal.log_probs([words[:i]]) for i in range(len(words) + 1)]
        )[:, self.rows]
        free = [Edit(i, i + 1, ()) for i in range(len(words)) if len(words) > 1]
        found = free[:: max(1, len(free) * 4 // n)] if len(free) * 4 > n else free
        swaps = [
            Edit(i, i + 2, (words[i + 1], words[i])) for i in range(len(words) - 1)
        ]
        found += swaps[:: max(1, len(swaps) * 8 // n)]
        if len(words) < self.config.words:
            found += self._best(log_p + self._gains(inserted=True), n // 4, 0)
        found += self._best(
            (log_p + self._gains(inserted=False))[:-1], n - len(found), 1
        )
        return [e for e in found if tuple(self.apply([e])) not in self.seen] or found[
            :1
        ]

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
        left = own.sum(0) - (0 if inserted else own)
        left = torch.cat(
            [left.reshape(-1, own.shape[1])[: len(words)], own.sum(0)[None]]
        )
        if inserted:
            left = own.sum(0)[None]
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

    def choose(
        self, lines: list[list[int]], cosines: Tensor, lm: TextModel | None
    ) -> bool:
        """Take the best of the edited texts; whether one is better than the draft."""
        self.seen |= {tuple(words) for words in lines}
        some = cosines.topk(min(FINAL, len(lines))).indices.tolist()
        scores = self._scores([lines[i] for i in some], cosines[some], lm)
        best = int(scores.argmax())
        if scores[best] <= self.draft.score + 1e-3:
            return False
        i = some[best]
        self.draft = Draft(lines[i], scores[best].item(), cosines[i].item())
        return True

    def _scores(
        self, lines: list[list[int]], cosines: Tensor, lm: TextModel | None
    ) -> Tensor:
        c = self.config
        lengths = torch.tensor([len(words) for words in lines])
        score = log_likelihood(self.proposal, lines) + c.length_bonus * lengths
        if lm is not None:
            texts = [self.proposal.text(words) for words in lines]
            score = score + c.lm_weight * lm.text_log_probs(texts)
        return score + c.edit_kappa * cosines


def log_likelihood(proposal: Proposal, lines: Sequence[list[int]]) -> Tensor:
    """`(b,)` log-probabilities of whole texts, their ends included."""
    total, texts = torch.zeros(len(lines)), [[*words, END] for words in lines]
    for i in range(max(map(len, texts))):
        there = [j for j, words in enumerate(texts) if i < len(words)]
        step = proposal.log_probs([texts[j][:i] for j in there])
        total[there] += step[range(len(there)), [texts[j][i] for j in there]]
    return total
