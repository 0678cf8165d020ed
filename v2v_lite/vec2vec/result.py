r"""What training leaves: translators of ordered pairs, their diagnoses, the result.

The nets see rows as they were trained: as they are, or centred by their space's
training mean, or whitened too, $\mathrm{unit}(x - \mu)\, C^{-1/2}$ with shrinkage
(chapter 6), and normalised again. What they put out for centred spaces is a direction
around the target's mean; rescaled by the output matrix R and by the mean distance of
the target's rows from their mean it goes where the target's rows are, as in linear
methods:

    translate(x) = unit(mean_t + radius_t * unit(F(transform_s(x)) R)),   else F(x)
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ..align.base import Stages, Translator
from ..align.diagnosis import Diagnosis, diagnose, label_of
from ..align.linalg import power, whitening
from ..align.linear import mean_radius
from ..align.profile import Profile
from ..spaces.files import ConfigError, DataError
from ..spaces.rows import unit
from ..spaces.space import Space
from .config import NetConfig, Preset
from .nets import Nets, SpectralFilter
from .presets import from_dict
from .state import TrainState

Report: TypeAlias = "Callable[[PairTranslator], dict[str, float]]"
SCORES = "score", "density", "anchor", "closeness", "cycle", "csls"
CONFIG = "config"  # a tensor of the bytes of the configuration's JSON


@dataclass(frozen=True, eq=False)
class SpaceStats:
    """What networks and translations need of a training space, without its rows."""

    encoder: str
    mean: Tensor  # (d,)
    radius: float = 0.0  # mean distance of the rows from the mean; 0: not centred
    whitening: Tensor | None = None  # (d, d)
    output_matrix: Tensor | None = None  # (S, d, d), (1, d, d) or, of a pair, (d, d)
    profile: Profile | None = None  # of its rows, for translators from it

    @classmethod
    def of(cls, space: Space, preset: Preset) -> SpaceStats:
        """Those of a training space that a preset asks for."""
        profile = Profile.of(space.vectors)
        if not preset.centred:
            return cls(space.name, space.mean, profile=profile)
        radius, matrix = mean_radius(space.vectors, space.mean), None
        if preset.whitening_rows:
            x = unit(space.vectors - space.mean)
            matrix = whitening(x, preset.whitening_rows / space.n)
        return cls(space.name, space.mean, radius, matrix, None, profile)

    def transform(self, x: Tensor) -> Tensor:
        """Rows `(n, d)` as the nets see them."""
        if not self.radius:
            return x
        x = unit(x - self.mean.to(x.device))
        return x if self.whitening is None else unit(x @ self.whitening.to(x.device))

    def place(self, y: Tensor) -> Tensor:
        """Rows `(n, d)` that the nets put out, where this space's rows are."""
        if self.output_matrix is not None:
            y = unit(y @ self.output_matrix.to(y.device))
        return unit(self.mean.to(y.device) + self.radius * y) if self.radius else y


def output_matrices(
    stats: SpaceStats, preset: Preset, filter_: SpectralFilter | None
) -> Tensor | None:
    r"""What whitened translations are multiplied by, `(S, d, d)` or `(1, d, d)`.

    "variance": $C_t^{1/4}$, half of what whitening took from each direction, as in
    `paired.Whitened`; undone whole, the largest few would dominate.
    "shared": $V \rho V^\top$, as much as the initial map of the seed shares of each
    direction. With self-learning's $\rho$ the nets then start as self-learning's map,
    singular values and all. None without whitening.
    """
    if stats.whitening is None:
        return None
    if preset.output_transform == "variance" or filter_ is None:
        return power(stats.whitening.double(), -0.5, 0.0).float()[None]
    basis, values = filter_.basis.double(), filter_.singular_values.double()
    return ((basis * values) @ basis.mT).float()


class PairTranslator(Translator):
    """The trained translator of one ordered pair, saved and loaded like any other.

    `Vec2Vec` adds `fit` to it; this one is what training itself evaluates.
    """

    name = "vec2vec"
    min_rows = 400  # a tenth is held back, and a diagnosis needs 40

    nets: Nets  # of one seed, its spaces named "source" and "target"
    source: SpaceStats
    target: SpaceStats

    @classmethod
    def of(
        cls, nets: Nets, k: int, stats: dict[str, SpaceStats], pair: tuple[str, str],
        seed: int,
    ) -> PairTranslator:  # fmt: skip
        """The pair (source, target) of the k-th copy in `nets`; weights are copied."""
        model = cls()
        model.nets = single_seed(nets, k, pair)
        model.source, model.target = (stats[name] for name in pair)
        model.profile = model.source.profile
        matrix = model.target.output_matrix
        if matrix is not None:
            matrix = matrix[k if len(matrix) > 1 else 0]
            model.target = replace(model.target, output_matrix=matrix)
        sides = model.source, model.target
        model.source_name, model.target_name = (side.encoder for side in sides)
        model.widths, model.seed = (len(sides[0].mean), len(sides[1].mean)), seed
        return model

    def _fit(self, source: Space, target: Space, seed: int, progress: bool) -> Stages:
        raise ConfigError("a trained pair is not fitted again; use Vec2Vec(preset)")

    def _translate(self, rows: Tensor) -> Tensor:
        x = self.source.transform(rows.to(next(self.nets.parameters()).device))
        y = self.nets.translate("source", "target", x[None])[0]
        return self.target.place(y).to(rows.device)

    def _state(self) -> dict[str, Tensor]:
        config = {"net": asdict(self.nets.config), "scale": self.target.radius}
        data = bytearray(json.dumps(config).encode())
        extra = {
            "source_mean": self.source.mean, "target_mean": self.target.mean,
            "white": self.source.whitening, "back": self.target.output_matrix,
            CONFIG: torch.frombuffer(data, dtype=torch.uint8),
        }  # fmt: skip
        extra = {name: x for name, x in extra.items() if x is not None}
        return self.nets.state_dict() | extra

    def _restore(self, tensors: dict[str, Tensor]) -> None:
        config = json.loads(bytes(tensors.pop(CONFIG).tolist()))
        means = tensors.pop("source_mean"), tensors.pop("target_mean")
        white, back = tensors.pop("white", None), tensors.pop("back", None)
        radius, net = float(config["scale"]), from_dict(NetConfig, config["net"])
        widths = {"source": len(means[0]), "target": len(means[1])}
        self.nets = Nets(widths, net, 1, torch.Generator()).requires_grad_(False)
        self.nets.load_state_dict(tensors)
        if (white is None) != (back is None):
            old = "the whitened nets were saved by a version without an output matrix"
            raise DataError(f"{old}; train and save them anew")
        self.source = SpaceStats("unknown", means[0], radius, white)
        self.target = SpaceStats("unknown", means[1], radius, None, back)
        self.nets.eval()


