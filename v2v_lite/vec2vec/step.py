r"""One step: the translations, then the losses of both sides, each put together once.

    flow = forward(players.nets, batch, preset.loss)
    sum of discriminator_losses(players, flow, preset)  -> one update of all D
    sum of generator_losses(players, flow, preset)      -> one update of the nets

The spaces keep the order in which they were given; the last one is the known space. In
a latent game of kind "one" the others' latents are pulled to its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..spaces.files import DataError
from . import losses
from .adversary import Discriminator, Glasses, d_loss, frozen, g_loss, gradient_penalty
from .nets import Nets
from .presets import GameConfig, LossConfig, Preset

Batch = dict[str, Tensor]  # name -> (S, B, d) unit rows
Pairs = dict[tuple[str, str], Tensor]  # (source, target) -> (S, B, d)
Losses = dict[str, Tensor]  # name -> (S,)
Game = tuple[str, Discriminator | None, Tensor, list[Tensor]]


class Players(nn.Module):
    """The nets and their adversaries.

    `outputs[i]` judges rows of the space `output_names[i]`, `latents[i]` whether a
    latent is of `latent_names[i]`: of every space, of the last, or of none. There are
    no discriminators in the mmd game, nor where the game's weight is 0. All is drawn
    from `generator`, on the CPU.
    """

    def __init__(
        self,
        widths: dict[str, int],
        preset: Preset,
        seeds: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        game, weights = preset.game, preset.loss
        self.nets = Nets(widths, preset.net, seeds, generator)
        names = self.nets.names
        pulled_to = {"both": names, "one": names[-1:], "none": ()}[game.latent]
        self.output_names = names if weights.output_game else ()
        self.latent_names = pulled_to if weights.latent_game else ()
        judged, watched = self.output_names, self.latent_names
        if game.kind in ("mmd", "density"):
            judged = watched = ()
        # The judges of outputs look through glasses where a focus or a spread is set.
        self.game, glasses = game, any(game.focus) or any(game.spread)
        self.glasses = nn.ModuleList(
            Glasses(seeds, width) for width in (widths.values() if glasses else ())
        )
        self.outputs = nn.ModuleList(
            Discriminator(widths[name], game, seeds, generator, game.members)
            for name in judged
        )
        self.latents = nn.ModuleList(
            Discriminator(self.nets.latent, game, seeds, generator) for _ in watched
        )

    def start_from(
        self, source: str, target: str, maps: Tensor, whites: dict[str, Tensor]
    ) -> None:
        """Start the nets from `maps` `(S, d_s, d_t)` or, where there are glasses, from
        their rotation, with their singular values and the spaces' whitenings `(d, d)`
        in the glasses of both spaces."""
        if not self.glasses:
            return self.nets.start_from(source, target, maps)
        u, s, vh = torch.linalg.svd(maps.double())
        r = s.shape[-1]
        self.nets.start_from(source, target, u[..., :r] @ vh[..., :r, :])
        for name, axes in (source, u), (target, vh.mT):
            glasses = self.glasses[self.nets.position[name]]
            glasses.put_on(axes[..., :r], s / s[:, :1], whites[name])
        self.look(0.0)

    def look(self, done: float) -> None:
        """Set the glasses for when a share `done` of the run is over."""
        ends = self.game.focus, self.game.spread
        focus, spread = (first + (last - first) * done for first, last in ends)
        for glasses in self.glasses:
            glasses.look(focus, spread)

    def seen(self, name: str, rows: Tensor) -> Tensor:
        """Rows `(S, B, d)` of a space as the judges of outputs see them."""
        glasses = self.glasses_of(name)
        return rows if glasses is None else glasses(rows)

    def glasses_of(self, name: str) -> Glasses | None:
        """What the judges of a space's rows look through, if anything."""
        return self.glasses[self.nets.position[name]] if self.glasses else None

    def discriminators(self) -> list[nn.Parameter]:
        """What the second optimiser trains; the first trains `nets.parameters()`."""
        return [*self.outputs.parameters(), *self.latents.parameters()]


