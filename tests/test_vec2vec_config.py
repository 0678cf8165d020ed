"""Presets: the released figures to the digit, and refusals that name the mend."""

import json
import re
from dataclasses import FrozenInstanceError, asdict, fields, is_dataclass, replace

import pytest

from v2v_lite import vec2vec
from v2v_lite.spaces.files import ConfigError, DataError
from v2v_lite.vec2vec import (
    GAMES,
    OURS,
    PAPER,
    PRESETS,
    RELEASED,
    AdversarialConfig,
    LossConfig,
    NetConfig,
    OptimConfig,
    Preset,
    TrainerConfig,
)
from v2v_lite.vec2vec.presets import OLD_FIELDS, from_dict, preset_named


def test_released_is_what_the_papers_code_trains():
    net, optim, loss = RELEASED.net, RELEASED.optim, RELEASED.loss
    assert (net.latent_dim, net.hidden_dim, net.adapter_depth, net.backbone_depth) == (
        1024, 1024, 3, 4,
    )  # fmt: skip
    assert net.norm == "batch" and net.dropout == 0.1 and net.residual
    assert net.norm_init_std == 0.02
    assert (optim.lr, optim.d_lr, optim.d_eps) == (2e-5, 1e-5, 6.25e-10)
    assert optim.betas == (0.5, 0.999) and optim.grad_clip == optim.ema_decay == 0
    assert (optim.warmup_steps, optim.batch_size, optim.schedule) == (
        2000,
        256,
        "constant",
    )
    assert (loss.reconstruction_weight, loss.cycle_weight) == (1, 10)
    assert (loss.vsp_reconstruction_weight, loss.vsp_weight) == (1, 10)
    assert (loss.adv_weight, loss.latent_adv_weight) == (1, 1)
    assert loss.cycle_stop_gradient and not loss.mse_sum and loss.input_noise == 0
    game = RELEASED.adversarial
    assert (game.game, game.latent, game.hidden_dim, game.depth) == (
        "least_squares", "one", 1024, 5,
    )  # fmt: skip
    assert game.r1 == game.r2 == game.label_smoothing == 0 and game.ensemble_size == 1
    assert RELEASED.init == "random" and not RELEASED.centred


def test_paper_is_the_released_network_and_optimiser_with_the_printed_losses():
    assert PAPER.optim == RELEASED.optim
    assert PAPER.net == replace(RELEASED.net, norm="layer", norm_init_std=0.0)
    game = replace(RELEASED.adversarial, game="vanilla", latent="both")
    assert PAPER.adversarial == game
    used = {k: v for k, v in asdict(PAPER.loss).items() if type(v) is float and v}
    assert used.pop("paired_weight") == 1.0  # counts where pairs are given
    assert used == dict.fromkeys(
        (
            "reconstruction_weight",
            "cycle_weight",
            "vsp_weight",
            "adv_weight",
            "latent_adv_weight",
        ),
        1.0,
    )
    assert PAPER.loss.mse_sum and not PAPER.loss.cycle_stop_gradient


def test_ours_starts_at_a_given_map_and_is_well_posed():
    assert OURS.centred and OURS.init == "grown"
    assert OURS.net.linear_adapters and OURS.net.identity_backbone
    assert OURS.loss.vsp == "self" and not OURS.loss.cycle_stop_gradient
    assert OURS.loss.cycle_weight > 0 and OURS.loss.vsp_weight > 0
    assert (
        OURS.adversarial.game == "density" and not GAMES[OURS.adversarial.game].d_loss
    )
    assert OURS.adversarial.latent in ("both", "none")


