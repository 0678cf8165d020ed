"""What a run is made of between two steps, and so what a checkpoint has to hold.

Nothing else is carried from step to step: rates are functions of the step, and batches
and dropout are drawn by generators seeded anew from the run's seeds and the step.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import asdict, fields
from typing import get_type_hints

import torch
from torch import Tensor

from ..spaces.files import DataError
from ..spaces.space import Space
from .nets import Nets
from .optim import Muon
from .presets import PRESETS, OptimConfig, Preset
from .schedule import rate
from .step import Players


class State:
    """Players, optimisers, running mean, best nets, losses not yet told, history.

    `maps` (source, target) -> `(S, d_s, d_t)` are what the nets start from, if not at
    random, `whites` the spaces' whitenings. Seed k's weights are those it would have
    alone.
    """

    def __init__(
        self,
        widths: dict[str, int],
        preset: Preset,
        seeds: tuple[int, ...],
        device: torch.device,
        maps: dict[tuple[str, str], Tensor],
        whites: dict[str, Tensor],
    ) -> None:
        self.preset, self.seeds, self.step = preset, seeds, 0
        alone = [
            Players(widths, preset, 1, torch.Generator().manual_seed(seed))
            for seed in seeds
        ]
        self.players = Players(widths, preset, len(seeds), torch.Generator())
        weights = [players.state_dict() for players in alone]
        joined = {key: torch.cat([w[key] for w in weights]) for key in weights[0]}
        self.players.load_state_dict(joined)
        for pair, weight in maps.items():
            self.players.start_from(*pair, weight, whites)
        nets, o = self.players.to(device).nets, preset.optim
        # One pass over weights, gradients and moments, not a dozen; on CPUs since 2.4.
        make = {"betas": o.betas, "fused": device.type == "cuda" or _torch() >= (2, 4)}
        self.optims = {"nets": _optimiser(nets, o, make)}
        if judges := self.players.discriminators():
            adam = torch.optim.Adam(judges, o.d_lr, eps=o.d_eps, **make)
            self.optims["discriminators"] = adam
        self.mean = copy.deepcopy(nets).requires_grad_(False) if o.ema else None
        self.best = copy.deepcopy(nets).requires_grad_(False)
        self.scores, self.steps = [-1.0] * len(seeds), [0] * len(seeds)
        self.waited = 0  # evaluations since a seed last did better
        self.history: list[list[dict]] = [[] for _ in seeds]
        self.meter = Meter()

    @property
    def model(self) -> Nets:
        """The nets to be judged: the running mean where one is kept."""
        return self.players.nets if self.mean is None else self.mean

    def set_rates(self) -> None:
        """Both learning rates of the step to come."""
        o = self.preset.optim
        for name, base in (("nets", o.lr), ("discriminators", o.d_lr)):
            for group in self.optims[name].param_groups if name in self.optims else ():
                group["lr"] = base * rate(self.step, o) * group.get("share", 1.0)
        self.players.look(self.step / o.steps)

    @torch.no_grad()
    def follow(self) -> None:
        """Move the running mean towards the nets; young, it moves faster."""
        if self.mean is None:
            return
        share = 1 - min(self.preset.optim.ema, (1 + self.step) / (10 + self.step))
        pairs = zip(self.mean.parameters(), self.players.nets.parameters(), strict=True)
        torch._foreach_lerp_(*map(list, zip(*pairs, strict=True)), share)
        for mine, new in zip(
            self.mean.buffers(), self.players.nets.buffers(), strict=True
        ):
            mine.copy_(new)

    @torch.no_grad()
    def keep_best(self, scores: list[float]) -> None:
        """Keep each seed's nets where its unsupervised score is its best so far.

        Of equal scores (failures all have 0) the later one's; but a start that was
        given stays until one is `preset.margin` above it.
        """
        held = self.preset.margin if self.preset.start != "random" else 0.0
        bars = [
            old + held * (self.step > at == 0)
            for old, at in zip(self.scores, self.steps, strict=True)
        ]
        better = any(new > bar for new, bar in zip(scores, bars, strict=True))
        self.waited = 0 if better else self.waited + 1
        now = self.model.state_dict()
        for k, score in enumerate(scores):
            if score < bars[k]:
                continue
            self.scores[k], self.steps[k] = score, self.step
            for name, value in self.best.state_dict().items():
                value[k].copy_(now[name][k])

    def tree(self) -> dict:
        """Every tensor, in nested dicts."""
        tree = {
            "players": self.players.state_dict(),
            "best": self.best.state_dict(),
            "meter": self.meter.tree(),
        }
        if self.mean is not None:
            tree["mean"] = self.mean.state_dict()
        for name, optim in self.optims.items():
            state = optim.state_dict()["state"]
            tree[f"optim {name}"] = {str(k): v for k, v in state.items()}
        return tree

    def about(self) -> dict:
        """Everything else, as JSON can hold it."""
        return {
            "preset": asdict(self.preset),
            "widths": self.players.nets.widths,
            "seeds": list(self.seeds),
            "scores": self.scores,
            "steps": self.steps,
            "waited": self.waited,
            "losses": self.meter.names,
            "count": self.meter.count,
            "history": self.history,
        }

    def restore(self, tree: dict, about: dict) -> None:
        """Become what `tree` and `about` were taken from."""
        self.players.load_state_dict(tree["players"])
        self.best.load_state_dict(tree["best"])
        if self.mean is not None:
            self.mean.load_state_dict(tree["mean"])
        for name, optim in self.optims.items():
            moments = {int(k): v for k, v in tree.get(f"optim {name}", {}).items()}
            groups = optim.state_dict()["param_groups"]
            optim.load_state_dict({"state": moments, "param_groups": groups})
        self.step, self.history = about["step"], about["history"]
        self.scores, self.steps = about["scores"], about["steps"]
        self.waited = about["waited"]
        device = next(self.players.parameters()).device
        self.meter = Meter(about["losses"], about["count"])
        self.meter.values = {k: v.to(device) for k, v in tree.get("meter", {}).items()}


class Meter:
    """Losses summed on the device, and the step at which each first was not finite."""

    def __init__(self, names: list[str] | None = None, count: int = 0) -> None:
        self.names, self.count = names or [], count
        self.values: dict[str, Tensor] = {}  # "sums" and "bad", (losses, S)

    def add(self, step: int, losses: dict[str, Tensor]) -> None:
        """Count the losses `{name: (S,)}` of a step; nothing is waited for."""
        found = torch.stack([value.detach().float() for value in losses.values()])
        if not self.values:
            bad = torch.full_like(found, -1, dtype=torch.int64)
            self.values = {"sums": torch.zeros_like(found), "bad": bad}
        self.names, self.count = list(losses), self.count + 1
        bad = self.values["bad"]
        bad.masked_fill_(~found.isfinite() & (bad < 0), step)
        self.values["sums"] += found

    def tree(self) -> dict[str, Tensor]:
        return self.values

    def means(self) -> list[dict[str, float]]:
        """The mean losses since the last call, a dict a seed; starts anew."""
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
        if not found:
            return None
        step, at, k = min(found)
        return step, self.names[at], k


def _optimiser(nets: Nets, config: OptimConfig, make: dict) -> torch.optim.Adam:
    """The translator's: its input adapters at the full rate, the rest at a share."""
    fast = [*nets.inputs.parameters()]
    slow = [*nets.outputs.parameters(), *nets.backbone.parameters()]
    muon = config.rule == "muon"
    if muon:  # what is no matrix goes with the rest
        slow += [w for w in fast if w.ndim != 3 or w.shape[1] == 1]
        fast = [w for w in fast if w.ndim == 3 and w.shape[1] > 1]
    groups = [
        {"params": fast, "share": 1.0},
        {"params": slow, "share": config.slow},
    ]
    if not muon:
        return torch.optim.Adam(groups, config.lr, **make)
    groups[0]["momentum"] = config.momentum
    # Not fused: a loss scaler then keeps gradients of infinite length away.
    return Muon(groups, config.lr, betas=config.betas)


