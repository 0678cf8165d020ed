"""Presets: the released figures to the digit, and refusals that name the mend."""

from dataclasses import FrozenInstanceError, asdict, replace

import pytest

from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import (
    PRESETS,
    PRINTED,
    RELEASED,
    SOUND,
    GameConfig,
    LossConfig,
    NetConfig,
    OptimConfig,
)


def test_released_is_what_the_papers_code_trains():
    net, optim, loss = RELEASED.net, RELEASED.optim, RELEASED.loss
    assert (net.latent, net.width, net.adapter_depth, net.backbone_depth) == (
        1024, 1024, 3, 4,
    )  # fmt: skip
    assert net.norm == "batch" and net.dropout == 0.1 and net.residual
    assert (optim.lr, optim.d_lr, optim.d_eps) == (2e-5, 1e-5, 6.25e-10)
    assert optim.betas == (0.5, 0.999) and optim.clip == optim.ema == 0
    assert (optim.warmup, optim.batch, optim.schedule) == (2000, 256, "constant")
    assert (loss.reconstruction, loss.cycle, loss.vsp_reconstruction) == (1, 10, 1)
    assert (loss.vsp_weight, loss.output_game, loss.latent_game) == (10, 1, 1)
    assert loss.cycle_detached and not loss.squared and loss.noise == 0
    game = RELEASED.game
    assert (game.kind, game.latent, game.width, game.depth) == (
        "least_squares", "one", 1024, 5,
    )  # fmt: skip
    assert game.r1 == game.r2 == game.smoothing == 0 and game.members == 1
    assert RELEASED.start == "random" and not RELEASED.centred


def test_printed_is_the_released_network_and_optimiser_with_the_printed_losses():
    assert PRINTED.net == RELEASED.net and PRINTED.optim == RELEASED.optim
    game = replace(RELEASED.game, kind="vanilla", latent="both")
    assert PRINTED.game == game
    used = {k: v for k, v in asdict(PRINTED.loss).items() if type(v) is float and v}
    assert used == dict.fromkeys(
        ("reconstruction", "cycle", "vsp_weight", "output_game", "latent_game"), 1.0
    )
    assert PRINTED.loss.squared and not PRINTED.loss.cycle_detached


def test_sound_starts_at_a_given_map_and_is_well_posed():
    assert SOUND.centred and SOUND.start == "anchors"
    assert SOUND.net.linear_adapters and SOUND.net.zero_backbone
    assert SOUND.loss.vsp == "sound" and not SOUND.loss.cycle_detached
    assert SOUND.loss.cycle > 0 and SOUND.loss.vsp_weight > 0
    assert SOUND.game.kind == "density" and SOUND.game.focus[0] > SOUND.game.focus[1]
    assert SOUND.game.latent in ("both", "none")


def test_presets_go_by_their_names_and_are_frozen():
    assert list(PRESETS) == ["printed", "released", "sound"]
    assert all(preset.name == name for name, preset in PRESETS.items())
    with pytest.raises(FrozenInstanceError):
        RELEASED.name = "mine"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: NetConfig(width=0), "NetConfig.width = 0"),
        (lambda: NetConfig(norm="layer"), "choose one of batch, none"),
        (lambda: NetConfig(dropout=1.0), r"NetConfig.dropout = 1.0; it must lie"),
        (lambda: GameConfig(kind="wgan"), "'wgan'; choose one of least_squares"),
        (lambda: GameConfig(depth=1), "GameConfig.depth = 1"),
        (lambda: GameConfig(temperature=0.0), "GameConfig.temperature = 0.0"),
        (lambda: GameConfig(temperature=0.02), "kernels underflow"),
        (lambda: GameConfig(spread=(1.0, -1.0)), "GameConfig.spread"),
        (lambda: LossConfig(vsp_rows=1), "LossConfig.vsp_rows = 1"),
        (lambda: OptimConfig(rule="sgd"), "choose one of adam, muon"),
        (lambda: replace(SOUND, anchor_draws=0), "Preset.anchor_draws = 0"),
        (lambda: replace(SOUND, margin=-0.1), "Preset.margin = -0.1"),
        (lambda: replace(SOUND, read_out="all"), "Preset.read_out = 'all'"),
        (lambda: replace(RELEASED, read_out="shared"), "Preset.read_out = 'shared'"),
        (lambda: GameConfig(focus=(1.0, -0.1)), "GameConfig.focus = "),
        (lambda: replace(SOUND, start="random"), "need a start"),
        (lambda: replace(SOUND, centred=False, start="random"), "whitening needs"),
        (lambda: GameConfig(r1=-1.0), "GameConfig.r1 = -1.0"),
        (lambda: GameConfig(smoothing=0.5), "GameConfig.smoothing = 0.5"),
        (lambda: GameConfig(kind="hinge", smoothing=0.1), "hinge has no labels"),
        (lambda: LossConfig(cycle=-1.0), "LossConfig.cycle = -1.0"),
        (lambda: LossConfig(noise=float("nan")), "LossConfig.noise = nan"),
        (lambda: LossConfig(vsp="own"), "choose one of printed, released, sound"),
        (lambda: OptimConfig(lr=0.0), "OptimConfig.lr = 0.0; it must be above 0"),
        (lambda: OptimConfig(betas=(0.5, 1.0)), "OptimConfig.betas"),
        (lambda: OptimConfig(batch=1), "OptimConfig.batch = 1"),
        (lambda: OptimConfig(precision="fp8"), "choose one of no, fp16, bf16"),
        (lambda: replace(RELEASED, start="anchors"), "needs net.linear_adapters"),
        (lambda: replace(SOUND, centred=False), "maps of centred rows"),
    ],
)
def test_a_wrong_value_is_named_with_the_mend(make, words):
    with pytest.raises(DataError, match=words):
        make()