@dataclass(frozen=True, eq=False)
class Flow:
    """What one pass through the nets yields: every loss of the step is made of it."""

    rows: Batch
    latents: Batch
    rebuilt: Batch
    translated: Pairs
    returned: Pairs  # (s, t): rows of s that went to t and came back


def forward(nets: Nets, batch: Batch, config: LossConfig) -> Flow:
    """Encode, rebuild, translate and return a batch `{name: (S, B, d)}`, each once.

    Noise is added to what the nets see, never to `Flow.rows`, the losses' targets.
    What no loss of `config` needs is left out.
    """
    if tuple(batch) != nets.names:
        raise DataError(f"batch holds {tuple(batch)}; give {nets.names} in this order")
    rebuilt, translated, returned = {}, {}, {}
    seen = [(name, _noisy(x, config.noise)) for name, x in batch.items()]
    z = nets.encode_all(seen)
    latents = dict(zip(batch, z.unbind(1), strict=True))
    rebuilds = config.reconstruction or config.vsp_reconstruction
    for target in batch:  # all that one adapter puts out goes through it together
        sources = [name for name in batch if rebuilds or name != target]
        together = z if rebuilds else torch.stack([latents[s] for s in sources], dim=1)
        made = nets.decode(target, together).unbind(1)
        for source, rows in zip(sources, made, strict=True):
            if source == target:
                rebuilt[target] = rows
            else:
                translated[source, target] = rows
    if config.cycle or (config.vsp_weight and config.vsp == "released"):
        rows = [x.detach() if config.cycle_detached else x for x in translated.values()]
        targets = [target for _, target in translated]
        back = nets.encode_all(list(zip(targets, rows, strict=True))).unbind(1)
        for (source, target), there in zip(translated, back, strict=True):
            returned[source, target] = nets.decode(source, there)
    return Flow(batch, latents, rebuilt, translated, returned)


def _noisy(x: Tensor, length: float) -> Tensor:
    return x + length / x.shape[-1] ** 0.5 * torch.randn_like(x) if length else x


def discriminator_losses(players: Players, flow: Flow, preset: Preset) -> Losses:
    """What the discriminators minimise, `{name: (S,)}`; "discriminator" is the total.

    "output_d" and "latent_d" are the games', "penalty" is R1 and R2. Translations and
    latents are detached: no gradient reaches the nets. The mmd game has the total
    alone, and it is zero.
    """
    game, terms = preset.game, {}
    for term, judge, real, fakes in _games(players, flow):
        if judge is None:
            continue
        real, fakes = real.detach(), [fake.detach() for fake in fakes]
        real_logits, *logits = judge.judge(real, *fakes)
        for fake in logits:
            loss = d_loss(game.kind, real_logits, fake, game.smoothing)
            _add(terms, f"{term}_d", loss / len(fakes))
        for weight, groups in (game.r1, [real]), (game.r2, fakes):
            for rows in groups if weight else ():
                loss = gradient_penalty(judge, rows, weight)
                _add(terms, "penalty", loss / len(groups))
    return terms | {"discriminator": sum(terms.values(), _zero(flow))}