def test_presets_go_by_their_names_and_are_frozen():
    assert list(PRESETS) == ["paper", "released", "ours"]
    assert all(preset.name == name for name, preset in PRESETS.items())
    with pytest.raises(FrozenInstanceError):
        RELEASED.name = "mine"


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: NetConfig(hidden_dim=0), "NetConfig.hidden_dim = 0"),
        (lambda: NetConfig(norm="rms"), "choose one of batch, layer, none"),
        (lambda: NetConfig(dropout=1.0), r"NetConfig.dropout = 1.0; it must lie"),
        (lambda: AdversarialConfig(game="wgan"), "'wgan'; choose one of least_squares"),
        (lambda: AdversarialConfig(depth=1), "AdversarialConfig.depth = 1"),
        (
            lambda: AdversarialConfig(temperature=0.0),
            "AdversarialConfig.temperature = 0.0",
        ),
        (lambda: AdversarialConfig(temperature=0.02), "kernels underflow"),
        (
            lambda: AdversarialConfig(variance_exponent=(1.0, -1.0)),
            "AdversarialConfig.variance_exponent",
        ),
        (lambda: LossConfig(vsp_rows=1), "LossConfig.vsp_rows = 1"),
        (lambda: OptimConfig(optimizer="sgd"), "choose one of adam, muon"),
        (lambda: replace(OURS, anchor_draws=0), "Preset.anchor_draws = 0"),
        (lambda: replace(OURS, min_delta=-0.1), "Preset.min_delta = -0.1"),
        (
            lambda: replace(OURS, output_transform="all"),
            "Preset.output_transform = 'all'",
        ),
        (
            lambda: replace(RELEASED, output_transform="shared"),
            "Preset.output_transform = 'shared'",
        ),
        (
            lambda: AdversarialConfig(singular_value_exponent=(1.0, -0.1)),
            "AdversarialConfig.singular_value_exponent = ",
        ),
        (lambda: replace(OURS, init="random"), "need an initial map"),
        (lambda: replace(OURS, centred=False, init="random"), "whitening needs"),
        (lambda: AdversarialConfig(r1=-1.0), "AdversarialConfig.r1 = -1.0"),
        (
            lambda: AdversarialConfig(label_smoothing=0.5),
            "AdversarialConfig.label_smoothing = 0.5",
        ),
        (
            lambda: AdversarialConfig(game="hinge", label_smoothing=0.1),
            "'hinge' has no labels",
        ),
        (lambda: LossConfig(cycle_weight=-1.0), "LossConfig.cycle_weight = -1.0"),
        (lambda: LossConfig(input_noise=float("nan")), "LossConfig.input_noise = nan"),
        (lambda: LossConfig(vsp="own"), "choose one of paper, released, self"),
        (lambda: OptimConfig(lr=0.0), "OptimConfig.lr = 0.0; it must be above 0"),
        (lambda: OptimConfig(betas=(0.5, 1.0)), "OptimConfig.betas"),
        (lambda: OptimConfig(batch_size=1), "OptimConfig.batch_size = 1"),
        (lambda: OptimConfig(precision="fp8"), "choose one of no, fp16, bf16"),
        (lambda: replace(RELEASED, init="anchors"), "needs net.linear_adapters"),
        (lambda: replace(OURS, centred=False), "maps of centred rows"),
    ],
)
def test_a_wrong_value_is_named_with_the_mend(make, words):
    with pytest.raises(DataError, match=words):
        make()


OLD = {
    "name": "sound",
    "net": {"latent": 8, "width": 9, "zero_backbone": True, "linear_adapters": True},
    "game": {
        "kind": "hinge", "focus": [0.5, 0.0], "spread": [1, 0], "members": 2,
        "smoothing": 0.0, "width": 7, "latent": "none",
    },
    "loss": {
        "reconstruction": 0.5, "cycle": 2.0, "cycle_detached": False, "vsp": "sound",
        "vsp_reconstruction": 0.25, "output_game": 0.75, "latent_game": 0.0,
        "squared": True, "noise": 0.1,
    },
    "optim": {
        "rule": "muon", "slow": 0.1, "warmup": 3, "batch": 64, "clip": 1.0,
        "ema": 0.9, "coarse": True,
    },
    "centred": True, "whitened": 50.0, "start": "anchors", "margin": 0.5,
    "read_out": "shared",
}  # fmt: skip


def test_a_preset_saved_under_the_old_names_is_read():
    found = from_dict(Preset, OLD)
    net, game, loss, optim = found.net, found.adversarial, found.loss, found.optim
    assert found.name == "ours" and found.init == "anchors" and found.min_delta == 0.5
    assert found.whitening_rows == 50 and found.output_transform == "shared"
    assert (net.latent_dim, net.hidden_dim, net.identity_backbone) == (8, 9, True)
    assert (game.game, game.ensemble_size, game.hidden_dim) == ("hinge", 2, 7)
    assert game.singular_value_exponent == (0.5, 0.0) and game.latent == "none"
    assert game.variance_exponent == (1, 0)
    assert (loss.reconstruction_weight, loss.cycle_weight) == (0.5, 2.0)
    assert (loss.adv_weight, loss.latent_adv_weight, loss.vsp) == (0.75, 0.0, "self")
    assert loss.mse_sum and not loss.cycle_stop_gradient and loss.input_noise == 0.1
    assert loss.vsp_reconstruction_weight == 0.25
    assert (optim.optimizer, optim.slow_lr_scale, optim.warmup_steps) == (
        "muon",
        0.1,
        3,
    )
    assert (optim.batch_size, optim.grad_clip, optim.ema_decay) == (64, 1.0, 0.9)
    assert optim.matmul_precision == "medium" and optim.lr == 2e-5  # missing: default
    old = {"evaluate_every": 7, "save_every": 8, "accumulate": 2}
    assert from_dict(TrainerConfig, old) == TrainerConfig(
        eval_every=7, checkpoint_every=8, grad_accumulation=2
    )


