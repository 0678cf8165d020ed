r"""Questions instead of prose: which drug, what sum, what age is in a stolen vector?

The attacker's own texts of the same trade say how a value shows in a vector. A
regression learned on them, or a vote of the nearest of them, answers for a translated
vector; the nearest text alone, looked up, is the rival that both have to beat. With a
leaked sentence in hand they ask another question: is it in the store? (chapter 14)
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..measure.estimate import Estimate
from ..measure.neighbors import Rows, as_unit_rows, check_widths
from ..spaces.documents import Document
from ..spaces.files import DataError
from ..spaces.rows import unit
from .leakage import Measure
from .scorer import Encode, EncoderScorer

#: How many texts the name of a value counts for; chosen on halves of public notes.
NAMED = 10

#: Kinds of places; names of places are nowhere the same in own and stolen texts.
PLACES = tuple(
    "airport bakery bank barn beach café church clinic court factory farm garage gym "
    "harbour hospital hotel island kitchen library office pharmacy prison pub "
    "restaurant school shop stadium station theatre university vineyard ward "
    "warehouse".split()
)
PLACE = re.compile(rf"\b({'|'.join(PLACES)})s?\b")
SUM = re.compile(r"[£$€]\s?(\d[\d,]*)(?:\.\d+)?\s?(million|bn|billion|m\b|k\b)?", re.I)
SCALES = {"million": 6, "m": 6, "bn": 9, "billion": 9, "k": 3}


def _sums(document: Document) -> tuple[str, ...]:
    found = set()
    for digits, scale in SUM.findall(document.text):
        number = float(digits.replace(",", "")) * 10 ** SCALES.get(scale.lower(), 0)
        size = int(math.log10(max(number, 1)) // 3)
        found.add(("below 1,000", "thousands", "millions", "billions")[min(size, 3)])
    return tuple(sorted(found))


#: What can be asked, and how the answer is read off a text that one owns.
SLOTS: dict[str, Callable[[Document], tuple[str, ...]]] = {
    "drugs": lambda d: tuple(sorted({word.lower() for word in d.medication})),
    "conditions": lambda d: d.labels,
    "age": lambda d: (d.age_group,) if d.age_group else (),
    "sums": _sums,
    "places": lambda d: tuple(sorted(set(PLACE.findall(d.text.lower())))),
}  # fmt: skip


def values_found(slot: Callable[[Document], Sequence[str]]) -> Measure:
    """For `leakage.text_leakage`: the fraction of a document's values among the
    answers, one a line; None for a document without a value."""

    known: dict[str, Sequence[str]] = {}  # a slot may take long to read

    def found(answers: str, document: Document) -> float | None:
        if document.text not in known:
            known[document.text] = slot(document)
        values, given = known[document.text], answers.split("\n")
        return sum(v in given for v in values) / len(values) if values else None

    return found


@dataclass(frozen=True, eq=False)
class Questionnaire:
    r"""The answers to one slot as a linear function of a vector.

    A translation is taken for $z = c\,x + \sqrt{1 - c^2}\, e$: the true direction x at
    cosine c, and an error e of any direction across it. Least squares over all such
    errors need no draws. With own rows X `(m, d)` around their mean `centre` and Y
    `(m, L)` their values around `base`, the frequencies,

    $$ W = c\,\big[ c^2 X^\top X + \tfrac{1 - c^2}{d - 1} (m I - X^\top X)
           \big]^{-1} X^\top Y , $$

    a ridge regression whose penalty is the error (Bishop 1995, "Training with noise is
    equivalent to Tikhonov regularization"). `slope` and `shift` turn a score into a
    probability (Platt 1999).
    """

    values: tuple[str, ...]
    centre: Tensor  # (d,)
    base: Tensor  # (L,)
    weight: Tensor  # (d, L)
    slope: float
    shift: float

    @classmethod
    def fit(
        cls, own: Rows, answers: Sequence[Sequence[str]], cosine: float = 0.5,
        k: int = 5, seed: int = 0, encode: Encode | None = None,
    ) -> Questionnaire:  # fmt: skip
        """From own rows `(m, d)` and the values that each text has, perhaps none.

        With `encode`, the attacker's encoder, each value's own name counts as further
        texts that have this value alone: most values stand in few texts. Probabilities
        are those of the `k` best answers being right, fitted on halves of the own rows,
        with errors drawn, that the other halves answer for. Raises DataError for
        answers that are not one per row, a slot without an example or with fewer than
        four rows, and a cosine outside (0, 1].
        """
        rows = as_unit_rows(own, "own")
        if len(answers) != len(rows):
            raise DataError(f"{len(answers)} answers for {len(rows)} rows; give one")
        if not 0 < cosine <= 1:
            raise DataError(f"cosine = {cosine} must be in (0, 1]")
        values = tuple(sorted({value for some in answers for value in some}))
        if not values or len(rows) < 4:
            fact = f"{len(rows)} own texts, {len(values)} values among them"
            raise DataError(f"{fact}: a slot without examples; add texts with some")
        at = {value: j for j, value in enumerate(values)}
        hot = torch.zeros(len(rows), len(values))
        for i, some in enumerate(answers):
            hot[i, [at[value] for value in some]] = 1
        centre, base = rows.mean(0), hot.mean(0)
        x = unit(rows - centre)
        alone = as_unit_rows(encode([*values]), "names") if encode else rows[:0]
        names = unit(alone - alone.mean(0)) if encode else alone
        platt = _platt(x, hot, cosine, min(k, len(values)), seed, names)
        return cls(values, centre, base, _regression(x, hot, cosine, names), *platt)

    def scores(self, z: Rows) -> Tensor:
        """`(n, L)`: how much each translation `(n, d)` speaks for each value."""
        rows = as_unit_rows(z, "translations")
        check_widths(rows, self.centre[None], "translations", "own", "translate first")
        return unit(rows - self.centre) @ self.weight + self.base

    def probabilities(self, z: Rows) -> Tensor:
        """`(n, L)`: the probability that each value, if among the best, is right."""
        return torch.sigmoid(self.slope * self.scores(z) + self.shift)

    def answers(self, z: Rows, k: int = 5) -> list[tuple[str, ...]]:
        """The k best values for each row, the best first."""
        best = self.scores(z).topk(min(k, len(self.values)), dim=1).indices
        return [tuple(self.values[j] for j in row) for row in best.tolist()]


def _regression(x: Tensor, hot: Tensor, cosine: float, names: Tensor) -> Tensor:
    x, hot, (m, d) = x.double(), hot.double(), x.shape
    noise = (1 - cosine**2) / max(d - 1, 1)
    gram, right = x.T @ x, cosine * x.T @ (hot - hot.mean(0))
    if len(names):
        names, m = names.double(), m + NAMED * len(names)
        gram = gram + NAMED * names.T @ names
        right = right + NAMED * cosine * (names - names.mean(0)).T
    gram = (cosine**2 - noise) * gram
    gram.diagonal().add_(m * max(noise, 1e-6))
    return torch.linalg.solve(gram, right).float()


def _platt(
    x: Tensor, hot: Tensor, cosine: float, k: int, seed: int, names: Tensor
) -> tuple[float, float]:
    # Logistic regression of hits on the scores of the best k, by Newton's method.
    generator = torch.Generator().manual_seed(seed)
    halves = torch.randperm(len(x), generator=generator).tensor_split(2)
    error = unit(torch.randn(x.shape, generator=generator))
    error = unit(error - (error * x).sum(1, keepdim=True) * x)
    z = cosine * x + math.sqrt(1 - cosine**2) * error
    score, hit = [], []
    for asked, known in (halves, halves[::-1]):
        weight = _regression(x[known], hot[known], cosine, names)
        s = z[asked] @ weight + hot[known].mean(0)
        top = s.topk(k, dim=1)
        score.append(top.values.flatten())
        hit.append(hot[asked].gather(1, top.indices).flatten())
    s, y = torch.cat(score).double(), torch.cat(hit).double()
    features, w = torch.stack([s, torch.ones_like(s)], 1), torch.zeros(2).double()
    for _ in range(30):
        p = torch.sigmoid(features @ w)
        slack = 1e-3 * torch.eye(2).double()  # a slot that is always right, say
        hessian = (features * (p * (1 - p))[:, None]).T @ features + slack
        w = w + torch.linalg.solve(hessian, features.T @ (y - p) - slack @ w)
    return w[0].item(), w[1].item()


def confirmed(
    asker: Questionnaire, vectors: Rows, texts: Sequence[str], scorer: EncoderScorer,
    k: int = 5, tried: int = 15, rate: float = 3.0,
) -> list[tuple[str, ...]]:  # fmt: skip
    r"""The k best answers for each row `(n, d)`, after each was written and encoded.

    $s_a + \lambda \cos(e(t\,a), z)$ ranks the `tried` best answers a by their scores
    and by the exact cosine of the row's text t with a added to it; `rate` is $\lambda$.
    Raises DataError for other than one text per row, and for another width.
    """
    targets, best = scorer.target(vectors), asker.scores(vectors)
    if len(texts) != len(targets):
        raise DataError(f"{len(texts)} texts for {len(targets)} rows; give one a row")
    top = best.topk(min(tried, len(asker.values)), dim=1)
    rows = [[asker.values[j] for j in row] for row in top.indices.tolist()]
    lines = [f"{t} {a}." for t, row in zip(texts, rows, strict=True) for a in row]
    cosines = scorer.cosines(lines, targets.repeat_interleave(len(rows[0]), 0))
    order = (top.values + rate * cosines.view_as(top.values)).argsort(descending=True)
    return [
        tuple(row[j] for j in some[:k])
        for row, some in zip(rows, order.tolist(), strict=True)
    ]


def votes(z: Rows, own: Rows, hot: Tensor, k: int, temperature: float = 0.1) -> Tensor:
    r"""`(n, L)`: what the k nearest own rows `(m, d)` with values `hot` `(m, L)` say.

    Each counts $e^{(\cos - \cos_1) / \tau}$ around the own mean; k = 1 is the lookup of
    the nearest text. Raises DataError for k outside 1 to m and rows of other widths.
    """
    x, y = as_unit_rows(z, "translations"), as_unit_rows(own, "own")
    check_widths(x, y, "translations", "own", "translate first")
    if not 1 <= k <= len(y) or len(hot) != len(y):
        raise DataError(f"k = {k}, {len(hot)} rows of values: there are {len(y)} texts")
    near = (unit(x - y.mean(0)) @ unit(y - y.mean(0)).T).topk(k, dim=1)
    weight = torch.softmax(near.values / temperature, dim=1)
    return (weight[:, :, None] * hot[near.indices].float()).sum(1)


def calibration_error(p: Tensor, right: Tensor, bins: int = 10) -> float:
    r"""Expected calibration error of probabilities `(n,)` against outcomes `(n,)`.

    The mean over bins of equally many, in order of p, of |mean p - share right|.
    """
    order = p.flatten().argsort()
    parts = p.flatten()[order].tensor_split(bins), right.flatten()[order].float()
    gaps = [
        (a.mean() - b.mean()).abs().item() * len(a)
        for a, b in zip(parts[0], parts[1].tensor_split(bins), strict=True)
        if len(a)
    ]
    return sum(gaps) / max(1, len(order))


@dataclass(frozen=True, eq=False)
class Verdicts:
    """For each sentence asked about: `score` `(q,)`, in standard deviations of other
    sentences, and `row` `(q,)`, the translation that it comes nearest to."""

    score: Tensor
    row: Tensor


def verify(asked: Rows, z: Rows, others: Rows) -> Verdicts:
    r"""Is each sentence in the store? `asked` `(q, d)`, translations z `(n, d)`.

    $t_q = \max_i\, (\cos(z_i, q) - m_i) / s_i$ with mean and standard deviation of row
    i's cosines to `others` `(m, d)`, own texts of the same kind, on whose mean all are
    centred. Raises DataError for other widths and fewer than two other texts.
    """
    null, x = as_unit_rows(others, "others"), as_unit_rows(z, "translations")
    q = as_unit_rows(asked, "asked")
    for name, rows in (("translations", x), ("asked", q)):
        check_widths(rows, null, name, "others", "use one encoder")
    if len(null) < 2:
        raise DataError(f"{len(null)} other texts, but at least 2 are needed")
    x, q, null = (unit(rows - null.mean(0)) for rows in (x, q, null))
    chance = x @ null.T
    spread = chance.std(1, keepdim=True).clamp_min(1e-12)
    best = ((x @ q.T - chance.mean(1, keepdim=True)) / spread).max(0)
    return Verdicts(best.values, best.indices)


def auc(members: Tensor, others: Tensor) -> Estimate:
    r"""Area under the ROC curve, P(member > other) + P(equal) / 2, of scores `(n,)` and
    `(m,)`, with DeLong's standard error; DataError for fewer than two of either."""
    n, m = len(members), len(others)
    if min(n, m) < 2:
        raise DataError(f"{n} members, {m} others: at least 2 of each are needed")
    a, b = members.double()[:, None], others.double()[None, :]
    wins = (a > b).double() + (a == b).double() / 2
    se = (wins.mean(1).var() / n + wins.mean(0).var() / m).sqrt().item()
    return Estimate(wins.mean().item(), se, n + m)
