"""Rows for the commands: which are drawn, which a fit has seen, whether they fit it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import v2v_lite as v2v

from . import base

if TYPE_CHECKING:
    from torch import Tensor


def load_pair(
    source: str, target: str, n_train: int | None, seed: int = 0, drop_bad: bool = False
) -> list[v2v.spaces.Space]:
    """The rows to align, of disjoint texts as far as anybody can tell.

    Two bundled names are split by `splits.unpaired`. Otherwise rows are used whole, or
    `n_train` of them, drawn by `seed`, and refused when our ids say that both sides
    hold the same text. Returns the rows to fit on, source and target, and rows of both
    that are held back for the diagnosis.
    """
    base.at_least_one(n_train=n_train)
    if {source, target} <= set(v2v.spaces.NAMES):
        both = v2v.spaces.resolve(source), v2v.spaces.resolve(target)
        split = v2v.spaces.unpaired(*both, n_train=n_train)
        base.echo(
            f"{source} and {target} are bundled vectors of the same texts: "
            f"{split.source.n:,} go to the source and {split.target.n:,} others to the "
            "target; the 4,096 evaluation texts to neither"
        )
        return [split.source, split.target, *split.unseen()]
    tables = [v2v.spaces.resolve_table(name, "train") for name in (source, target)]
    generator, sides = generator_of(seed), []
    for table in tables:
        # One generator: were the files of the same texts, equal draws would be pairs.
        index = v2v.spaces.draw(table.shape[0], n_train, generator)
        sides.append(v2v.spaces.Space.of_table(table, index, drop_bad))
    _check_ids(tables, sides)
    (one, unseen_one), (two, unseen_two) = map(v2v.spaces.hold_out, sides)
    return [one, two, unseen_one, unseen_two]


def _check_ids(tables: list[v2v.spaces.Table], sides: list[v2v.spaces.Space]) -> None:
    if any(side.ids is None for side in sides):
        base.echo("no ids on one side: nobody can check that the texts are disjoint")
    elif all(table.header for table in tables):
        v2v.spaces.check_disjoint(*sides)
    else:  # ids of somebody's store are not those of texts
        shared = len({*sides[0].known_ids.tolist()} & {*sides[1].known_ids.tolist()})
        if shared:
            said = "ids stand on both sides: as pairs, they would flatter"
            base.echo(f"{shared:,} {said}")


def with_pairs(
    sides: list[v2v.spaces.Space], words: tuple[str, str]
) -> tuple[list[v2v.spaces.Space], tuple[Tensor, Tensor]]:
    """Both sides with the rows of the two files behind theirs, and where these are."""
    import torch

    from ..spaces.splits import check_same_texts

    known = [v2v.spaces.resolve(word, "train") for word in words]
    check_same_texts(*known)
    joined, places = [], []
    for side, rows, word in zip(sides, known, words, strict=True):
        if rows.d != side.d or len({rows.name, side.name} - {"unknown"}) > 1:
            found = f"{word} holds {rows.d}-d rows of {rows.name}"
            fact = f"this side is {side.d}-d, of {side.name}"
            raise base.UsageError(f"--pairs: {found}, but {fact}")
        both, ids = torch.cat([side.vectors, rows.vectors]), None
        if side.ids is not None and rows.ids is not None:
            ids = torch.cat([side.ids, rows.ids])
        joined.append(v2v.spaces.Space(both, side.provenance, ids=ids))
        places.append(torch.arange(side.n, side.n + rows.n))
    return joined, (places[0], places[1])


def generator_of(seed: int) -> Any:
    """torch's generator with a seed."""
    import torch

    return torch.Generator().manual_seed(seed)


def warn_of(model: v2v.align.Translator, rows: v2v.spaces.Space) -> None:
    """A warning when the rows do not look like those that the model was fitted on."""
    if rows.d == len(model.profile.mean if model.profile else ()):
        if doubt := model.doubt(rows):
            base.echo(f"v2v: warning: these rows look like another encoder's: {doubt}")


# ---- which rows of which files a fit has seen

ROWS_FILE, ROWS_FORMAT = "rows.safetensors", "v2v-rows-1"
SEEN, UNSEEN = 20_000, 2048  # rows that a diagnosis draws: for the mean, and to judge


def others(index: Tensor | None, n: int) -> Tensor:
    """The numbers below n that are not in `index`."""
    import torch

    rest = torch.ones(n, dtype=torch.bool)
    if index is not None:
        rest[index.long()] = False
    return rest.nonzero().flatten()


def fingerprint(table: v2v.spaces.Table) -> str:
    """What tells a table from others: its shape and a few of its rows."""
    import hashlib

    n, digest = table.shape[0], hashlib.sha256(repr(table.shape).encode())
    for _, rows in table.blocks(v2v.spaces.draw(n, 16, generator_of(0))):
        digest.update(rows[:16].contiguous().numpy().data)
    return digest.hexdigest()


def keep_rows(folder: Path, words: Sequence[str], *fitted: v2v.spaces.Space) -> None:
    """Write into a translator's folder which rows of its files were fitted."""
    from ..spaces.headers import write_tensors

    sides = list(zip(("source", "target"), words, fitted, strict=True))
    tensors = {k: one.numbers for k, _, one in sides if one.numbers is not None}
    if {*words} <= {*v2v.spaces.NAMES}:  # whose evaluation texts no fit sees
        (folder / ROWS_FILE).unlink(missing_ok=True)
        return
    known = {k: fingerprint(v2v.spaces.resolve_table(w, "train")) for k, w, _ in sides}
    with v2v.spaces.atomic(folder / ROWS_FILE) as temporary:
        write_tensors(temporary, tensors, {"format": ROWS_FORMAT, **known})


def load_unseen(
    folder: Path, words: Sequence[str], n: int | None, drop_bad: bool = False
) -> list[v2v.spaces.Space]:
    """Rows of source and target that the fit of `folder` has not seen, as far as known.

    They carry the mean of the rows that it has seen.
    """
    from ..spaces.headers import check_header, read_tensors

    base.at_least_one(n_train=n)
    path, out = folder / ROWS_FILE, []
    if {*words} <= {*v2v.spaces.NAMES} or not path.is_file():
        return load_pair(words[0], words[1], n, 0, drop_bad)[2:]
    tensors, header = read_tensors(path)
    check_header(header, {"format": ROWS_FORMAT, "source": str, "target": str}, path)
    generator, of = generator_of(0), v2v.spaces.Space.of_table
    for key, word in zip(("source", "target"), words, strict=True):
        table = v2v.spaces.resolve_table(word, "train")
        seen, mean = tensors.get(key), None
        if seen is None or fingerprint(table) != header[key]:
            fact = f"{word}: not the file that {folder} was fitted on"
            base.echo(f"{fact}: all rows are new")
            seen = None
        else:
            if seen.ndim != 1 or (seen < 0).any() or (seen >= table.shape[0]).any():
                raise base.UsageError(f"{path}: no rows of {word}; fit and save anew")
            some = v2v.spaces.draw(len(seen), SEEN, generator)
            mean = of(table, seen if some is None else seen[some], drop_bad).mean
        index = others(seen, table.shape[0])
        some = v2v.spaces.draw(len(index), n or UNSEEN, generator)
        if not len(index):
            fact = f"{folder} was fitted on all rows of {word}"
            raise base.UsageError(f"{fact}; give others")
        side = of(table, index if some is None else index[some], drop_bad)
        out.append(side if mean is None else side.with_mean(mean))
    return out
