"""Documents of our own: invented texts with labels and facts, and their vectors.

Three sets, *posts*, *emails* and *notes*, and *routine*: dull notes, composed by a
program, with the labels of *notes*. Nothing in them is about a real person or firm.
Each has a *public* part, which an attacker in the same trade might own, and a *private*
one, the victim's; they share no person and no firm.
`data/documents/README.md` is the datasheet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .bundled import FILE, MANIFEST, data_folder, load, read_manifest, verify
from .files import AnyPath, DataError, parsing, pick, read_json
from .headers import check_header, is_nonempty_text, safe_child
from .space import Space
from .texts import read_records, text_ids

SETS = ("posts", "emails", "notes")
SPLITS = ("public", "private")
AGES = ("child", "teenager", "young adult", "middle-aged", "older adult")
LISTS = ("labels", "medication", "people", "firms")
LABEL = {"name": str, "description": is_nonempty_text, "sensitive?": bool}
DOCUMENT: dict[str, Any] = {
    "id": str, "split": str, "text": is_nonempty_text, "labels": list, "facts?": dict,
    "medication?": list, "age_group?": str, "people?": list, "firms?": list,
}  # fmt: skip


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
            known = sorted({row.split for row in self.rows})
            raise DataError(f"{self.name}: split {split!r} is not one of {known}")
        return replace(self, rows=rows)

    def multi_hot(self) -> Tensor:
        """Which labels each row carries, `(n, n_labels)` bool."""
        keys = [label.key for label in self.labels]
        return torch.tensor([[key in r.labels for key in keys] for r in self.rows])


def load_documents(
    name: str, split: str | None = None, folder: AnyPath | None = None
) -> Documents:
    """The set "posts", "emails", "notes" or "routine", or one split of it, checked.

    Raises DataError with file and line for a row that is not one, and for a file that
    is missing, cut short or altered. `folder` is that of another manifest.

    >>> posts = load_documents("posts")
    >>> len(posts.labels), len(posts) >= 1200
    (19, True)
    """
    place = data_folder() if folder is None else Path(folder)
    entry = pick(read_manifest(place), f"documents/{name}", "set")
    check_header(entry, {"documents": FILE, "labels_file": FILE}, place / MANIFEST)
    files = entry["labels_file"], entry["documents"]
    at_labels, at_texts = (safe_child(place, one["file"], MANIFEST) for one in files)
    labels = read_labels(at_labels, entry.get("labels_of", name))
    # Parsed before they are verified: the line at which a file is cut short says more.
    rows = read_documents(at_texts, labels) if at_texts.is_file() else ()
    for described in files:
        verify(place, described)
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
    row_of = {one: i for i, one in enumerate(every.known_ids.tolist())}
    wanted = text_ids(documents.texts).tolist()
    missing = [i for i, one in enumerate(wanted) if one not in row_of]
    if missing:
        fact = f"document {documents[missing[0]].id} has no bundled vector"
        mend = f"({len(missing)} in all); encode(texts, {encoder!r}) makes one"
        raise DataError(f"{documents.name}: {fact} {mend}")
    return every.take([row_of[one] for one in wanted])


def read_labels(path: Path, name: str) -> tuple[Label, ...]:
    """The labels of set `name` in a labels file, in the file's order."""
    entries = check_header(read_json(path), {name: dict}, path)[name]
    for key, entry in entries.items():
        check_header(entry, LABEL, f"{path}, label {key!r} of {name}")
    with parsing(path, "a file of labels"):  # fields that labels do not have
        return tuple(Label(key, **entry) for key, entry in entries.items())


def read_documents(path: Path, labels: Sequence[Label]) -> tuple[Document, ...]:
    """The documents of a JSONL file, each line checked.

    Raises DataError with file and line for a line that is not JSON or lacks a text, an
    unknown label or split, a repeated id, or a fact that is not in the text.
    """
    keys, rows = {label.key for label in labels}, []
    seen: dict[str, int] = {}
    for number, entry in read_records(path, DOCUMENT):
        where = f"{path}, line {number}"
        with parsing(where, "a document"):  # unknown fields, lists within lists
            row = _parse(entry, keys)
        if row.id in seen:
            first = f"line {seen[row.id]}"
            raise DataError(f"{where}: id {row.id!r} is that of {first} too")
        seen[row.id] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: the file is empty")
    return tuple(rows)


def _parse(entry: dict, keys: set[str]) -> Document:
    row = Document(**entry | {key: tuple(entry.get(key, ())) for key in LISTS})
    if row.split not in SPLITS:
        raise DataError(f"split {row.split!r} is not one of {SPLITS}")
    if unknown := [label for label in row.labels if label not in keys]:
        raise DataError(f"unknown label {unknown[0]!r}; known: {sorted(keys)}")
    if not row.labels:
        raise DataError("no label; at least one is needed")
    if row.age_group and row.age_group not in AGES:
        raise DataError(f"age_group {row.age_group!r} is not one of {AGES}")
    for value in (*row.facts.values(), *row.people, *row.firms):
        if not value or value not in row.text:
            raise DataError(f"{value!r} is not in the text")
    for value in row.medication:
        if value.lower() not in row.text.lower():
            raise DataError(f"medication {value!r} is not in the text")
    return row
