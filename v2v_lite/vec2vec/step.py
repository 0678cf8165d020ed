r"""One training step, whole, on plain tensors; every loss is `(S,)`, one per seed.

    batch = {"minilm": x, "granite": y}  # unit rows (S, B, d), the known space last
    networks = Networks({"minilm": 384, "granite": 384}, preset, seeds, generator)
    optimisers = {"nets": Adam(networks.nets.parameters(), lr)}
    if parameters := networks.discriminator_parameters():
        optimisers["discriminators"] = Adam(parameters, d_lr)
    losses = train_step(networks, optimisers, batch, preset)

`Trainer.step` calls the same function; what it adds comes in as an `Engine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..spaces.files import DataError
from . import losses
from .config import AdversarialConfig, LossConfig, Preset
from .known import with_pairs
from .layers import clip_by_seed
from .losses import GAMES, VSP
from .nets import Discriminator, Nets, Networks

Batch = dict[str, Tensor]  # name -> (S, B, d) unit rows
Pairs = dict[tuple[str, str], Tensor]  # (source, target) -> (S, B, d)
Losses = dict[str, Tensor]  # name -> (S,)
Optimisers = Mapping[str, torch.optim.Optimizer]
# "adv" or "latent_adv", the discriminator, real rows or latents, and fake ones.
Contest = tuple[str, Discriminator | None, Tensor, list[Tensor]]


class Engine:
    """How a step runs: this one is plain PyTorch, in float32 and in one piece."""

    accumulation = 1  # micro-batches per step

    def micro_batches(self, batch: Batch) -> Iterator[Batch]:
        """The batch in parts; a second pass repeats the first, noise included."""
        yield batch

    def autocast(self) -> AbstractContextManager:
        """Context of forward passes and losses."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a micro-batch's loss, a number, to those of the step."""
        loss.backward()

    def update(
        self, optimiser: torch.optim.Optimizer, weights: list[nn.Parameter], clip: float
    ) -> None:
        """Clip each seed's gradient to the norm `clip` (0: not), and step."""
        if clip:
            clip_by_seed(weights, clip)
        optimiser.step()
        optimiser.zero_grad()


PLAIN = Engine()


def train_step(
    networks: Networks, optimisers: Optimisers, batch: Batch, config: Preset,
    engine: Engine = PLAIN, known: Batch | None = None,
) -> Losses:  # fmt: skip
    """One update of the discriminators, then one of the translator against them.

    Returns the losses `{name: (S,)}`, detached, at which the updates were made; their
    sum over seeds, which share no weight, is differentiated. Without an optimiser
    "discriminators" only the translator learns. It learns from pairs, too, if `known`
    `{name: (S, P, d)}` holds some of two spaces, row i of both of one text.
    """
    found: Losses = {}
    nets, output = networks.nets, None
    # One forward pass serves both sides. With micro-batches the discriminators have to
    # see all of them first, and the translator's pass is made again.
    once = engine.accumulation == 1

    # 1. Discriminators: tell real rows from translations, and latents from latents.
    if "discriminators" in optimisers:
        for part in engine.micro_batches(batch):
            with engine.autocast(), torch.set_grad_enabled(once):
                output = forward(nets, part, config.loss)
            with engine.autocast():
                d_losses = discriminator_losses(networks, output, config)
            engine.backward(d_losses["discriminator"].sum())
            _collect(found, d_losses, engine.accumulation)
        weights = networks.discriminator_parameters()
        engine.update(optimisers["discriminators"], weights, 0.0)

    # 2. Translator: fool the discriminators as they are now, and keep the geometry.
    for part in engine.micro_batches(batch):
        with engine.autocast():
            if output is None or not once:
                output = forward(nets, part, config.loss)
            g_losses = generator_losses(networks, output, config)
            if known:
                g_losses = with_pairs(g_losses, nets, known, config.loss)
        engine.backward(g_losses["generator"].sum())
        _collect(found, g_losses, engine.accumulation)
    engine.update(optimisers["nets"], [*nets.parameters()], config.optim.grad_clip)
    return found


