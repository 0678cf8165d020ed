"""Unpaired splits that cannot leak: disjoint texts to train on, pairs to evaluate on.

The threat model: the attacker holds vectors of *other* texts than those they steal. A
text on both sides is a pair in disguise, and makes any method look better than it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .files import DataError
from .rows import name_rows, repeats
from .space import Space


class LeakError(DataError):
    """A text that stands on both sides of a split."""


@dataclass(frozen=True)
class Split:
    """Two training spaces of disjoint texts, and a paired pool that neither saw."""

    source: Space
    target: Space
    eval_source: Space
    eval_target: Space
    seed: int

    def unseen(self) -> tuple[Space, Space]:
        """Unpaired rows that no fit saw, for a diagnosis: the first half of the
        evaluation texts from the source, the second from the target."""
        half = self.eval_source.n // 2
        second = slice(half, None)
        return self.eval_source.take(slice(half)), self.eval_target.take(second)


def hold_out(
    space: Space, fraction: float = 0.1, max_rows: int = 2048
) -> tuple[Space, Space]:
    """The rows to fit on, and every k-th row held back: `fraction`, at most `max_rows`.

    A diagnosis wants rows that the fit has not seen. Both parts carry the mean of the
    first. Raises DataError when fewer than 40 rows could be held back.
    """
    held = min(int(space.n * fraction), max_rows)
    if held < 40:
        few = f"{space.n} rows leave {held} to hold back for the diagnosis"
        raise DataError(f"{few}; give at least {int(40 / fraction)}")
    back = torch.arange(held) * (space.n // held)
    keep = torch.ones(space.n, dtype=torch.bool)
    keep[back] = False
    rest = space.take(keep.nonzero().flatten()).with_mean()
    return rest, space.take(back).with_mean(rest.mean)


def unpaired(
    a: Space, b: Space, n_eval: int = 4096, seed: int = 0, n_train: int | None = None
) -> Split:
    """Split two spaces of the same texts, row by row, into unpaired training sets.

    The last `n_eval` rows are the evaluation pairs, whatever the seed, so that numbers
    of different seeds share one pool. The rest is permuted by `seed`: the first
    `n_train` rows (default: half) become the source, taken from `a`, the next `n_train`
    the target, taken from `b`. Means are those of the training rows alone; the
    evaluation spaces carry them. Raises LeakError when a text occurs twice, DataError
    when the rows of `a` and `b` are not the same texts or there are too few.
    """
    check_same_texts(a, b)
    n_train = _check_sizes(a.n, n_eval, n_train)
    _check_no_repeats(a, b)
    rest = a.n - n_eval
    order = torch.randperm(rest, generator=torch.Generator().manual_seed(seed))
    source = a.take(order[:n_train]).with_mean()
    target = b.take(order[n_train : 2 * n_train]).with_mean()
    last = slice(rest, None)
    eval_source = a.take(last).with_mean(source.mean)
    eval_target = b.take(last).with_mean(target.mean)
    return Split(source, target, eval_source, eval_target, seed)


def check_disjoint(a: Space, b: Space) -> None:
    """Raise LeakError naming rows of `a` whose texts `b` holds too.

    By the ids of the texts; spaces without ids cannot be checked and raise DataError.
    """
    ids_a, ids_b = a.known_ids.cpu(), b.known_ids.cpu()
    shared = torch.isin(ids_a, ids_b).nonzero().flatten().tolist()
    if shared:
        rows = f"{name_rows(shared)} of {a.name} again in {b.name}"
        raise LeakError(f"{len(shared)} texts stand on both sides: {rows}; drop those")


def _check_sizes(n: int, n_eval: int, n_train: int | None) -> int:
    if n_eval < 1:
        raise DataError(f"n_eval = {n_eval}, but at least 1 pair is needed")
    half = (n - n_eval) // 2
    pool = f"{n} rows less {n_eval} evaluation pairs"
    if half < 1:
        raise DataError(f"{pool} leave no two training sets; use more rows")
    n_train = half if n_train is None else n_train
    if not 1 <= n_train <= half:
        raise DataError(f"n_train = {n_train}, but {pool} leave 1 to {half} a side")
    return n_train


def check_same_texts(a: Space, b: Space) -> None:
    """DataError when two spaces say, by ids or hash, that their texts differ."""
    mend = "encode one list of texts with both encoders"
    if a.n != b.n:
        raise DataError(f"{a.name} has {a.n} rows and {b.name} {b.n}; {mend}")
    if a.ids is not None and b.ids is not None:
        wrong = (a.ids.cpu() != b.ids.cpu()).nonzero().flatten().tolist()
        if wrong:
            rows = f"{a.name} and {b.name} hold different texts in {name_rows(wrong)}"
            raise DataError(f"{rows}; {mend}")
    one, two = (space.provenance.texts_sha256[:12] for space in (a, b))
    if one and two and one != two:
        origins = f"{a.name} comes from texts {one}, {b.name} from texts {two}"
        raise DataError(f"{origins}; {mend}")


def _check_no_repeats(a: Space, b: Space) -> None:
    # Any repeat is refused, even one that this seed leaves on one side: whether a split
    # is sound must not depend on the seed.
    ids = a.ids if a.ids is not None else b.ids
    # Without ids: the same text gives the same bytes in both spaces. One space alone is
    # no proof, since a bag-of-words encoder maps reordered texts to one vector.
    if ids is None:
        ids = torch.cat([a.vectors.cpu(), b.vectors.cpu()], dim=1)
    again = repeats(ids.cpu())
    if again:
        fact = f"{len(again)} rows repeat an earlier text ({name_rows(again)})"
        why = "a pair in disguise once the two fall on different sides"
        raise LeakError(f"{fact}, which is {why}; drop repeats")