def test_every_old_name_leads_to_a_field():
    kinds = NetConfig, AdversarialConfig, LossConfig, OptimConfig, Preset, TrainerConfig
    known = {field.name for kind in kinds for field in fields(kind)}
    assert set(OLD_FIELDS.values()) <= known | {"trainer"}


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_a_preset_survives_json(preset):
    assert from_dict(Preset, json.loads(json.dumps(asdict(preset)))) == preset


@pytest.mark.parametrize(
    "values, words",
    [
        ([1], r"Preset = \[1\]; give its fields"),
        ({"net": 3}, "NetConfig = 3; give its fields"),
        ({"net": {"hidden_dim": "wide"}}, "NetConfig.hidden_dim = 'wide'"),
        ({"net": {"hidden_dim": True}}, "NetConfig.hidden_dim = True"),
        ({"optim": {"betas": [0.5]}}, r"OptimConfig.betas = \[0.5\]"),
        ({"optim": {"betas": [0.5, "x"]}}, "OptimConfig.betas"),
        ({"optim": {"lr": None}}, "OptimConfig.lr = None"),
        ({"magic": 1}, "Preset has no field 'magic'; known are name, net.*version"),
        ({"adversarial": {"game": "wgan"}}, "'wgan'; choose one of"),
    ],
)
def test_a_malformed_preset_is_one_line(values, words):
    with pytest.raises(ConfigError, match=words):
        from_dict(Preset, values)


def test_a_preset_saved_before_a_field_existed_means_what_it_meant():
    """0.1 knew no spread of batch norm's initial gains: 1 and 0 exactly."""
    saved = json.loads(json.dumps(asdict(RELEASED)))
    del saved["net"]["norm_init_std"]
    assert from_dict(Preset, saved).net == replace(RELEASED.net, norm_init_std=0.0)
    assert from_dict(Preset, json.loads(json.dumps(asdict(PAPER)))) == PAPER


def test_old_preset_names_warn_and_work():
    for old, new in (("printed", PAPER), ("sound", OURS)):
        with pytest.warns(DeprecationWarning, match=f"{old!r} is now {new.name!r}"):
            assert preset_named(old) is new
    with pytest.warns(DeprecationWarning, match="'sound' is now 'ours'"):
        assert vec2vec.SOUND is OURS
    with pytest.warns(DeprecationWarning, match="'printed' is now 'paper'"):
        assert vec2vec.PRINTED is PAPER
    with pytest.raises(AttributeError, match="TELEPATHY"):
        vec2vec.TELEPATHY  # noqa: B018
    with pytest.raises(ConfigError, match="known are paper, released, ours"):
        preset_named("magic")


@pytest.mark.parametrize("kind", [Preset, TrainerConfig])
def test_help_has_a_sentence_of_its_own_for_every_field(kind, capsys):
    """tyro reads the comments above the fields."""
    tyro = pytest.importorskip("tyro")
    with pytest.raises(SystemExit):
        tyro.cli(kind, default=kind(), args=["--help"])
    text = " ".join(re.sub("[│─╭╮╰╯]", " ", capsys.readouterr().out).split())
    parts = re.split(r" (?=--(?![\w.]*no-)[a-z])", text)
    said = [part.partition("(default")[0] for part in parts if "(default" in part]
    said = [re.sub(r"^(--\S+ )+(\S*[A-Z{]\S* )*(?=[A-Z])", "", one) for one in said]
    leaves = [f for f in fields(kind) if not is_dataclass(f.default)]
    nested = [fields(f.default) for f in fields(kind) if is_dataclass(f.default)]
    assert len(said) == len(leaves) + sum(map(len, nested))
    assert all(len(words) > 10 for words in said) and len(set(said)) == len(said), said