@dataclass(frozen=True, eq=False)
class ForwardOutput:
    """What one pass through the nets yields; every loss of the step is made of it."""

    rows: Batch
    latents: Batch
    reconstructions: Batch
    translations: Pairs
    round_trips: Pairs  # (s, t): rows of s that went to t and came back


def forward(nets: Nets, batch: Batch, config: LossConfig) -> ForwardOutput:
    """Encode, reconstruct, translate and return a batch `{name: (S, B, d)}`, each once.

    Noise is added to inputs, not targets. What no loss of `config` needs is left out.
    """
    if tuple(batch) != nets.names:
        raise DataError(f"batch holds {tuple(batch)}; give {nets.names} in this order")
    rebuilt, translated, returned = Batch(), Pairs(), Pairs()
    inputs = [(name, _noisy(x, config.input_noise)) for name, x in batch.items()]
    z = nets.encode_all(inputs)
    latents = dict(zip(batch, z.unbind(1), strict=True))
    rebuild = config.reconstruction_weight or config.vsp_reconstruction_weight
    for target in batch:  # all that one adapter puts out goes through it together
        sources = [name for name in batch if rebuild or name != target]
        together = z if rebuild else torch.stack([latents[s] for s in sources], dim=1)
        made = nets.decode(target, together).unbind(1)
        translated |= {(s, target): y for s, y in zip(sources, made, strict=True)}
        if rebuild:
            rebuilt[target] = translated.pop((target, target))
    round_trip_vsp = config.vsp_weight and VSP[config.vsp].rows == "round trips"
    if config.cycle_weight or round_trip_vsp:
        stop = config.cycle_stop_gradient
        there = [x.detach() if stop else x for x in translated.values()]
        targets = [target for _, target in translated]
        back = nets.encode_all(list(zip(targets, there, strict=True))).unbind(1)
        for (source, target), latent in zip(translated, back, strict=True):
            returned[source, target] = nets.decode(source, latent)
    return ForwardOutput(batch, latents, rebuilt, translated, returned)


def discriminator_losses(
    networks: Networks, output: ForwardOutput, config: Preset
) -> Losses:
    """What the discriminators minimise, `{name: (S,)}`; "discriminator" is the total.

    "adv_d" and "latent_adv_d" are the games', "gradient_penalty" is R1 and R2. No
    gradient reaches the translator. Without discriminators the total alone is left, 0.
    """
    settings, terms = config.adversarial, dict[str, Tensor]()
    smoothing = settings.label_smoothing
    for term, discriminator, real, fakes in _contests(networks, output):
        if discriminator is None:
            continue
        size = discriminator.ensemble_size
        real, fakes = real.detach(), [fake.detach() for fake in fakes]
        real_logits, *logits = discriminator.logits(real, *fakes)
        for fake in logits:
            loss = losses.d_loss(settings.game, real_logits, fake, smoothing)
            _add(terms, f"{term}_d", loss / len(fakes))
        for weight, groups in (settings.r1, [real]), (settings.r2, fakes):
            for rows in groups if weight else ():
                loss = losses.gradient_penalty(discriminator.layers, rows, weight, size)
                _add(terms, "gradient_penalty", loss / len(groups))
    return terms | {"discriminator": sum(terms.values(), _zero(output))}


