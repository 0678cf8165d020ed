"""vec2vec as a translator: its formula, one seed and pair of many, saved and loaded."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")
from problems import world
from test_vec2vec_trainer import FULL, OFTEN, PLAIN, quietly, steps

from v2v_lite.align import METHODS, Translator
from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import trainer
from v2v_lite.vec2vec import translator as module
from v2v_lite.vec2vec.result import single_seed
from v2v_lite.vec2vec.translator import Vec2Vec

ROOT = Path(__file__).resolve().parent.parent


def some(preset=FULL, pair=("a", "b"), k=1, **options):
    """The translator of one of two seeds after two steps, and the run."""
    engine = quietly(preset, seeds=(4, 5), **options)
    for _ in range(2):
        engine.step()
    return engine.translator(engine.state.networks.nets, k, *pair), engine


def test_a_translation_is_the_nets_of_its_seed():
    model, engine = some()
    rows = world()["a"].vectors[:30]
    nets = engine.state.networks.nets.eval()
    wanted = nets.translate("a", "b", rows.expand(2, -1, -1))
    assert torch.allclose(model.translate(rows), wanted[1], atol=1e-6)
    assert not torch.allclose(wanted[0], wanted[1], atol=1e-3)
    assert (model.source_name, model.target_name, model.seed) == ("a", "b", 5)


def test_a_centred_translation_is_its_formula():
    spaces = world()
    model, engine = some(replace(FULL, centred=True), spaces=spaces)
    a, b = spaces["a"], spaces["b"]
    x = a.vectors[:30].double() - a.mean.double()
    x = (x / x.norm(dim=1, keepdim=True)).float()
    nets = engine.state.networks.nets.eval()
    core = nets.translate("a", "b", x.expand(2, -1, -1))[1].double()
    far = torch.tensor([(row - b.mean).norm().item() for row in b.vectors]).mean()
    wanted = b.mean.double() + far.item() * core
    wanted = wanted / wanted.norm(dim=1, keepdim=True)
    found = model.translate(a.vectors[:30])
    assert torch.allclose(found.double(), wanted, atol=1e-5)


@pytest.mark.parametrize("centred", [False, True])
def test_rows_one_by_one_are_the_batch(centred):
    model, _ = some(replace(FULL, centred=centred))
    rows = world()["a"].vectors[:20]
    alone = torch.cat([model.translate(row[None]) for row in rows])
    torch.testing.assert_close(alone, model.translate(rows), atol=1e-6, rtol=0)
    torch.testing.assert_close(alone.norm(dim=1), torch.ones(20))


def test_training_on_does_not_touch_it():
    model, engine = some()
    rows = world()["a"].vectors[:5]
    before = model.translate(rows)
    engine.step()
    assert torch.equal(model.translate(rows), before)


def test_two_of_three_spaces_keep_the_latent_of_three():
    net = replace(PLAIN.net, latent_dim=0)
    spaces = world(widths=(9, 6, 5), names="abc")
    model, engine = some(replace(PLAIN, net=net), ("c", "b"), spaces=spaces)
    assert model.nets.latent_dim == 9 and model.nets.names == ("source", "target")
    rows = spaces["c"].vectors[:8]
    nets = engine.state.networks.nets
    for k in (0, 1):
        found = single_seed(nets, k, ("c", "b")).translate(
            "source", "target", rows[None]
        )
        wanted = nets.translate("c", "b", rows.expand(2, -1, -1))[k]
        assert torch.allclose(found[0], wanted, atol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
def test_saved_and_loaded_it_is_the_same(centred, tmp_path):
    model, _ = some(replace(FULL, centred=centred))
    model.save(tmp_path)
    again = Translator.load(tmp_path)
    assert type(again) is Vec2Vec and again.widths == (8, 6) and again.seed == 5
    rows = world(seed=3)["a"]
    assert torch.equal(again.translate(rows), model.translate(rows))
    assert not any(w.requires_grad for w in again.nets.parameters())


def test_align_knows_it_without_importing_it(tmp_path):
    some()[0].save(tmp_path)
    code = (
        "import sys; from v2v_lite.align import METHODS, Translator\n"
        "import v2v_lite.align.selflearn, v2v_lite.align.diagnosis\n"
        "assert 'vec2vec' in METHODS and 'v2v_lite.vec2vec' not in sys.modules\n"
        "assert 'accelerate' not in sys.modules\n"
        "print(type(Translator.load(sys.argv[1])).__name__, METHODS['vec2vec'].paired)"
        "\nassert 'accelerate' not in sys.modules"
    )
    call = [sys.executable, "-c", code, str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "Vec2Vec False", done.stderr


def test_fit_trains_and_takes_the_best_seed(monkeypatch):
    real = trainer.train
    monkeypatch.setattr(module, "train", lambda *a, **k: real(*a, config=OFTEN, **k))
    spaces = world()
    model = METHODS["vec2vec"](steps(PLAIN, 6), seeds=2)
    assert model.fit(spaces["a"], spaces["b"], seed=7) is model
    (stage,) = model.history
    assert stage.name == "train" and 0 <= stage.objective <= 1
    best = stage.detail["seed"]
    found = real(
        {"x": spaces["a"], "y": spaces["b"]}, steps(PLAIN, 6), seeds=2, seed=7,
        config=OFTEN,
    )  # fmt: skip
    assert best == found.seeds[found.best] and model.seed == 7
    rows = spaces["a"].take(slice(9))
    wanted = found.translator().translate(rows)
    assert torch.equal(model.translate(rows), wanted)


def test_too_few_rows_and_other_encoders_are_refused():
    small = world(n=300)
    with pytest.raises(DataError, match="300 rows.*needs 400"):
        Vec2Vec(PLAIN).fit(small["a"], small["b"])
    model, _ = some()
    with pytest.raises(DataError, match="rows of b were given"):
        model.translate(world()["b"])
    with pytest.raises(DataError, match="5-d.*8-d"):
        model.translate(torch.ones(2, 5))
    with pytest.raises(DataError, match="not fitted"):
        module.Vec2Vec().translate(torch.ones(2, 5))


def test_a_whitened_translation_comes_back_half_unwhitened(tmp_path):
    model, engine = some(replace(FULL, centred=True, whitening_rows=20.0))
    spaces = world()
    rows = spaces["a"].vectors[:30]
    seen = engine.stats["a"].transform(rows)
    y = model.nets.translate("source", "target", seen[None])[0]
    white = engine.stats["b"].whitening.double()
    values, axes = torch.linalg.eigh(torch.linalg.inv(white))
    y = (y.double() @ (axes * values.sqrt()) @ axes.T).float()
    y = spaces["b"].mean + model.target.radius * y / y.norm(dim=1, keepdim=True)
    want = y / y.norm(dim=1, keepdim=True)
    assert torch.allclose(model.translate(rows), want, atol=1e-5)
    model.save(tmp_path)
    assert torch.equal(Translator.load(tmp_path).translate(rows), model.translate(rows))
    # As a version without an output matrix saved it.
    model.target = replace(model.target, output_matrix=None)
    model.save(tmp_path / "old")
    with pytest.raises(DataError, match="without an output matrix; train"):
        Translator.load(tmp_path / "old")
