r"""Word pieces: a short vocabulary in which every name can still be spelt.

Longest match first, as BERT's encoders do it (Wu et al. 2016): "dorset" may be one
piece, "tromsø" three, and whatever has no piece of its own is spelt by letters.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..spaces.files import DataError
from ..spaces.texts import check_texts
from .proposals import INNER, Vocabulary, spell, spellings

__all__ = ["Pieces"]

PARTS = re.compile(r"[^\W_]+|[^\w\s]|_")  # BERT parts words at every punctuation mark
GLUED = re.compile(r"(?<=\d) ([.,:/]) (?=\d)|(?<=\w) (['’-]) (?=\w)")
EXTRA = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = ".,:;!?'\"’‘“”-–—()[]/&%+*=<>@#£$€°_…"


@dataclass(frozen=True, eq=False)
class Pieces(Vocabulary):
    """A `Vocabulary` of word pieces; row END is the end of a text."""

    @classmethod
    def chosen(
        cls, texts: Sequence[str], known: Iterable[str], min_count: int = 20
    ) -> Pieces:
        """Of the pieces `known`, an encoder's say, those that stand `min_count` times
        in `texts`, and all letters, digits and marks. Raises DataError for no texts and
        for no pieces."""
        letters = [*EXTRA, *(INNER + letter for letter in EXTRA), *MARKS]
        every = dict.fromkeys(["", *letters, *known])
        if len(every) == len(letters) + 1:
            raise DataError("no pieces; give the vocabulary of the encoder's tokenizer")
        whole = cls(tuple(every), {})
        count = Counter(row for text in check_texts(texts) for row in whole.rows(text))
        often = [whole.words[row] for row, n in count.items() if n >= min_count]
        return cls(
            tuple(dict.fromkeys(["", *letters, *sorted(often)])), spellings(texts)
        )

    def rows(self, text: str) -> list[int]:
        """The rows of a text's pieces; a word that cannot be spelt is left out."""
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        return [row for word in PARTS.findall(plain) for row in self._word(word)]

    def _word(self, word: str) -> list[int]:
        rows: list[int] = []
        start = 0
        while start < len(word):
            for end in range(len(word), start, -1):
                row = self.row_of.get((INNER if start else "") + word[start:end])
                if row is not None:
                    break
            else:
                return []
            rows.append(row)
            start = end
        return rows

    def text(self, prefix: Sequence[int]) -> str:
        """The pieces joined to words, in their usual spelling, punctuation set close.

        >>> Pieces(("", "dor", "##set", "2", ",", "400"), {}).text([1, 2, 3, 4, 5])
        'Dorset 2,400'
        """
        line = " ".join(self.words[row] for row in prefix).replace(f" {INNER}", "")
        line = GLUED.sub(lambda match: match[1] or match[2], line)
        return spell(line.removeprefix(INNER).split(), self.forms)