def _torch() -> tuple[int, ...]:
    return tuple(int(part) for part in torch.__version__.split(".")[:2])


def fingerprint(spaces: list[tuple[str, Space]]) -> str:
    """SHA-256 of names, rows and means: the data that a run saw."""
    digest = hashlib.sha256()
    for name, space in spaces:
        digest.update(f"{name} {tuple(space.vectors.shape)}".encode())
        for rows in (space.mean, space.vectors):
            digest.update(rows.cpu().contiguous().numpy())
    return digest.hexdigest()


def preset_named(name: str) -> Preset:
    """The preset of that name; DataError lists the names there are."""
    if name not in PRESETS:
        raise DataError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


def preset_of(values: dict) -> Preset:
    """The preset that `asdict` took apart; DataError for fields it does not know."""
    return _made(Preset, values)


def _made(kind: type, values: dict):
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    if set(values) != known:
        raise DataError(
            f"{kind.__name__} has the fields {', '.join(sorted(known))}, but "
            f"{', '.join(sorted(values))} were saved; resume with the version that "
            "wrote them, or train anew"
        )
    ready = {}
    for name, value in values.items():
        nest = isinstance(value, dict)
        value = tuple(value) if isinstance(value, list) else value
        ready[name] = _made(hints[name], value) if nest else value
    return kind(**ready)
