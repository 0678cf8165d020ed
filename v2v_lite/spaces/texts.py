"""Texts: read line by line, checked, fingerprinted, without near-repeats."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import REPAIR, AnyPath, DataError, parse_json, parsing
from .headers import Schema, check_header, is_nonempty_text
from .rows import name_rows, unit


def read_texts(path: AnyPath) -> list[str]:
    """The texts of a file: one a line, or the "text" fields of .jsonl; .gz too.

    Space around a text, a byte-order mark and empty lines at the end are cut off.
    Raises DataError naming file and line when the file is missing, cut short or not
    UTF-8, or when a line holds no text.
    """
    path, texts = Path(path), []
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind == ".jsonl":
        schema, mend = {"text": is_nonempty_text}, 'lines must be like {"text": "..."}'
        texts = [one["text"].strip() for _, one in read_records(path, schema, mend)]
    else:
        for number, line in read_lines(path):
            if not line:
                raise DataError(f"{path}, line {number}: empty; delete the line")
            texts.append(line)
    if not texts:
        raise DataError(f"{path}: the file is empty; one text a line is needed")
    return texts


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


def read_lines(path: AnyPath) -> Iterator[tuple[int, str]]:
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


def read_records(
    path: AnyPath, schema: Schema, mend: str = REPAIR
) -> Iterator[tuple[int, dict]]:
    """Line numbers from 1 and the objects of a file of JSON lines, each checked."""
    for number, line in read_lines(path):
        where = f"{path}, line {number}"
        yield number, check_header(parse_json(line, where, mend), schema, where, mend)


def check_texts(texts: Sequence[str], name: str = "texts") -> list[str]:
    """`texts` as a list; DataError when empty, one string, or a row is not a string."""
    if isinstance(texts, str):
        raise DataError(f"{name}: one string was given; a list is needed: [text]")
    texts = list(texts)
    if not texts:
        raise DataError(f"{name}: the list is empty; at least one text is needed")
    wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        kind = type(texts[wrong[0]]).__name__
        where = name_rows(wrong)
        raise DataError(f"{name}: {where}: not a string but {kind}; use str(...)")
    halves = [i for i, text in enumerate(texts) if re.search("[\ud800-\udfff]", text)]
    if halves:
        raise DataError(f"{name}: {name_rows(halves)}: half a character; drop it")
    return texts


def text_ids(texts: Sequence[str]) -> Tensor:
    """`(n,)` int64: the first 8 bytes (little-endian) of each text's SHA-256.

    An id tells whether two rows are the same text without keeping the text. Among a
    million texts two different ones share an id with probability 3e-8.
    """
    heads = b"".join(hashlib.sha256(t.encode("utf-8")).digest()[:8] for t in texts)
    return torch.from_numpy(np.frombuffer(heads, dtype="<i8").astype(np.int64))


def texts_sha256(texts: Sequence[str]) -> str:
    """Hexadecimal SHA-256 of the texts joined by newlines."""
    return hashlib.sha256("\n".join(texts).encode("utf-8")).hexdigest()
