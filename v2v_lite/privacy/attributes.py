r"""Zero-shot attribute inference: what is a stolen vector about?

The attacker describes each label in words, embeds the descriptions with their own
encoder, and asks which labels a translated vector is nearest to. Nothing is trained on
labelled texts.

The attack is that of the vec2vec paper's Table 5 (arXiv 2505.12540). Here translations
and labels are each centred on their own mean, since documents and descriptions are
texts of different kinds, and the scores of hubs, labels that are near to everything,
can be corrected (chapter 14).
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..measure.estimate import Estimate
from ..measure.neighbors import Rows, as_unit_rows, check_widths, csls_topk
from ..measure.retrieval import TIE
from ..spaces.documents import Label
from ..spaces.files import DataError, parsing, read_json
from ..spaces.headers import check_header
from ..spaces.rows import unit

#: Phrasings of one label; their vectors are averaged.
PROMPTS = (
    "{description}", "{name}: {description}", "{name}", "This text is about {name}.",
)  # fmt: skip
Correction = Literal["none", "csls", "standard"]


@dataclass(frozen=True)
class AttributeLeakage:
    """What scores of `labels` labels give away about `n` documents.

    `top[k]` is the fraction of documents with a true label among the k best, its
    standard error over documents; `map` the mean over labels of the average precision,
    its standard error over labels; `per_label` those precisions.
    """

    n: int
    labels: int
    top: dict[int, Estimate]
    map: Estimate
    per_label: dict[str, float]

    def share(
        self, baseline: AttributeLeakage, ideal: AttributeLeakage, k: int = 1
    ) -> float:
        """Top-k rescaled, (top - baseline) / (ideal - baseline): 0 gives nothing away,
        1 as much as the true vectors; NaN when the ideal is no better."""
        low, high = baseline.top[k].mean, ideal.top[k].mean
        return (self.top[k].mean - low) / (high - low) if high > low else math.nan

    def line(self) -> str:
        """One line of text."""
        tops = " · ".join(f"top-{k} {value}" for k, value in self.top.items())
        return f"{tops} · mAP {self.map} · {self.n:,} texts, {self.labels} labels"


def read_described(path: str | os.PathLike[str]) -> tuple[Label, ...]:
    """Labels and their descriptions from a file.

    Either JSON, `{key: {"name": ..., "description": ...}}` or `{key: description}`, or
    CSV with a column "label" that holds "name: description", as the paper's code reads
    it. Raises DataError for other files and for a label without a description.
    """
    path = Path(path)
    if path.suffix == ".json":
        entries = check_header(read_json(path), {}, path, "give {label: description}")
        found = []
        for key, entry in entries.items():
            about = entry if isinstance(entry, dict) else {"description": entry}
            name, words = (about.get(part) or "" for part in ("name", "description"))
            found.append(Label(key, str(name or key), str(words)))
    elif path.suffix == ".csv":
        needed = 'a CSV file in UTF-8 with a column "label"'
        with parsing(path, needed), path.open(encoding="utf-8-sig", newline="") as file:
            cells = [row["label"] or "" for row in csv.DictReader(file)]
        parts = [[part.strip() for part in cell.partition(":")] for cell in cells]
        found = [Label(name, name, words) for name, _, words in parts]
    else:
        raise DataError(f"{path}: labels are read from .json or .csv")
    return _checked(found, str(path))


def _checked(labels: Sequence[Label], where: str = "labels") -> tuple[Label, ...]:
    if len(labels) < 2:
        raise DataError(f"{where}: {len(labels)} labels, but at least 2 are needed")
    for label in labels:
        if not label.description.strip():
            raise DataError(f"{where}: label {label.key!r} has no description; add one")
    return tuple(labels)


def label_vectors(
    labels: Sequence[Label], encode: Callable[[list[str]], Rows],
    prompts: Sequence[str] = PROMPTS,
) -> Tensor:  # fmt: skip
    r"""`(L, d)` unit rows: the mean of each label's phrasings under the encoder.

    $l_j = \mathrm{unit}(\sum_p M_2(\text{prompt}_p(j)))$. A prompt may name {name} and
    {description}. Raises DataError for a label without a description.
    """
    texts = [
        prompt.format(name=label.name, description=label.description)
        for label in _checked(labels)
        for prompt in prompts
    ]
    rows = as_unit_rows(encode(texts), "labels")
    return unit(rows.view(len(labels), len(prompts), -1).mean(1))


def scores(
    z: Rows, labels: Rows, correct: Correction = "standard", k: int = 10
) -> Tensor:
    r"""`(n, L)`: how near each translation `(n, d)` is to each label `(L, d)`.

    With both sides centred on their own means, $s_{ij} = \cos(z_i, l_j)$. "csls" gives
    $2 s_{ij} - r(z_i) - r(l_j)$ with r the mean of the k largest of a row or column;
    "standard" standardises each column, $(s_{ij} - \mu_j) / \sigma_j$. Both use all
    stolen rows together and no true label; they help against hubs, and can cost where
    rows are fewer than about a hundred or the labels' frequencies far from even. Raises
    DataError for other widths, fewer than two rows or labels, and bad rows.
    """
    x, y = as_unit_rows(z, "translations"), as_unit_rows(labels, "labels")
    mend = "encode the labels with the encoder that is translated into"
    check_widths(x, y, "translations", "labels", mend)
    if min(len(x), len(y)) < 2:
        raise DataError(f"{len(x)} translations, {len(y)} labels: 2 are the least")
    x, y = unit(x - x.mean(0)), unit(y - y.mean(0))
    if correct == "csls":
        values, index = csls_topk(x, y, len(y), k=min(k, len(x), len(y)))
        return torch.empty_like(values).scatter_(1, index, values)
    s = x @ y.T
    if correct == "standard":
        s = (s - s.mean(0)) / s.std(0).clamp_min(1e-12)
    elif correct != "none":
        raise DataError(f"correct = {correct!r}; choose none, csls or standard")
    return s


def attribute_leakage(
    found: Tensor, carried: Tensor, names: Sequence[str] | None = None,
    tops: Sequence[int] = (1, 3, 5),
) -> AttributeLeakage:  # fmt: skip
    r"""How much scores `(n, L)` give away of the true labels `carried` `(n, L)` bool.

    A document's rank is one more than the number of wrong labels that score no less
    than its best true one: ties count against the attack. A label's average precision
    is the mean over its documents i of #{its documents j with s_j >= s_i} / #{j with
    s_j >= s_i}; labels that no document carries are left out. Raises DataError for
    shapes that differ and for documents without a label.
    """
    if found.shape != carried.shape:
        raise DataError(
            f"scores are {tuple(found.shape)} and labels {tuple(carried.shape)}; row i "
            "of both must be one document, column j one label"
        )
    if not carried.any(1).all():
        raise DataError("a document without a label cannot be scored; drop it")
    best = found.masked_fill(~carried, -math.inf).amax(1, keepdim=True)
    ranks = 1 + ((found >= best - TIE) & ~carried).sum(1)
    names = [str(j) for j in range(carried.shape[1])] if names is None else names
    per_label = {
        name: _average_precision(s, true)
        for name, s, true in zip(names, found.T, carried.T, strict=True)
        if true.any()
    }
    n, labels = carried.shape
    top = {k: Estimate.of(ranks <= k) for k in tops}
    precision = Estimate.of(list(per_label.values()))
    return AttributeLeakage(n, labels, top, precision, per_label)


def baselines(
    stolen: Rows, labels: Rows, carried: Tensor, mean: Tensor, seed: int = 0
) -> dict[str, Tensor]:
    """Scores `(n, L)` of attackers who learn nothing from the vectors, by name.

    identity: the stolen rows taken for rows of the target, cut or padded with zeros.
    mean: the target's `mean` `(d,)` for every document. majority: the most frequent
    labels for every document, looked up in the true ones `carried` `(n, L)`, so the
    best constant answer. random: independent uniform scores.
    """
    x, y = as_unit_rows(stolen, "stolen"), as_unit_rows(labels, "labels")
    generator = torch.Generator().manual_seed(seed)
    constant = unit(mean) @ unit(y - y.mean(0)).T
    return {
        "identity": scores(x @ torch.eye(x.shape[1], y.shape[1]), y),
        "mean": constant.expand(len(x), -1),
        "majority": carried.float().mean(0).expand(len(x), -1),
        "random": torch.rand(carried.shape, generator=generator),
    }


def _average_precision(s: Tensor, true: Tensor) -> float:
    own = s[true]
    below = own - TIE  # how many reach at least this far, of all and of the label's own
    everyone = len(s) - torch.searchsorted(s.sort().values, below)
    label = len(own) - torch.searchsorted(own.sort().values, below)
    return (label / everyone).mean().item()