def generator_losses(
    networks: Networks, output: ForwardOutput, config: Preset
) -> Losses:
    """What the translator minimises, `{name: (S,)}`; "generator" is the weighted total.

    Reconstruction, cycle and VSP are means over spaces or ordered pairs, or sums where
    `mse_sum`; adversarial losses are sums over spaces. Discriminators are frozen.
    """
    loss, terms = config.loss, _vsp_losses(output, config.loss)
    number = 1 if loss.mse_sum else len(output.rows)
    if loss.reconstruction_weight:
        for name, rebuilt in output.reconstructions.items():
            value = losses.reconstruction(rebuilt, output.rows[name], loss.mse_sum)
            _add(terms, "reconstruction", value / number)
    number = 1 if loss.mse_sum else len(output.translations)
    if loss.cycle_weight:
        for (source, _), returned in output.round_trips.items():
            value = losses.cycle(returned, output.rows[source], loss.mse_sum)
            _add(terms, "cycle", value / number)
    for contest in _contests(networks, output):
        for value in _fool(config.adversarial, contest):
            _add(terms, contest[0], value / len(contest[3]))
    weighted = [getattr(loss, f"{name}_weight") * v for name, v in terms.items()]
    return terms | {"generator": sum(weighted, _zero(output))}


def step_losses(networks: Networks, batch: Batch, config: Preset) -> Losses:
    """All losses of one batch, both sides' at one state of the networks."""
    output = forward(networks.nets, batch, config.loss)
    found = discriminator_losses(networks, output, config)
    return found | generator_losses(networks, output, config)


def _contests(networks: Networks, output: ForwardOutput) -> Iterator[Contest]:
    """Every adversarial contest: of each space's rows, then of latents."""
    discriminators = iter(networks.discriminators())
    for name in networks.output_spaces:
        others = [other for other in output.rows if other != name]
        fakes = [networks.filtered(name, output.translations[o, name]) for o in others]
        real = networks.filtered(name, output.rows[name])
        yield "adv", next(discriminators, None), real, fakes
    for name in networks.latent_spaces:
        fakes = [z for other, z in output.latents.items() if other != name]
        real = output.latents[name]
        yield "latent_adv", next(discriminators, None), real, fakes


def _fool(config: AdversarialConfig, contest: Contest) -> list[Tensor]:
    """The translator's adversarial loss `(S,)` on each of the fakes."""
    _, discriminator, real, fakes = contest
    game, real = GAMES[config.game], real.detach()
    if discriminator is None:
        options = (config.temperature,) if game.temperature else ()
        return [game.g_loss(fake, real, *options) for fake in fakes]
    with frozen(discriminator):
        if not game.needs_real:
            return [game.g_loss(fake) for fake in discriminator.logits(*fakes)]
        real, *logits = discriminator.logits(real, *fakes)
        return [game.g_loss(fake, real) for fake in logits]


def _vsp_losses(output: ForwardOutput, config: LossConfig) -> Losses:
    """The terms "vsp" and "vsp_reconstruction"; a batch's Gram matrix is made once."""
    terms: Losses = {}
    if not (config.vsp_weight or config.vsp_reconstruction_weight):
        return terms
    form, some = VSP[config.vsp], slice(config.vsp_rows or None)
    real = {name: x[:, some] for name, x in output.rows.items()}
    grams = {name: losses.gram(x) for name, x in real.items()}
    if config.vsp_reconstruction_weight:
        for name, rebuilt in output.reconstructions.items():
            loss = form.loss(rebuilt[:, some], real[name], grams[name])
            _add(terms, "vsp_reconstruction", loss / len(grams))
    if config.vsp_weight:
        trips = form.rows == "round trips"
        compared = output.round_trips if trips else output.translations
        number = 1 if config.mse_sum else len(compared)
        for (source, target), rows in compared.items():
            name = target if form.real == "target" else source
            loss = form.loss(rows[:, some], real[name], grams[name])
            _add(terms, "vsp", loss / number)
    return terms


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within it, what is computed with `module` sends no gradient to its weights."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def _noisy(x: Tensor, length: float) -> Tensor:
    return x + length / x.shape[-1] ** 0.5 * torch.randn_like(x) if length else x


def _zero(output: ForwardOutput) -> Tensor:
    rows = next(iter(output.rows.values()))
    return rows.new_zeros(len(rows))


def _add(terms: Losses, name: str, value: Tensor) -> None:
    terms[name] = terms[name] + value if name in terms else value


def _collect(found: Losses, new: Losses, parts: int) -> None:
    for name, value in new.items():
        _add(found, name, value.detach() / parts)
