"""Proposal models: how a text may continue, and how likely each next word is.

An attack writes a text word by word. The encoder says which words the vector is about,
the proposal model which of them can stand here: any object with the methods of
`Proposal`, such as a word model fitted in a second, or any causal language model.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ..spaces.files import ConfigError, DataError, check_file, first_line
from ..spaces.texts import check_texts

WORD = re.compile(r"\w+(?:[-'’.,:/]\w+)*|[^\w\s]")  # 9:30, 3.5, don't; , and £ alone
TIGHT_LEFT, TIGHT_RIGHT = set(".,;:!?)]%’'”"), set("([£€$#“")
END = 0  # the row of the end of a text in every vocabulary
# By length of context: context -> classes, their shares, what is left for backing off.
Tables = tuple[dict[tuple[int, ...], tuple[Tensor, Tensor, float]], ...]


class Proposal(Protocol):
    """A language model over a list of words; word END closes a text."""

    @property
    def words(self) -> Sequence[str]:
        """The words; a prefix is a list of their rows."""

    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)`: log p(word | prefix) for b prefixes."""

    def rows(self, text: str) -> list[int]:
        """The rows of a text's known words, in order."""

    def text(self, prefix: Sequence[int]) -> str:
        """The prefix as a string."""


def tokens(text: str) -> list[str]:
    """Words, numbers and single punctuation marks in lower case.

    >>> tokens("Paid £2,400 at 9:30, didn't she?")
    ['paid', '£', '2,400', 'at', '9:30', ',', "didn't", 'she', '?']
    """
    return WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words in lower case, row END being the end of a text, and their usual spelling
    in `forms`, where it differs."""

    words: tuple[str, ...]
    forms: dict[str, str]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    def rows(self, text: str) -> list[int]:
        """The rows of a text's known words, in order; others are left out."""
        return [self.row_of[word] for word in tokens(text) if word in self.row_of]

    def text(self, prefix: Sequence[int]) -> str:
        """The words in their usual spelling, punctuation set close."""
        return spell([self.words[row] for row in prefix], self.forms)


