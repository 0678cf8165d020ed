"""Texts from a file: read line by line, without repeats and near-repeats."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .files import DataError
from .rows import unit


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """The texts of a file: one a line, or the "text" fields of .jsonl; .gz too.

    Space around a text is cut off. Raises DataError naming file and line when the file
    is missing, cut short or not UTF-8, or when a line holds no text.
    """
    path = Path(path)
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    parse = _parse_json if kind == ".jsonl" else _parse_line
    texts = [parse(path, i, line) for i, line in read_lines(path)]
    if not texts:
        raise DataError(f"{path}: the file is empty; one text a line is needed")
    return texts


def drop_repeats(texts: list[str]) -> list[str]:
    """The texts without later copies of the same string, in their order.

    >>> drop_repeats(["a", "b", "a"])
    ['a', 'b']
    """
    return list(dict.fromkeys(texts))


def drop_near(
    vectors: Tensor, threshold: float, block: int = 2048, progress: bool = False
) -> Tensor:
    """Indices `(m,)` of rows whose cosine to every earlier row is at most `threshold`.

    Near-repeats on the two sides of a split are pairs in disguise. Memory stays at two
    blocks; time grows as n² d.
    """
    from tqdm.auto import tqdm

    check_threshold(threshold)
    rows = unit(vectors)
    keep = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    starts = range(0, len(rows), block)
    for start in tqdm(starts, desc="near-repeats", disable=not progress):
        here = rows[start : start + block]
        for before in range(0, start + 1, block):
            cosines = here @ rows[before : before + block].T
            if before == start:  # within the block only the rows above the diagonal
                cosines = cosines.tril(-1)
            keep[start : start + block] &= cosines.amax(dim=1) <= threshold
    return keep.nonzero().flatten()


def check_threshold(near: float) -> None:
    """Raise DataError unless `near` is a cosine above 0 and at most 1."""
    if not 0 < near <= 1:
        raise DataError(f"near = {near}, but a cosine in (0, 1] is needed")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and stripped lines of a UTF-8 file, .gz too."""
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opener(path, "rt", encoding="utf-8", newline="\n") as file:
            for number, line in enumerate(file, 1):
                yield number, line.strip()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: unreadable after line {number} ({error}); the file is cut short "
            "or not UTF-8 text, copy it again or convert it"
        ) from error


def _parse_line(path: Path, number: int, line: str) -> str:
    if not line:
        raise DataError(f"{path}, line {number}: empty; delete the line")
    return line


def _parse_json(path: Path, number: int, line: str) -> str:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {number}: not JSON ({error}); "
            'each line must be like {"text": "..."}'
        ) from error
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f'{path}, line {number}: no text; a "text" field with a string is needed'
        )
    return text.strip()
