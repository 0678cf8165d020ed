"""Documents of our own: invented texts with labels and facts, and their vectors.

Three sets, *posts*, *emails* and *notes*. Nothing in them is about a real person or
firm. Each has a *public* part, which an attacker in the same trade might own, and a
*private* one, the victim's; they share no person and no firm.
`data/documents/README.md` is the datasheet.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .bundled import data_folder, load, verify
from .files import DataError, read_json
from .rows import text_ids
from .space import Space
from .texts import read_lines

if TYPE_CHECKING:
    from datasets import Dataset

SETS = ("posts", "emails", "notes")
SPLITS = ("public", "private")
AGES = ("child", "teenager", "young adult", "middle-aged", "older adult")
LISTS = ("labels", "medication", "people", "firms")


@dataclass(frozen=True)
class Label:
    """What a document can be about: its key, its name, and a description in words."""

    key: str
    name: str
    description: str
    sensitive: bool = False


@dataclass(frozen=True)
class Document:
    """A text, what it is about, and the secrets in it.

    Every value of `facts`, every name in `people` and `firms` is a substring of the
    text, every `medication` is one but for upper and lower case. `age_group` is one of
    AGES or "".
    """

    id: str
    split: str
    text: str
    labels: tuple[str, ...]
    facts: dict[str, str] = field(default_factory=dict)
    medication: tuple[str, ...] = ()
    age_group: str = ""
    people: tuple[str, ...] = ()
    firms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Documents:
    """Documents of one set or corpus, in order, and all its labels.

    >>> notes = load_documents("notes", "private")
    >>> notes.multi_hot().shape == (len(notes), len(notes.labels))
    True
    """

    name: str
    rows: tuple[Document, ...]
    labels: tuple[Label, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Document:
        return self.rows[index]

    @property
    def texts(self) -> list[str]:
        """The texts, row by row."""
        return [row.text for row in self.rows]

    def part(self, split: str) -> Documents:
        """The rows of one split; DataError when there is none of that name."""
        rows = tuple(row for row in self.rows if row.split == split)
        if not rows:
            known = ", ".join(sorted({row.split for row in self.rows}))
            raise DataError(
                f"{self.name}: no rows of split {split!r}; there is {known}"
            )
        return replace(self, rows=rows)

    def about(self, key: str) -> Documents:
        """The rows that carry the label `key`."""
        _known_labels([key], {label.key for label in self.labels}, self.name)
        return replace(self, rows=tuple(r for r in self.rows if key in r.labels))

    def multi_hot(self) -> Tensor:
        """Which labels each row carries, `(n, n_labels)` bool."""
        keys = [label.key for label in self.labels]
        return torch.tensor([[key in r.labels for key in keys] for r in self.rows])

    def hot(self) -> Tensor:
        """Deprecated: the name of `multi_hot` in version 0.1."""
        warnings.warn("hot() is now multi_hot()", FutureWarning, stacklevel=2)
        return self.multi_hot()

    def to_dataset(self) -> Dataset:
        """As a Hugging Face `datasets.Dataset`, labels as class labels."""
        from datasets import ClassLabel, Dataset, Features, List, Value

        text, texts = Value("string"), List(Value("string"))
        features = Features(
            {
                "id": text,
                "split": text,
                "text": text,
                "labels": List(ClassLabel(names=[x.key for x in self.labels])),
                "facts": List({"key": text, "value": text}),
                "medication": texts,
                "age_group": text,
                "people": texts,
                "firms": texts,
            }
        )
        return Dataset.from_list([_as_row(r) for r in self.rows], features=features)


def load_documents(
    name: str,
    split: str | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Documents:
    """The set "posts", "emails" or "notes", or one split of it, checked.

    Raises DataError with file and line for a row that is not one, and for a file that
    is missing, cut short or altered. `folder` is that of another manifest.

    >>> posts = load_documents("posts")
    >>> len(posts.labels), len(posts) >= 1200
    (19, True)
    """
    place = data_folder() if folder is None else Path(folder)
    if name not in SETS:
        raise DataError(f"no set {name!r} of documents; there is {', '.join(SETS)}")
    entry = read_json(place / "manifest.json")["sets"].get(f"documents/{name}")
    if entry is None:
        raise DataError(f"{place / 'manifest.json'} lists no documents/{name}")
    labels = read_labels(place / entry["labels_file"]["file"], name)
    file = place / entry["documents"]["file"]
    rows = read_documents(file, labels) if file.is_file() else ()
    for one in (entry["labels_file"], entry["documents"]):
        verify(place / one["file"], one["bytes"], one["sha256"])
    found = Documents(name, rows, labels)
    return found if split is None else found.part(split)


def document_space(documents: Documents, encoder: str, part: str = "") -> Space:
    """The bundled vectors of a set's rows under one encoder, row i for document i.

    `part="labels"` gives those of the labels' descriptions instead, one row a label.
    Vectors and texts are matched by fingerprint, so any selection of rows will do; the
    mean is that of the public rows. Raises DataError for a text that has no vector.
    """
    every = load(encoder, part or "all", f"documents/{documents.name}")
    if part:
        return every
    row_of = {one: i for i, one in enumerate(every.ids.tolist())}
    wanted = text_ids(documents.texts).tolist()
    missing = [i for i, one in enumerate(wanted) if one not in row_of]
    if missing:
        raise DataError(
            f"{documents.name}: document {documents[missing[0]].id} has no bundled "
            f"vector ({len(missing)} in all); encode(texts, {encoder!r}) makes one"
        )
    return every.take([row_of[one] for one in wanted])


def read_labels(path: Path, name: str) -> tuple[Label, ...]:
    """The labels of set `name` in a labels file, in the file's order."""
    entries = read_json(path).get(name)
    if not entries:
        raise DataError(f"{path}: no labels of {name!r}")
    try:
        labels = tuple(Label(key, **entry) for key, entry in entries.items())
    except TypeError as error:
        raise DataError(f"{path}: {name}: {error}") from error
    for label in labels:
        if not label.description.strip():
            raise DataError(f"{path}: label {label.key!r} of {name} has no description")
    return labels


