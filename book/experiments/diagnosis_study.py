"""Validates the diagnosis on full, early-stopped, corrupted and unalignable fits.

A diagnosis is of use when it tells these apart without pairs. Some recipes fit badly on
purpose; others corrupt a good map by hand, so that every degree of error occurs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from v2v_lite.align import LinearTranslator, centred
from v2v_lite.align.linalg import principal_axes
from v2v_lite.align.selflearn import SelfLearn, SelfLearnConfig
from v2v_lite.spaces import Space, Split, unit

FAILED = 100  # a mean rank above this in a pool of 4,096 is a failure
TINY = 600
FITTED = ("anchors", "early", "weak", "tiny", "noise")
CORRUPTED = ("random", "axes", "blend30", "blend50", "blend70", "twist8", "twist64")


def fit_badly(recipe: str, split: Split) -> LinearTranslator:
    """A translator fitted by a bad recipe.

    anchors: no self-learning. early: three rounds of it. weak: a poor start and one
    phase, which may confirm its own mistakes. tiny: 600 rows a side. noise: two phases
    on a target that is Gaussian with the target's mean and covariance, so that there is
    nothing to find.
    """
    c, source, target = SelfLearnConfig(), split.source, split.target
    if recipe == "anchors":
        c = replace(c, phases=())
    elif recipe == "early":
        c = replace(c, phases=(replace(c.phases[0], n_iter=3),))
    elif recipe == "weak":
        poor = replace(c.anchors, n_runs=2, n_init=1, vote_rounds=0, n_restarts=1)
        c = replace(c, anchors=poor, phases=c.phases[:1])
    elif recipe == "tiny":
        source, target = source.take(slice(TINY)), target.take(slice(TINY))
    elif recipe == "noise":
        c = replace(c, phases=c.phases[:2])
        target = gaussian_like(target, split.seed)
    else:
        raise ValueError(f"recipe {recipe!r}; known are {FITTED}")
    return SelfLearn(c).fit(source, target, seed=split.seed)


def corrupt(recipe: str, good: LinearTranslator, split: Split) -> LinearTranslator:
    """The fitted `good` with its map replaced (changed in place, and returned).

    random: a random map. axes: principal axes matched by order, signs by skewness.
    blendP: P percent of a random map in it. twistK: K leading directions of the target
    rotated at random among themselves.
    """
    generator = torch.Generator().manual_seed(split.seed)
    (x, _), (y, _) = centred(split.source), centred(split.target)
    noise = torch.randn(x.shape[1], y.shape[1], generator=generator)
    noise = unit(noise.flatten()).view_as(noise)
    if recipe == "random":
        good.weight = noise
    elif recipe == "axes":
        good.weight = _match_axes(x, y)
    elif recipe.startswith("blend"):
        share = int(recipe[5:]) / 100
        own = good.weight / good.weight.norm()
        good.weight = (1 - share) * own + share * noise
    elif recipe.startswith("twist"):
        k = int(recipe[5:])
        axes = principal_axes(y.T @ y)[:, :k]
        turn, _ = torch.linalg.qr(torch.randn(k, k, generator=generator))
        good.weight = good.weight + good.weight @ axes @ (turn - torch.eye(k)) @ axes.T
    else:
        raise ValueError(f"recipe {recipe!r}; known are {CORRUPTED}")
    return good


def gaussian_like(space: Space, seed: int) -> Space:
    """As many rows of a Gaussian with the mean and covariance of the space's rows."""
    generator = torch.Generator().manual_seed(seed)
    rows = space.vectors - space.vectors.mean(0)
    values, axes = torch.linalg.eigh(rows.T @ rows / space.n)
    white = torch.randn(space.n, space.d, generator=generator)
    drawn = white * values.clamp_min(0).sqrt() @ axes.T + space.vectors.mean(0)
    return Space.of(drawn, encoder=space.name)


def auc(scores: Sequence[float], failed: Sequence[bool]) -> float | None:
    """Probability that a success has the higher score than a failure; ties count half.

    None when there are only successes or only failures.

    >>> auc([0.9, 0.8, 0.1], [False, False, True])
    1.0
    """
    good = torch.tensor([s for s, f in zip(scores, failed, strict=True) if not f])
    bad = torch.tensor([s for s, f in zip(scores, failed, strict=True) if f])
    if not len(good) or not len(bad):
        return None
    higher = (good[:, None] > bad).double() + (good[:, None] == bad).double() / 2
    return higher.mean().item()


def spearman(scores: Sequence[float], ranks: Sequence[float]) -> float:
    """Rank correlation of the score with how *low* the true rank is: 1 is perfect."""
    from scipy.stats import spearmanr

    return float(spearmanr(scores, [-rank for rank in ranks]).statistic)


def study(runs: Sequence[dict]) -> dict:
    """AUC within each pair and size, and Spearman's correlation over everything.

    A run is `{"source", "target", "n_train", "score", "rank", ...}`.
    """
    groups: dict[str, list[dict]] = {}
    for run in runs:
        name = f"{run['source']} to {run['target']}, {run['n_train']:,}"
        groups.setdefault(name, []).append(run)
    aucs = {}
    for name, members in groups.items():
        scores = [run["score"] for run in members]
        aucs[name] = auc(scores, [run["rank"] > FAILED for run in members])
    known = [value for value in aucs.values() if value is not None]
    scores, ranks = ([run[key] for run in runs] for key in ("score", "rank"))
    return {
        "auc": aucs,
        "auc_min": min(known, default=None),
        "auc_mean": sum(known) / len(known) if known else None,
        "spearman": spearman(scores, ranks),
        "runs": list(runs),
    }


def _match_axes(x: Tensor, y: Tensor) -> Tensor:
    r = min(x.shape[1], y.shape[1])
    axes = [principal_axes(rows.T @ rows)[:, :r] for rows in (x, y)]
    skew = [((z @ a) ** 3).mean(0).sign() for z, a in zip((x, y), axes, strict=True)]
    return axes[0] * (skew[0] * skew[1]) @ axes[1].T
