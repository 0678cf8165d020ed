"""Texts from a file: read line by line, without repeats and near-repeats."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from .files import DataError, check_header, is_nonempty_text, parse_json, parsing
from .rows import unit

__all__ = ["check_threshold", "drop_near", "drop_repeats", "read_lines", "read_texts"]


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """The texts of a file: one a line, or the "text" fields of .jsonl; .gz too.

    Space around a text, a byte-order mark and empty lines at the end are cut off.
    Raises DataError naming file and line when the file is missing, cut short or not
    UTF-8, or when a line holds no text.
    """
    path, texts = Path(path), []
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    schema, mend = {"text": is_nonempty_text}, 'lines must be like {"text": "..."}'
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        if kind == ".jsonl":
            record = check_header(parse_json(line, where, mend), schema, where, mend)
            line = record["text"].strip()
        elif not line:
            raise DataError(f"{where}: empty; delete the line")
        texts.append(line)
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


def read_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and stripped lines of a UTF-8 file, .gz too.

    A byte-order mark is no part of the first line; empty lines at the end are left out.
    """
    path, empty = Path(path), 0
    opener = gzip.open if path.suffix == ".gz" else open
    with parsing(path, "a whole file"), opener(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            where, mend = f"{path}, line {number}", "convert the file to UTF-8"
            with parsing(where, "UTF-8 text", mend):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            if "\0" in line:
                raise DataError(f"{where}: zero bytes, so not UTF-8 text; {mend}")
            if not line:
                empty += 1
                continue
            yield from ((i, "") for i in range(number - empty, number))
            yield number, line
            empty = 0