def generator_losses(players: Players, flow: Flow, preset: Preset) -> Losses:
    """What the nets minimise, `{name: (S,)}`; "generator" is the weighted total.

    Reconstruction, cycle and VSP are means over spaces or ordered pairs, or sums where
    `squared` (as printed); games are sums over the judged spaces. Discriminators are
    frozen: no gradient reaches their weights.
    """
    config, terms = preset.loss, _preservation(flow, preset.loss)
    share = 1 if config.squared else len(flow.rows)
    if config.reconstruction:
        for name, rebuilt in flow.rebuilt.items():
            loss = losses.reconstruction(rebuilt, flow.rows[name], config.squared)
            _add(terms, "reconstruction", loss / share)
    share = 1 if config.squared else len(flow.translated)
    if config.cycle:
        for (source, _), returned in flow.returned.items():
            loss = losses.cycle(returned, flow.rows[source], config.squared)
            _add(terms, "cycle", loss / share)
    for term, judge, real, fakes in _games(players, flow):
        for loss in _pulls(preset.game, judge, real.detach(), fakes):
            _add(terms, f"{term}_game", loss / len(fakes))
    fields = {"vsp": "vsp_weight"}
    parts = [getattr(config, fields.get(k, k)) * v for k, v in terms.items()]
    return terms | {"generator": sum(parts, _zero(flow))}


def step_losses(players: Players, batch: Batch, preset: Preset) -> Losses:
    """All losses of one batch at one state of the players, `{name: (S,)}`.

    Those of `discriminator_losses` and of `generator_losses`. A training step calls the
    two itself and updates the discriminators in between.
    """
    flow = forward(players.nets, batch, preset.loss)
    found = discriminator_losses(players, flow, preset)
    return found | generator_losses(players, flow, preset)


def _preservation(flow: Flow, config: LossConfig) -> Losses:
    """The terms "vsp" and "vsp_reconstruction"; a batch's Gram matrix is made once."""
    if not (config.vsp_weight or config.vsp_reconstruction):
        return {}
    vsp = {
        "printed": losses.vsp_printed,
        "released": losses.vsp_released,
        "sound": losses.vsp_sound,
    }[config.vsp]
    some = slice(config.vsp_rows or None)
    real = {name: x[:, some] for name, x in flow.rows.items()}
    terms, grams = {}, {name: losses.gram(x) for name, x in real.items()}
    if config.vsp_reconstruction:
        for name, rebuilt in flow.rebuilt.items():
            loss = vsp(rebuilt[:, some], real[name], grams[name])
            _add(terms, "vsp_reconstruction", loss / len(grams))
    if config.vsp_weight:
        kept = flow.returned if config.vsp == "released" else flow.translated
        share = 1 if config.squared else len(kept)
        for (source, target), rows in kept.items():
            name = target if config.vsp == "printed" else source
            loss = vsp(rows[:, some], real[name], grams[name])
            _add(terms, "vsp", loss / share)
    return terms


def _games(players: Players, flow: Flow) -> Iterator[Game]:
    """Every game that is played: name, judge (None for mmd), real rows and fakes."""
    for term, names, judges in (
        ("output", players.output_names, players.outputs),
        ("latent", players.latent_names, players.latents),
    ):
        for i, name in enumerate(names):
            others = [other for other in flow.rows if other != name]
            real, fakes = flow.latents[name], [flow.latents[o] for o in others]
            if term == "output":
                real = players.seen(name, flow.rows[name])
                fakes = [
                    players.seen(name, flow.translated[other, name]) for other in others
                ]
            yield term, judges[i] if len(judges) else None, real, fakes


def _pulls(
    game: GameConfig, judge: Discriminator | None, real: Tensor, fakes: list[Tensor]
) -> list[Tensor]:
    """The generator's loss `(S,)` on each of the fakes."""
    kind = game.kind
    if kind == "density":
        return [losses.density(fake, real, game.temperature) for fake in fakes]
    if judge is None:
        return [losses.mmd(fake, real) for fake in fakes]
    with frozen(judge):
        if kind != "relativistic":
            return [g_loss(kind, fake) for fake in judge.judge(*fakes)]
        real_logits, *logits = judge.judge(real, *fakes)
        return [g_loss(kind, fake, real_logits) for fake in logits]


def _zero(flow: Flow) -> Tensor:
    rows = next(iter(flow.rows.values()))
    return rows.new_zeros(len(rows))


def _add(terms: Losses, name: str, value: Tensor) -> None:
    terms[name] = terms[name] + value if name in terms else value