@dataclass(frozen=True, eq=False)
class NgramLM(Vocabulary):
    r"""Interpolated Kneser-Ney over word classes (Ney et al. 1994; Chen and Goodman).

    $p(w \mid h) = p(c_w \mid h)\, p(w \mid c_w)$: a word seen at least `rare` times is
    its own class; numbers share the class of their shape (9:30 is 0:00), rarer words
    and those of a dictionary one class of their own. So a name that is in none of the
    texts can still stand where names stand. Within a class words are equally likely.
    For the classes, with n counts of n-grams, of continuations below the highest order,

    $p(c \mid h) = \frac{\max(n(hc) - D, 0)}{n(h)} + \frac{D\, N_{1+}(h\cdot)}{n(h)}
    \, p(c \mid h')$,

    and below the unigram the uniform distribution.
    """

    class_of: Tensor
    within: Tensor
    tables: Tables

    @classmethod
    def fit(
        cls, texts: Sequence[str], extra: Iterable[str] = (), order: int = 3,
        rare: int = 2, discount: float = 0.75,
    ) -> NgramLM:  # fmt: skip
        """Fitted on `texts`; `extra` are further words that may be proposed.

        Raises DataError for no texts, ConfigError for an order below 1 or a discount
        outside (0, 1).
        """
        if order < 1 or not 0 < discount < 1:
            raise ConfigError(f"order = {order} must be >= 1, discount in (0, 1)")
        words = [word for text in check_texts(texts) for word in tokens(text)]
        words += [word.lower() for word in extra if word]
        known = Vocabulary(("", *dict.fromkeys(words)), _spellings(texts))
        lines = [known.rows(text) for text in texts]
        count = Counter(row for line in lines for row in line)
        names = [_class(word, count[row], rare) for row, word in enumerate(known.words)]
        number = {name: i for i, name in enumerate(dict.fromkeys(names))}
        classes = [[number[names[row]] for row in line] for line in lines]
        class_of = torch.tensor([number[name] for name in names])
        within = -torch.bincount(class_of).float()[class_of].log()
        tables = _tables(classes, order, discount)
        return cls(known.words, known.forms, class_of, within, tables)

    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every word after each prefix."""
        classes = torch.stack([self._classes(p) for p in prefixes]).log()
        return classes[:, self.class_of] + self.within

    def _classes(self, prefix: Sequence[int]) -> Tensor:
        context = len(self.tables) - 1
        ids = [END] * context + [int(self.class_of[w]) for w in prefix[-context:]]
        n_classes = int(self.class_of.max()) + 1
        p = torch.full((n_classes,), 1 / n_classes)
        for length, table in enumerate(self.tables):
            found = table.get(tuple(ids[len(ids) - length :]))
            if found is not None:
                rows, share, rest = found
                p = p * rest
                p[rows] += share
        return p


def spell(words: Iterable[str], forms: dict[str, str]) -> str:
    """Words as a text: usual spelling, capitals after full stops, tight punctuation.

    >>> spell(["hello", "maeve", ",", "paid", "£", "40", "."], {"maeve": "Maeve"})
    'Hello Maeve, paid £40.'
    """
    out, glue = "", True
    for word in filter(None, words):
        shown = forms.get(word, word)
        if not out or out[-1] in ".!?":
            shown = shown[:1].upper() + shown[1:]
        out += shown if glue or word in TIGHT_LEFT else " " + shown
        glue = word in TIGHT_RIGHT
    return out


def _class(word: str, count: int, rare: int) -> str:
    if not word:
        return ""  # the end
    if any(c.isdigit() for c in word):
        return "<" + re.sub(r"\d", "0", word) + ">"
    return word if count >= rare else "<rare>"


def _spellings(texts: Sequence[str]) -> dict[str, str]:
    """The most frequent spelling of each word; openings of sentences count little."""
    seen: dict[str, Counter] = defaultdict(Counter)
    for text in texts:
        before = "."
        for word in WORD.findall(text):
            seen[word.lower()][word] += 1 if before in ".!?:" else 5
            before = word
    return {word: forms.most_common(1)[0][0] for word, forms in seen.items()}


def _tables(rows: list[list[int]], order: int, discount: float) -> Tables:
    grams = Counter(
        tuple(padded[i - order + 1 : i + 1])
        for line in rows
        for padded in [[END] * (order - 1) + line + [END]]
        for i in range(order - 1, len(padded))
    )
    tables = []
    for _ in range(order):
        follow: dict = defaultdict(dict)
        for gram, n in grams.items():
            follow[gram[:-1]][gram[-1]] = n
        tables.append({h: _shares(after, discount) for h, after in follow.items()})
        grams = Counter(gram[1:] for gram in grams)  # continuations: distinct, not all
    return tuple(reversed(tables))


def _shares(after: dict[int, int], discount: float) -> tuple[Tensor, Tensor, float]:
    total = sum(after.values())
    share = (torch.tensor(list(after.values())).float() - discount) / total
    return torch.tensor(list(after)), share, discount * len(after) / total


class CausalLM:
    """Any causal language model by hub name, folder or .gguf file (`transformers`).

    Its words are its tokens: row i + 1 is token i, row END its end of text. `prompt`
    stands before every text. Without a word table a search encodes every candidate, so
    this is the stronger and slower proposal. A .gguf file needs the package `gguf`.
    DataError when the model cannot be loaded.
    """

    def __init__(
        self, name: str, prompt: str = "", device: str = "cpu", local: bool = False
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        where: dict = {"local_files_only": local}
        folder = name
        if name.endswith(".gguf"):
            folder, where["gguf_file"] = os.path.split(check_file(name))
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder or ".", **where)
            model = AutoModelForCausalLM.from_pretrained(folder or ".", **where)
        except Exception as error:  # the hub's client has a family of errors
            raise DataError(
                f"{name}: no causal language model ({first_line(error)}); check the "
                "name, give a save_pretrained folder or a whole .gguf file (with the "
                "package gguf), or use NgramLM, which is offline"
            ) from error
        self._end = self._tokenizer.eos_token_id
        if self._end is None:
            raise DataError(f"{name}: its tokenizer has no end of text")
        self._model = model.eval().to(device)
        self._start = self._tokenizer(prompt)["input_ids"] if prompt else [self._end]
        size = model.get_output_embeddings().weight.shape[0]
        self.words = ("", *self._tokenizer.batch_decode([[i] for i in range(size)]))
        self._kept: dict[tuple[int, ...], int] = {}  # prefix -> its row in the cache
        self._cache: Any = None

    @torch.no_grad()
    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every token; the prefixes are of one length.
        Those that go on from the last call's cost one token each."""
        lines = [tuple(prefix) for prefix in prefixes]
        at = [self._kept.get(line[:-1], -1) for line in lines] if lines[0] else [-1]
        if min(at) >= 0:
            self._cache.batch_select_indices(torch.tensor(at, device=self._device))
            ids, past = [[line[-1] - 1] for line in lines], self._cache
        else:
            ids, past = [self._start + [row - 1 for row in p] for p in lines], None
        rows = torch.tensor(ids, device=self._device)
        out = self._model(rows, past_key_values=past, use_cache=True)
        self._cache = out.past_key_values
        self._kept = {line: i for i, line in enumerate(lines)}
        log_p = out.logits[:, -1].float().log_softmax(1).cpu()
        end = log_p[:, self._end, None].clone()
        log_p[:, self._end] = -torch.inf  # it is row END
        return torch.cat([end, log_p], dim=1)

    @property
    def _device(self) -> torch.device:
        return self._model.device

    def rows(self, text: str) -> list[int]:
        """The rows of a text's tokens."""
        return [i + 1 for i in self._tokenizer.encode(text, add_special_tokens=False)]

    def text(self, prefix: Sequence[int]) -> str:
        """The tokens as a string."""
        rows = [row - 1 for row in prefix if row != END]
        return str(self._tokenizer.decode(rows)).strip()
