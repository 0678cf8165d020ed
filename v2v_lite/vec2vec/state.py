"""What training carries from step to step, which is what a checkpoint has to hold.

Nothing else is carried: learning rates are functions of the step, and batches, noise
and dropout are drawn by generators seeded anew from the run's seeds and the step.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.space import Space
from .config import Preset
from .nets import Nets, Networks
from .optim import build_optimisers

__all__ = ["LossMeter", "TrainState", "TrainingDiverged", "fingerprint"]


class TrainingDiverged(DataError):  # a V2VError alone from version 0.3
    """A loss or a weight that is not finite; the message names step and seed."""


class TrainState:
    """Networks, optimisers, EMA weights, best weights per seed, loss sums since the
    last log, history.

    `maps` (source, target) -> `(S, d_s, d_t)` are initial maps, if any, `whitenings`
    the spaces' whitenings `(d, d)`. Seed k's weights are those it would have alone.
    """

    CARRIED = "best_scores", "best_steps", "evals_without_improvement", "history"
    HEADER: ClassVar[dict[str, type]] = {  # what `header` holds, to check files by
        "preset": dict, "widths": dict, "seeds": list, "hash": str,
        "best_scores": list, "best_steps": list, "evals_without_improvement": int,
        "losses": list, "count": int, "history": list,
    }  # fmt: skip

    def __init__(
        self, widths: dict[str, int], preset: Preset, seeds: tuple[int, ...],
        device: torch.device, maps: dict[tuple[str, str], Tensor],
        whitenings: dict[str, Tensor | None],
    ) -> None:  # fmt: skip
        self.preset, self.seeds, self.step = preset, seeds, 0
        single = [
            Networks(widths, preset, 1, torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        self.networks = Networks(widths, preset, len(seeds), torch.Generator())
        weights = [one.state_dict() for one in single]
        joined = {key: torch.cat([w[key] for w in weights]) for key in weights[0]}
        self.networks.load_state_dict(joined)
        for pair, weight in maps.items():
            self.networks.init_from_map(*pair, weight, whitenings)
        nets = self.networks.to(device).nets
        self.optimisers = build_optimisers(self.networks, preset.optim)
        average = preset.optim.ema_decay > 0
        self.ema = copy.deepcopy(nets).requires_grad_(False) if average else None
        self.best = copy.deepcopy(nets).requires_grad_(False)
        self.best_scores, self.best_steps = [-1.0] * len(seeds), [0] * len(seeds)
        self.evals_without_improvement = 0
        self.history: list[list[dict[str, float]]] = [[] for _ in seeds]
        self.meter = LossMeter()

    @property
    def nets(self) -> Nets:
        """The nets to evaluate: the moving average where one is kept."""
        return self.networks.nets if self.ema is None else self.ema

    @torch.no_grad()
    def keep_best(self, scores: list[float]) -> None:
        """Keep each seed's nets where its unsupervised score is its best so far.

        Of equal scores (failures all have 0) the later one's; but a given initial map
        stays until a score is `preset.min_delta` above its own.
        """
        delta = self.preset.min_delta if self.preset.init != "random" else 0.0
        bars = [
            old + delta * (self.step > at == 0)
            for old, at in zip(self.best_scores, self.best_steps, strict=True)
        ]
        better = any(new > bar for new, bar in zip(scores, bars, strict=True))
        waited = self.evals_without_improvement + 1
        self.evals_without_improvement = 0 if better else waited
        now = self.nets.state_dict()
        for k, score in enumerate(scores):
            if score < bars[k]:
                continue
            self.best_scores[k], self.best_steps[k] = score, self.step
            for name, value in self.best.state_dict().items():
                value[k].copy_(now[name][k])

    def tensors(self) -> dict[str, Any]:
        """Every tensor, in nested dicts."""
        tree: dict[str, Any] = {
            "networks": self.networks.state_dict(),
            "best": self.best.state_dict(),
            "meter": self.meter.values,
        }
        if self.ema is not None:
            tree["ema"] = self.ema.state_dict()
        for name, optimiser in self.optimisers.items():
            state = optimiser.state_dict()["state"]
            tree[f"optim {name}"] = {str(k): v for k, v in state.items()}
        return tree

    def header(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it."""
        return {
            "preset": asdict(self.preset),
            "widths": self.networks.nets.widths,
            "seeds": list(self.seeds),
            "losses": self.meter.names,
            "count": self.meter.count,
        } | {name: getattr(self, name) for name in self.CARRIED}

    def restore(self, tree: dict[str, Any], header: dict[str, Any]) -> None:
        """Become what `tensors` and `header` were taken from; DataError if they do not
        fit."""
        try:
            self._restore(tree, header)
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"the checkpoint does not fit its preset ({error}); resume with the "
                "version of v2v_lite that wrote it, or train anew"
            ) from error

    def _restore(self, tree: dict[str, Any], header: dict[str, Any]) -> None:
        self.networks.load_state_dict(tree["networks"])
        self.best.load_state_dict(tree["best"])
        if self.ema is not None:
            self.ema.load_state_dict(tree["ema"])
        for name, optimiser in self.optimisers.items():
            moments = {int(k): v for k, v in tree.get(f"optim {name}", {}).items()}
            groups = optimiser.state_dict()["param_groups"]
            optimiser.load_state_dict({"state": moments, "param_groups": groups})
        for name in ("step", *self.CARRIED):
            setattr(self, name, header[name])
        device = next(self.networks.parameters()).device
        self.meter = LossMeter(header["losses"], header["count"])
        self.meter.values = {k: v.to(device) for k, v in tree.get("meter", {}).items()}


class LossMeter:
    """Losses summed on the device, and the step at which each first was not finite."""

    def __init__(self, names: Iterable[str] = (), count: int = 0) -> None:
        self.names, self.count = list(names), count
        self.values: dict[str, Tensor] = {}  # "sums" and "bad", (losses, S)

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Count the losses `{name: (S,)}` of a step, without waiting for the device."""
        found = torch.stack([value.detach().float() for value in losses.values()])
        if not self.values:
            bad = torch.full_like(found, -1, dtype=torch.int64)
            self.values = {"sums": torch.zeros_like(found), "bad": bad}
        self.names, self.count = list(losses), self.count + 1
        bad = self.values["bad"]
        bad.masked_fill_(~found.isfinite() & (bad < 0), step)
        self.values["sums"] += found

    def means(self) -> list[dict[str, float]]:
        """The mean losses since the last call, a dict per seed; starts anew."""
        table = (self.values["sums"] / max(self.count, 1)).T.tolist()
        self.values["sums"].zero_()
        self.count = 0
        return [dict(zip(self.names, row, strict=True)) for row in table]

    def first_bad(self) -> tuple[int, str, int] | None:
        """(step, loss, index of the seed) of the first loss that was not finite."""
        bad = self.values["bad"].tolist() if self.values else []
        found = [
            (step, at, k)
            for at, row in enumerate(bad)
            for k, step in enumerate(row)
            if step >= 0
        ]
        step, at, k = min(found, default=(-1, 0, 0))
        return None if step < 0 else (step, self.names[at], k)


def fingerprint(spaces: Iterable[tuple[str, Space]]) -> str:
    """SHA-256 of names, rows and means: the data that a run saw."""
    digest = hashlib.sha256()
    for name, space in spaces:
        digest.update(f"{name} {tuple(space.vectors.shape)}".encode())
        for rows in (space.mean, space.vectors):
            digest.update(rows.cpu().contiguous().numpy().data)
    return digest.hexdigest()
