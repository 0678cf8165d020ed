"""Known pairs in a training, and runs that go on on another machine."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import world

pytest.importorskip("accelerate")
from v2v_lite.spaces import DataError, Space, load, unit
from v2v_lite.vec2vec import (
    OURS,
    LossConfig,
    NetConfig,
    OptimConfig,
    Preset,
    Trainer,
    TrainerConfig,
    Vec2Vec,
    train,
)
from v2v_lite.vec2vec.checkpoint import checkpoints
from v2v_lite.vec2vec.initialise import check_same_data, sketch
from v2v_lite.vec2vec.known import known_at, start_from_pairs

RARELY = TrainerConfig(log_every=50, eval_every=400, checkpoint_every=400)
# Nothing but reconstruction: any rotation is as good, and the pairs alone decide.
ALONE = Preset(
    "alone",
    NetConfig(0, 8, linear_adapters=True, identity_backbone=True, norm="none"),
    loss=LossConfig(
        cycle_weight=0, vsp_weight=0, vsp_reconstruction_weight=0, adv_weight=0,
        latent_adv_weight=0, paired_weight=1.0,
    ),
    optim=OptimConfig(lr=0.02, warmup_steps=5, batch_size=32, steps=150),
    centred=True,
)  # fmt: skip


def spheres(n_pairs):
    """Unpaired rows all over a sphere, pairs of rows and their rotations, and fresh."""
    g = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=g))[0]
    x, other, both, fresh = (
        unit(torch.randn(n, 5, generator=g)) for n in (500, 500, n_pairs, 300)
    )
    spaces = {"a": Space.of(x), "b": Space.of(other @ turn)}
    return spaces, {"a": Space.of(both), "b": Space.of(both @ turn)}, fresh, turn


def cosine(model, fresh, turn):
    return (model.translate(fresh) * (fresh @ turn)).sum(1).mean().item()


def test_pairs_decide_a_training_that_nothing_else_decides():
    spaces, pairs, fresh, turn = spheres(40)
    options = {"config": RARELY, "device": "cpu"}
    with_them = train(spaces, ALONE, pairs=pairs, **options).translator()
    assert cosine(with_them, fresh, turn) > 0.9
    wrong = pairs | {"b": pairs["b"].take([*range(1, 40), 0])}
    assert cosine(train(spaces, ALONE, pairs=wrong, **options).translator(), fresh,
                  turn) < 0.5  # fmt: skip
    assert cosine(train(spaces, ALONE, **options).translator(), fresh, turn) < 0.5


def test_the_paired_loss_is_its_formula_and_joins_the_total():
    spaces, pairs, *_ = spheres(7)
    heavy = replace(ALONE, loss=replace(ALONE.loss, paired_weight=3.0))
    made = Trainer(spaces, heavy, seeds=(0, 1), pairs=pairs, device="cpu")
    nets = made.nets
    x, y = (
        unit(pairs[k].vectors - spaces[k].mean).expand(2, -1, -1) for k in ("a", "b")
    )
    forth = 1 - (nets.translate("a", "b", x) * y).sum(2).mean(1)
    back = 1 - (nets.translate("b", "a", y) * x).sum(2).mean(1)
    want = ((forth + back) / 2).detach()
    found = made.step()
    assert torch.allclose(found["paired"], want, atol=1e-6)
    total = found["generator"] - found["reconstruction"]
    assert torch.allclose(total, 3 * want, atol=1e-5)
    bare = Trainer(spaces, heavy, seeds=(0, 1), device="cpu").step()
    assert "paired" not in bare
    assert torch.allclose(bare["generator"], bare["reconstruction"])


def test_all_pairs_take_part_in_turn():
    rows = {"a": torch.arange(10.0)[:, None], "b": -torch.arange(10.0)[:, None]}
    seen = [known_at(rows, step, 4, 2) for step in range(5)]
    assert {x.shape for one in seen for x in one.values()} == {(2, 4, 1)}
    drawn = torch.cat([one["a"][0, :, 0] for one in seen]).tolist()
    assert sorted(drawn) == sorted([*range(10)] * 2)
    assert all(torch.equal(one["a"], -one["b"]) for one in seen)
    assert known_at(rows, 9, 64, 3)["b"].shape == (3, 10, 1)
    assert known_at({}, 9, 64, 3) == {}


def test_a_start_from_anchors_is_joined_with_the_pairs():
    g = torch.Generator().manual_seed(0)
    maps = {("a", "b"): torch.randn(2, 4, 3, generator=g)}
    rows = {k: torch.randn(20, d, generator=g) for k, d in (("a", 4), ("b", 3))}
    found = start_from_pairs(maps, rows, OURS)["a", "b"]
    moment = np.einsum("ki,kj->ij", *(x.double().numpy() for x in rows.values()))
    for one, old in zip(found, maps["a", "b"].double().numpy(), strict=True):
        want = old / np.linalg.norm(old) + moment / np.linalg.norm(moment)
        assert np.allclose(one, want / 2, atol=1e-5)  # 20 pairs, a start's worth
    for preset in (replace(OURS, init="selflearn"), replace(OURS, init="anchors")):
        assert start_from_pairs(maps, {}, preset) is maps
    assert start_from_pairs(maps, rows, replace(OURS, init="selflearn")) is maps


def test_pairs_of_other_spaces_or_numbers_are_refused():
    spaces, pairs, *_ = spheres(6)
    three = dict(zip("abc", [spaces["a"]] * 3, strict=True))
    for some, known in (
        (spaces, {"a": pairs["a"]}),
        (spaces, pairs | {"b": pairs["b"].take(slice(5))}),
        (spaces, {"b": pairs["b"], "a": pairs["a"]}),
        (three, {name: pairs["a"] for name in three}),
    ):
        with pytest.raises(DataError, match="equally many rows of two spaces"):
            Trainer(some, ALONE, pairs=known, device="cpu")


def test_the_method_takes_row_numbers():
    spaces, pairs, fresh, turn = spheres(40)
    x, y = (torch.cat([spaces[k].vectors, pairs[k].vectors]) for k in ("a", "b"))
    known = torch.arange(500, 540)
    model = Vec2Vec(ALONE).fit(x, y, pairs=(known, known))
    assert cosine(model, fresh, turn) > 0.9
    assert cosine(model.fit(x, y), fresh, turn) < 0.5  # which forgets them
    with pytest.raises(DataError, match="source row 540 of 540 rows"):
        model.fit(x, y, pairs=([540], [0]))


# ---- another machine


def rounded(space, seed=0):
    """The same rows as another processor scales them: some last bits are others."""
    up = torch.rand(space.vectors.shape, generator=torch.Generator().manual_seed(seed))
    x = torch.where(up < 0.5, space.vectors, torch.nextafter(
        space.vectors, torch.full((), 9.0)))  # fmt: skip
    return Space(x, space.provenance, mean=space.mean * (1 + 1e-7))


def agree(one, two):
    saved = {}, {"data": json.loads(json.dumps(sketch(one.items()))), "widths": {}}
    try:
        check_same_data(saved, two, sketch(two.items()))
    except DataError:
        return False
    return True


@pytest.fixture(scope="module")
def real():
    return {name: load(name, "eval") for name in ("minilm", "wordllama")}


def test_the_last_bits_do_not_matter_and_rows_do(real):
    other = {name: rounded(space) for name, space in real.items()}
    assert not torch.equal(other["minilm"].vectors, real["minilm"].vectors)
    assert agree(real, real) and agree(real, other) and agree(other, real)
    x = real["minilm"]
    order = torch.arange(x.n)
    order[[7, 9]] = order[[9, 7]]
    lost = torch.arange(x.n)
    lost[4000] = 3999
    for changed in (x.take(order), x.take(lost), x.with_mean(x.mean * 0),
                    x.take(slice(x.n - 1)).with_mean(x.mean)):  # fmt: skip
        assert not agree(real, real | {"minilm": changed})
    assert not agree(real, {"granite": x, "wordllama": real["wordllama"]})
    assert not agree(real, {"minilm": x})


def test_threads_do_not_matter(real):
    before, found = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        found.append(sketch(real.items()))
    torch.set_num_threads(before)
    assert found[0]["shapes"] == found[1]["shapes"]
    assert found[0]["sums"] == pytest.approx(found[1]["sums"], abs=1e-9)


SMALL = replace(ALONE, optim=replace(ALONE.optim, steps=6))
OFTEN = TrainerConfig(log_every=3, eval_every=6, checkpoint_every=3)


def test_a_run_goes_on_where_rows_are_rounded_otherwise(tmp_path):
    spaces = world()
    train(spaces, SMALL, out=tmp_path, config=OFTEN, device="cpu")
    checkpoints(tmp_path / "checkpoints")[-1].unlink()  # as if it were killed
    other = {name: rounded(space) for name, space in spaces.items()}
    again = train(other, out=tmp_path, config=OFTEN, resume=True, device="cpu")
    assert [r["step"] for r in again.history[0] if "score" in r] == [0, 6]
    with pytest.raises(DataError, match="not those that the run"):
        train(world(seed=1), out=tmp_path, resume=True)
    with pytest.raises(DataError, match="not those that the run"):  # nor without pairs
        pairs = {name: space.take(slice(3)) for name, space in spaces.items()}
        train(spaces, out=tmp_path, resume=True, pairs=pairs)


@pytest.mark.parametrize("kept", [None, {}])
def test_a_missing_scaler_is_made_anew(kept, tmp_path, monkeypatch):
    """From a CPU, which has none, to a GPU in half precision."""
    train(world(), SMALL, out=tmp_path, config=OFTEN, device="cpu")
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    seen = []
    prepare = Trainer._prepare

    def with_scaler(self, saved):
        assert "scaler" not in saved[1]
        if kept is not None:
            saved[1]["scaler"] = kept
        monkeypatch.setattr(self.accelerator, "scaler", scaler)
        prepare(self, saved)
        seen.append(self.accelerator.scaler.get_scale())
        monkeypatch.setattr(self.accelerator, "scaler", None)

    monkeypatch.setattr(Trainer, "_prepare", with_scaler)
    train(world(), out=tmp_path, config=OFTEN, resume=True, device="cpu")
    assert seen == [512.0]


def test_a_scaler_of_a_gpu_is_passed_over_on_a_cpu(tmp_path, monkeypatch):
    scaler = torch.amp.GradScaler("cpu", init_scale=512.0)
    header = Trainer.save

    def save(self):
        self.accelerator.scaler = scaler
        header(self)
        self.accelerator.scaler = None

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", save)
        train(world(), SMALL, out=tmp_path, config=OFTEN, device="cpu")
    checkpoints(tmp_path / "checkpoints")[-1].unlink()
    again = train(world(), out=tmp_path, config=OFTEN, resume=True, device="cpu")
    assert again.history[0][-1]["step"] == 6


def test_a_run_on_a_gpu_goes_on_by_the_command_line_without_one(
    v2v, elsewhere, monkeypatch
):
    a, b = load("minilm", "eval"), load("wordllama", "eval")
    a.take(slice(420)).save("a.safetensors")
    b.take(slice(420, 840)).save("b.safetensors")
    a.take(slice(900, 930)).save("pa.safetensors")
    b.take(slice(900, 930)).save("pb.safetensors")
    words = (
        "train a.safetensors b.safetensors --out m --init random --whitening-rows 0 "
        "--adversarial.singular-value-exponent 0 0 --adversarial.variance-exponent 0 0 "
        "--optim.batch-size 32 --optim.steps 4 --trainer.eval-every 4 "
        "--trainer.checkpoint-every 2 --pairs pa.safetensors pb.safetensors"
    )
    v2v(*words.split())
    run = json.loads(Path("m/run.json").read_text())
    assert run["words"]["pairs"] == ["pa.safetensors", "pb.safetensors"]
    run["words"]["device"] = "cuda"
    Path("m/run.json").write_text(json.dumps(run))
    checkpoints("m/checkpoints")[-1].unlink()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    v2v("train", "--resume", "m")
    history = json.loads(Path("m/history.json").read_text())["history"][0]
    assert history[-1]["step"] == 4
    assert any("paired" in record for record in history)
