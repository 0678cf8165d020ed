"""A trained pair of spaces as a `Translator`: saved, loaded and scored like any other.

The nets see rows as they were trained (`start.View`): centred by their space's training
mean and whitened, if the preset says so. What comes back is then a direction around the
target's mean; read out (`start.read_out`), it goes where the target's rows are, as with
linear methods:

    translate(x) = unit( mean_t + scale * unit(F(view_s(x)) R) ),   else F(x)
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from torch import Tensor

from ..align.base import Stage, Translator
from ..spaces.files import DataError
from ..spaces.rows import unit
from ..spaces.space import Space
from .nets import Nets
from .presets import NetConfig, Preset
from .start import View

CONFIG = "config"  # a tensor of the bytes of the configuration's JSON


class Vec2Vec(Translator):
    """One ordered pair of one seed's nets; `fit` trains by a preset (SOUND)."""

    name = "vec2vec"
    min_rows = 400  # a tenth is held back, and a diagnosis needs 40

    def __init__(self, preset: Preset | None = None, seeds: int = 1) -> None:
        super().__init__()
        self.preset, self.seeds = preset, seeds
        self.nets: Nets
        self.means: tuple[Tensor, Tensor]  # (d_s,), (d_t,); zero if not centred
        self.scale = 0.0  # 0: not centred
        # Where rows are whitened: the source's whitening, and the read-out.
        self.white: tuple[Tensor, Tensor] | None = None

    @classmethod
    def of(
        cls, nets: Nets, k: int, spaces: dict[str, Space], pair: tuple[str, str],
        views: tuple[View, View], back: Tensor | None, seed: int,
    ) -> Vec2Vec:  # fmt: skip
        """The pair (source, target) of the k-th copy in `nets`; weights are copied.

        `spaces` are the training spaces by their names in `nets`, `views` are how the
        nets see the pair's rows, `back` what is made of whitened translations.
        """
        model = cls()
        model.nets = one_of(nets, k, pair)
        source, target = (spaces[name] for name in pair)
        device = next(nets.parameters()).device
        model.means = (source.mean.to(device), target.mean.to(device))
        into, _ = views
        if back is not None:
            model.white = into.white.to(device), back.to(device)
        if into.mean is not None:
            model.scale = (target.vectors - target.mean).norm(dim=1).mean().item()
        model.source_name, model.target_name = source.name, target.name
        model.widths, model.seed = (source.d, target.d), seed
        return model

    def _fit(
        self, source: Space, target: Space, seed: int, progress: bool
    ) -> Sequence[Stage]:
        from .trainer import train

        clock = time.perf_counter()
        found = train(
            {"source": source, "target": target}, self.preset,
            seeds=self.seeds, seed=seed, progress=progress,
            device="cpu" if source.vectors.device.type == "cpu" else "auto",
        )  # fmt: skip
        best = found.translator()
        self.nets, self.means, self.scale = best.nets, best.means, best.scale
        self.white = best.white
        seconds = time.perf_counter() - clock
        detail = {"step": found.steps[found.best], "seed": best.seed}
        return [Stage("train", found.scores[found.best], seconds, detail)]

    def _translate(self, rows: Tensor) -> Tensor:
        weight = next(self.nets.parameters())
        x, (here, there) = rows.to(weight.device), self.means
        white, back = self.white or (None, None)
        x = View(here if self.scale else None, white).rows(x)
        y = self.nets.translate("source", "target", x[None])[0]
        y = y if back is None else unit(y @ back)
        y = unit(there + self.scale * y) if self.scale else y
        return y.to(rows.device)

    def _state(self) -> dict[str, Tensor]:
        config = {"net": asdict(self.nets.config), "scale": self.scale}
        data = torch.frombuffer(
            bytearray(json.dumps(config).encode()), dtype=torch.uint8
        )
        means = dict(zip(("source_mean", "target_mean"), self.means, strict=True))
        white = dict(zip(("white", "back"), self.white or (), strict=False))
        return self.nets.state_dict() | means | white | {CONFIG: data}

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        config = json.loads(bytes(tensors.pop(CONFIG).tolist()))
        self.means = tensors.pop("source_mean"), tensors.pop("target_mean")
        self.scale = config["scale"]
        if "white" in tensors:
            if "back" not in tensors:
                raise DataError(
                    "the whitened nets were saved by a version without a read-out; "
                    "train and save them anew"
                )
            self.white = tensors.pop("white"), tensors.pop("back")
        widths = dict(zip(("source", "target"), map(len, self.means), strict=True))
        net = NetConfig(**config["net"])
        self.nets = Nets(widths, net, 1, torch.Generator()).requires_grad_(False)
        self.nets.load_state_dict(tensors)
        self.nets.eval()


def one_of(nets: Nets, k: int, pair: tuple[str, str]) -> Nets:
    """The k-th copy of `nets` for two of its spaces, named "source" and "target"."""
    widths = {side: nets.widths[name] for side, name in zip(("source", "target"), pair)}  # noqa: B905
    # The latent's width may have come from a space that is left out.
    net = replace(nets.config, latent=nets.latent)
    out = Nets(widths, net, 1, torch.Generator()).requires_grad_(False)
    out.to(next(nets.parameters()).device)
    weights = nets.state_dict()
    places = [nets.names.index(name) for name in pair]
    for key, value in out.state_dict().items():
        part, place, *rest = key.split(".")
        if part in ("inputs", "outputs"):
            key = ".".join([part, str(places[int(place)]), *rest])
        value.copy_(weights[key][k : k + 1])
    return out.eval()