def single_seed(nets: Nets, k: int, pair: tuple[str, str]) -> Nets:
    """The k-th copy of `nets` for two of its spaces, named "source" and "target"."""
    widths = {"source": nets.widths[pair[0]], "target": nets.widths[pair[1]]}
    # The latent's dimension may have come from a space that is left out.
    net = replace(nets.config, latent_dim=nets.latent_dim)
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


def evaluate(
    models: dict[tuple[str, str], PairTranslator], held_out: dict[str, Space],
    report: Report | None,
) -> dict[str, float]:  # fmt: skip
    """Means over pairs of a seed's diagnosis without pairs, and what `report` says."""
    found, told = [], dict[str, float]()
    for pair, model in models.items():
        found.append(diagnose(model, *(held_out[name] for name in pair), chance=False))
        if report:
            of = "report" if len(models) == 1 else f"report {pair[0]}"
            told |= {f"{of} {key}": value for key, value in report(model).items()}
    return {k: statistics.fmean(getattr(d, k) for d in found) for k in SCORES} | told


@dataclass(frozen=True, eq=False)
class TrainResult:
    """What training leaves, per seed: its best nets, and how it came to them.

    `scores` are the unsupervised scores of the seeds' best nets, means over pairs, with
    cross-seed agreement; `best` is the index of the highest. `steps` are the steps at
    which those nets were reached; `history` holds the records of losses and
    evaluations, `{"step": .., name: ..}`. The training rows are not kept.
    """

    preset: Preset
    seeds: tuple[int, ...]
    scores: tuple[float, ...]
    best: int
    steps: tuple[int, ...]
    diagnoses: tuple[tuple[Diagnosis, ...], ...]  # (seed, pair)
    history: tuple[list[dict[str, float]], ...]
    nets: Nets  # the best ones, of all seeds
    stats: dict[str, SpaceStats]

    @classmethod
    def of(
        cls, state: TrainState, stats: dict[str, SpaceStats],
        held_out: dict[str, Space],
    ) -> TrainResult:  # fmt: skip
        """That of a state, its best nets diagnosed on rows held out."""
        make, seeds, (*sources, target) = PairTranslator.of, state.seeds, stats
        rows = []
        for source in sources:
            pair, sides = (source, target), (held_out[source], held_out[target])
            models = [make(state.best, k, stats, pair, s) for k, s in enumerate(seeds)]
            others = [models[:k] + models[k + 1 :] for k in range(len(seeds))]
            both = zip(models, others, strict=True)
            rows.append([diagnose(m, *sides, other_seeds=o) for m, o in both])
        diagnoses = tuple(zip(*rows, strict=True))
        scores = tuple(statistics.fmean(d.score for d in row) for row in diagnoses)
        best, history = scores.index(max(scores)), tuple(state.history)
        return cls(
            state.preset, seeds, scores, best, tuple(state.best_steps), diagnoses,
            history, state.best, stats,
        )  # fmt: skip

    def translator(
        self, source: str | None = None, target: str | None = None, k: int | None = None
    ) -> PairTranslator:
        """The translator between two spaces (the first to the last) by the k-th seed
        (the best)."""
        names = self.nets.names
        pair = source or names[0], target or names[-1]
        if not {*pair} <= {*names} or pair[0] == pair[1]:
            known = ", ".join(names)
            raise DataError(f"from {pair[0]!r} to {pair[1]!r}; give two of {known}")
        k = self.best if k is None else k
        return PairTranslator.of(self.nets, k, self.stats, pair, self.seeds[k])

    def summary(self) -> dict[str, float]:
        """Median, min and max over seeds of the scores, and the fraction of them that
        the diagnosis calls aligned."""
        aligned = [label_of(score) == "aligned" for score in self.scores]
        return {
            "median": statistics.median(self.scores), "min": min(self.scores),
            "max": max(self.scores), "aligned": statistics.fmean(aligned),
        }  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """What `train` writes into history.json."""
        return {
            "preset": asdict(self.preset), "seeds": self.seeds,
            "best": self.seeds[self.best], "scores": self.scores, "steps": self.steps,
            "summary": self.summary(), "history": self.history,
        }  # fmt: skip
