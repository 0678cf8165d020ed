"""What training carries from step to step, which is what a checkpoint has to hold.

Nothing else is carried: learning rates are functions of the step, and batches, noise
and dropout are drawn by generators seeded anew from the run's seeds and the step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..spaces.files import DataError
from .checkpoint import OTHER_VERSION
from .config import Preset
from .maps import Maps, Whitenings
from .nets import Nets, Networks
from .optim import build_optimisers


class TrainingDiverged(DataError):  # a V2VError alone from version 0.3
    """A loss or a weight that is not finite; the message names step and seed."""


class TrainState:
    """Networks, optimisers, EMA weights, best weights per seed, loss sums since the
    last log, history.

    `maps` (source, target) -> `(S, d_s, d_t)` are initial maps, if any, `whitenings`
    the spaces' whitenings `(d, d)`. Seed k's weights are those it would have alone.
    """

    CARRIED = "best_scores", "best_steps", "evals_without_improvement", "history"
    HEADER: ClassVar[dict[str, Any]] = {  # what `header` holds, to check files by
        "preset": dict, "widths": dict, "seeds": list,
        "data": {"shapes": list, "sums": list},
        "best_scores": list, "best_steps": list, "evals_without_improvement": int,
        "losses": list, "count": int, "history": list,
    }  # fmt: skip

    def __init__(
        self, widths: dict[str, int], preset: Preset, seeds: tuple[int, ...],
        device: torch.device, maps: Maps, whitenings: Whitenings,
    ) -> None:  # fmt: skip
        self.preset, self.seeds, self.step = preset, seeds, 0
        draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        weights = [Networks(widths, preset, 1, g).state_dict() for g in draws]
        self.networks = Networks(widths, preset, len(seeds), torch.Generator())
        joined = {key: torch.cat([w[key] for w in weights]) for key in weights[0]}
        self.networks.load_state_dict(joined)
        for pair, weight in maps.items():
            self.networks.init_from_map(*pair, weight, whitenings)
        nets = self.networks.to(device).nets
        self.optimisers = build_optimisers(self.networks, preset.optim)
        self.best = copy.deepcopy(nets).requires_grad_(False)
        self.ema = copy.deepcopy(self.best) if preset.optim.ema_decay else None
        self.best_scores, self.best_steps = [-1.0] * len(seeds), [0] * len(seeds)
        self.evals_without_improvement = 0
        self.history: list[list[dict[str, float]]] = [[] for _ in seeds]
        self.meter = LossMeter()

    @property
    def nets(self) -> Nets:
        """The nets to evaluate: the moving average where one is kept."""
        return self.networks.nets if self.ema is None else self.ema

    @torch.no_grad()
    def update_ema(self) -> None:
        """After a step t move the moving average, if one is kept, towards the nets.

        With min(decay, (1 + t) / (10 + t)), so that it forgets a young network fast;
        buffers are copied.
        """
        if self.ema is None:
            return
        nets, t = self.networks.nets, self.step
        weight = 1 - min(self.preset.optim.ema_decay, (1 + t) / (10 + t))
        torch._foreach_lerp_([*self.ema.parameters()], [*nets.parameters()], weight)
        for mine, new in zip(self.ema.buffers(), nets.buffers(), strict=True):
            mine.copy_(new)

    @torch.no_grad()
    def keep_best(self, scores: list[float]) -> None:
        """Keep each seed's nets where its unsupervised score is its best so far.

        Of equal scores (failures all have 0) the later one's; but a given initial map
        stays until a score is `preset.min_delta` above its own.
        """
        delta = self.preset.min_delta if self.preset.init != "random" else 0.0
        before = zip(self.best_scores, self.best_steps, strict=True)
        bars = [old + delta * (self.step > at == 0) for old, at in before]
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

    def first_bad(self) -> tuple[int, str, int] | None:
        """(step, loss, index of the seed) of what was first not finite."""
        if found := self.meter.first_bad():
            return found
        weights = [w.flatten(1) for w in self.networks.nets.parameters()]
        whole = torch.stack([w.isfinite().all(dim=1) for w in weights]).all(dim=0)
        lost = (~whole).nonzero().flatten().tolist()
        return (self.step, "of the next step", lost[0]) if lost else None

    def tensors(self) -> dict[str, Any]:
        """Every tensor, in nested dicts."""
        tree: dict[str, Any] = {k: v.state_dict() for k, v in self._modules().items()}
        tree["meter"] = self.meter.values
        for name, optimiser in self.optimisers.items():
            state = optimiser.state_dict()["state"]
            tree[f"optim {name}"] = {str(k): v for k, v in state.items()}
        return tree

    def header(self) -> dict[str, Any]:
        """Everything else, as JSON can hold it."""
        carried = {name: getattr(self, name) for name in self.CARRIED}
        return carried | {
            "preset": asdict(self.preset), "widths": self.networks.nets.widths,
            "seeds": list(self.seeds), "losses": self.meter.names,
            "count": self.meter.count,
        }  # fmt: skip

    def restore(self, tree: dict[str, Any], header: dict[str, Any]) -> None:
        """Become what `tensors` and `header` were taken from; DataError if they do not
        fit."""
        try:
            for name, module in self._modules().items():
                module.load_state_dict(tree[name])
            for name, optimiser in self.optimisers.items():
                moments = {int(k): v for k, v in tree.get(f"optim {name}", {}).items()}
                groups = optimiser.state_dict()["param_groups"]
                optimiser.load_state_dict({"state": moments, "param_groups": groups})
            for name in ("step", *self.CARRIED):
                setattr(self, name, header[name])
            meter = LossMeter(header["losses"], header["count"])
            device = next(self.networks.parameters()).device
            meter.values = {k: v.to(device) for k, v in tree.get("meter", {}).items()}
            self.meter = meter
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            fact = f"the checkpoint does not fit its preset ({error})"
            raise DataError(f"{fact}; {OTHER_VERSION}") from error

    def _modules(self) -> dict[str, nn.Module]:
        found = {"networks": self.networks, "best": self.best}
        return found if self.ema is None else found | {"ema": self.ema}


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
        bad = self.values["bad"].cpu() if self.values else torch.empty(0, 0)
        found = [(int(bad[at, k]), at, k) for at, k in (bad >= 0).nonzero().tolist()]
        step, at, k = min(found, default=(-1, 0, 0))
        return None if step < 0 else (step, self.names[at], k)