def read_documents(path: Path, labels: Sequence[Label]) -> tuple[Document, ...]:
    """The documents of a JSONL file, each line checked.

    Raises DataError with file and line for a line that is not JSON or lacks a text, an
    unknown label or split, a repeated id, or a fact that is not in the text.
    """
    keys, seen, rows = {label.key for label in labels}, {}, []
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        row = _parse(line, where)
        _check(row, keys, where)
        if row.id in seen:
            raise DataError(
                f"{where}: id {row.id!r} is that of line {seen[row.id]} too"
            )
        seen[row.id] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: the file is empty")
    return tuple(rows)


def _parse(line: str, where: str) -> Document:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not JSON ({error}); the file may be cut short"
        ) from error
    text = entry.get("text") if isinstance(entry, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(f'{where}: no text; a "text" field with a string is needed')
    entry |= {key: tuple(entry.get(key, ())) for key in LISTS}
    try:
        return Document(**entry)
    except TypeError as error:
        raise DataError(f"{where}: {error}") from error


def _check(row: Document, keys: set[str], where: str) -> None:
    if row.split not in SPLITS:
        raise DataError(f"{where}: split {row.split!r} is not one of {SPLITS}")
    _known_labels(row.labels, keys, where)
    if not row.labels:
        raise DataError(f"{where}: no label; at least one is needed")
    if row.age_group and row.age_group not in AGES:
        raise DataError(f"{where}: age_group {row.age_group!r} is not one of {AGES}")
    for value in (*row.facts.values(), *row.people, *row.firms):
        if not value or value not in row.text:
            raise DataError(f"{where}: {value!r} is not in the text")
    for value in row.medication:
        if value.lower() not in row.text.lower():
            raise DataError(f"{where}: medication {value!r} is not in the text")


def _known_labels(labels: Sequence[str], keys: set[str], where: str) -> None:
    unknown = [label for label in labels if label not in keys]
    if unknown:
        raise DataError(f"{where}: unknown label {unknown[0]!r}; known: {sorted(keys)}")


def _as_row(row: Document) -> dict:
    facts = [{"key": key, "value": value} for key, value in row.facts.items()]
    fields = {key: list(getattr(row, key)) for key in LISTS}
    rest = {key: getattr(row, key) for key in ("id", "split", "text", "age_group")}
    return rest | fields | {"facts": facts}
