"""Proposal models: what a text may go on with, and how likely each word is.

An attack writes a text word by word. The encoder says which words the vector speaks of,
the proposal model which of them can stand here. Any object with the methods of
`Proposal` will do; here are a word model that is fitted on the attacker's own texts in
a second, and a wrapper of any causal language model.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.rows import check_texts

WORD = re.compile(r"\w+(?:[-'’.,:/]\w+)*|[^\w\s]")  # 9:30, 3.5, don't; , and £ alone
TIGHT_LEFT, TIGHT_RIGHT = set(".,;:!?)]%’'”"), set("([£€$#“")
END = 0  # the row of the end of a text in every vocabulary


class Proposal(Protocol):
    """A language model over a list of words; word END closes a text."""

    words: Sequence[str]

    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)`: log p(word | prefix) for b prefixes, each a list of rows."""

    def text(self, prefix: Sequence[int]) -> str:
        """The prefix in writing."""


def tokens(text: str) -> list[str]:
    """Words, numbers and single signs in lower case.

    >>> tokens("Paid £2,400 at 9:30, didn't she?")
    ['paid', '£', '2,400', 'at', '9:30', ',', "didn't", 'she', '?']
    """
    return WORD.findall(text.lower())


@dataclass(frozen=True, eq=False)
class NgramLM:
    r"""Interpolated Kneser-Ney over word classes (Ney et al. 1994; Chen and Goodman).

    $p(w \mid h) = p(c_w \mid h)\, p(w \mid c_w)$: a word seen at least `rare` times is
    its own class; numbers share the class of their shape (9:30 is 0:00), rarer words
    and those of a dictionary one class of their own. So a name that the texts never
    held can still stand where names stand. Within a class words are equally likely. For
    the classes, with n counts of grams and of continuations below the highest order,

    $p(c \mid h) = \frac{\max(n(hc) - D, 0)}{n(h)} + \frac{D\, N_{1+}(h\cdot)}{n(h)}
    \, p(c \mid h')$,

    and below the unigram the uniform distribution.
    """

    words: tuple[str, ...]
    forms: dict[str, str]
    class_of: Tensor
    within: Tensor
    tables: tuple[dict[tuple[int, ...], tuple[Tensor, Tensor, float]], ...]

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        extra: Iterable[str] = (),
        order: int = 3,
        rare: int = 2,
        discount: float = 0.75,
    ) -> NgramLM:
        """Fitted on `texts`; `extra` are further words that may be proposed.

        Raises DataError for no texts, an order below 1, or a discount outside (0, 1).
        """
        if order < 1 or not 0 < discount < 1:
            raise DataError(f"order = {order} must be >= 1, discount in (0, 1)")
        lines = [tokens(text) for text in check_texts(texts)]
        count = Counter(word for line in lines for word in line)
        known = dict.fromkeys(w.lower() for w in extra)
        words = ("", *count, *(w for w in known if w and w not in count))
        names = {"": "", **{w: _class(w, count[w], rare) for w in words[1:]}}
        classes = {name: i for i, name in enumerate(dict.fromkeys(names.values()))}
        class_of = torch.tensor([classes[names[w]] for w in words])
        size = torch.bincount(class_of).float()
        rows = [[classes[names[w]] for w in line] for line in lines]
        tables = _tables(rows, order, discount)
        forms = spellings(texts)
        return cls(words, forms, class_of, -size[class_of].log(), tables)

    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every word after each prefix."""
        classes = torch.stack([self._classes(p) for p in prefixes]).log()
        return classes[:, self.class_of] + self.within

    def _classes(self, prefix: Sequence[int]) -> Tensor:
        most = len(self.tables) - 1
        ids = [END] * most + [int(self.class_of[w]) for w in prefix[-most:]]
        n_classes = int(self.class_of.max()) + 1
        p = torch.full((n_classes,), 1 / n_classes)
        for length, table in enumerate(self.tables):
            found = table.get(tuple(ids[len(ids) - length :]))
            if found is not None:
                rows, share, left = found
                p = p * left
                p[rows] += share
        return p

    def text(self, prefix: Sequence[int]) -> str:
        """The words in their commonest spelling, signs set close."""
        return spell([self.words[row] for row in prefix], self.forms)


def spell(words: Iterable[str], forms: dict[str, str]) -> str:
    """Words as a text: usual spelling, a capital after a full stop, signs set close.

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
    if any(c.isdigit() for c in word):
        return "<" + re.sub(r"\d", "0", word) + ">"
    return word if count >= rare else "<rare>"


def spellings(texts: Sequence[str]) -> dict[str, str]:
    """The usual spelling of each word; the opening of a sentence counts little."""
    seen: dict[str, Counter] = defaultdict(Counter)
    for text in texts:
        before = "."
        for word in WORD.findall(text):
            seen[word.lower()][word] += 1 if before in ".!?:" else 5
            before = word
    return {word: forms.most_common(1)[0][0] for word, forms in seen.items()}


def _tables(rows: list[list[int]], order: int, discount: float) -> tuple:
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
    """Any causal language model by hub name or folder, through `transformers`.

    Its words are its tokens: row i + 1 is token i, row END its end of text. `prompt`
    stands before every text. Without a word table a search encodes every candidate, so
    this is the stronger and the slower proposal. Raises DataError when the model cannot
    be had.
    """

    def __init__(
        self, name: str, prompt: str = "", device: str = "cpu", local: bool = False
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                name, local_files_only=local
            )
            model = AutoModelForCausalLM.from_pretrained(name, local_files_only=local)
        except Exception as error:  # the hub's client has a family of errors
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise DataError(
                f"{name}: no causal language model can be had ({why}); check the name, "
                "give a folder that save_pretrained wrote, or use NgramLM, which needs "
                "no network"
            ) from error
        self._end = self._tokenizer.eos_token_id
        if self._end is None:
            raise DataError(f"{name}: its tokenizer has no end of text")
        self._model = model.eval().to(device)
        self._start = self._tokenizer(prompt)["input_ids"] if prompt else [self._end]
        size = model.get_output_embeddings().weight.shape[0]
        self.words = ("", *self._tokenizer.batch_decode([[i] for i in range(size)]))

    @torch.no_grad()
    def log_probs(self, prefixes: Sequence[Sequence[int]]) -> Tensor:
        """`(b, V)` log-probabilities of every token; the prefixes are of one length."""
        ids = [self._start + [row - 1 for row in prefix] for prefix in prefixes]
        logits = self._model(torch.tensor(ids, device=self._model.device)).logits
        log_p = logits[:, -1].float().log_softmax(1).cpu()
        end = log_p[:, self._end, None].clone()
        log_p[:, self._end] = -torch.inf  # it is row END
        return torch.cat([end, log_p], dim=1)

    def text(self, prefix: Sequence[int]) -> str:
        """The tokens in writing."""
        rows = [row - 1 for row in prefix if row != END]
        return self._tokenizer.decode(rows).strip()
