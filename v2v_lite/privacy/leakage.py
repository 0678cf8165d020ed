r"""What an inverted text gives away beyond what its topic alone gives away.

A fluent email about layoffs shares words with every email about layoffs. So each text
is scored against its own document and against all *other* documents of the same label;
the leakage is the paired difference of the two (chapter 15).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..measure.estimate import Estimate
from ..spaces.documents import Document
from ..spaces.files import DataError
from .proposals import tokens

Measure = Callable[[str, Document], "float | None"]


@dataclass(frozen=True)
class TextLeakage:
    """Mean score of `n` texts on their own documents, on the mismatched documents of
    the control, and the mean of the paired differences."""

    n: int
    own: Estimate
    control: Estimate
    gain: Estimate

    @property
    def z(self) -> float:
        """The gain in standard errors."""
        return self.gain.mean / self.gain.se if self.gain.se else 0.0


def facts_of(document: Document) -> tuple[str, ...]:
    """Everything in it that could be looked up: facts, medication, people, firms."""
    d = document
    return tuple(dict.fromkeys((*d.facts.values(), *d.medication, *d.people, *d.firms)))


def contains_fact(text: str, fact: str) -> bool:
    """Whether `text` contains `fact` as whole words, in any case.

    >>> contains_fact("Started Metformin, 500 mg.", "metformin")
    True
    >>> contains_fact("£71,000", "71")
    False
    """
    pattern = rf"(?<!\w)(?<!\d[.,]){re.escape(fact.lower())}(?!\w|[.,]\d)"
    return re.search(pattern, text.lower()) is not None


def facts_found(text: str, document: Document) -> float | None:
    """The fraction of the document's facts that the text contains; None without any."""
    return _fraction_found(text, facts_of(document))


def medication_found(text: str, document: Document) -> float | None:
    """The same for medication alone."""
    return _fraction_found(text, document.medication)


def token_f1(text: str, document: Document) -> float:
    """F1 of the two bags of tokens, punctuation included: 2 |A ∩ B| / (|A| + |B|)."""
    a, b = Counter(tokens(text)), Counter(tokens(document.text))
    return 2 * (a & b).total() / max(1, a.total() + b.total())


def text_leakage(
    texts: Sequence[str], rows: Sequence[int], documents: Sequence[Document],
    measure: Measure, same_label: bool = True,
) -> TextLeakage:  # fmt: skip
    r"""`texts[i]`, inverted from document `rows[i]`, against it and against the others.

    Gain $= \frac1n \sum_i \big(s(t_i, d_i) - \operatorname{mean}_{j \in J_i} s(t_i,
    d_j)\big)$, with $J_i$ the other documents that share i's first label (all others
    with `same_label=False`); its standard error is that of the paired differences.
    Texts for which `measure` gives None, or without mismatched documents, are left out.
    Raises DataError for other than one text per row, or fewer than two that count.
    """
    if len(texts) != len(rows):
        raise DataError(f"{len(texts)} texts for {len(rows)} rows; give one a row")
    own, control = [], []
    for text, row in zip(texts, rows, strict=True):
        label, others = documents[row].labels[0], []
        for i, document in enumerate(documents):
            if i != row and (not same_label or label in document.labels):
                others.append(measure(text, document))
        known = [value for value in others if value is not None]
        value = measure(text, documents[row])
        if value is not None and known:
            own.append(value)
            control.append(sum(known) / len(known))
    if len(own) < 2:
        raise DataError(f"{len(own)} rows can be scored, but at least 2 are needed")
    pairs = torch.tensor([own, control], dtype=torch.float64)
    kinds = (*pairs, pairs[0] - pairs[1])
    return TextLeakage(len(own), *(Estimate.of(values) for values in kinds))


def _fraction_found(text: str, facts: Sequence[str]) -> float | None:
    return sum(contains_fact(text, f) for f in facts) / len(facts) if facts else None
