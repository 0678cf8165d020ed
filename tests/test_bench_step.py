"""The experiment `step`: it lists the products that a step must make."""

from dataclasses import replace

import pytest
import torch

pytest.importorskip("accelerate")
from experiments import run, step
from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import RELEASED

SMALL = replace(
    RELEASED,
    net=replace(RELEASED.net, latent_dim=20, hidden_dim=24),
    adversarial=replace(RELEASED.adversarial, hidden_dim=28),
)
BATCH, WIDTH = 16, 12


def layers(module):
    return [w.shape[1] * w.shape[2] for w in module.parameters() if w.ndim == 3
            and w.shape[1] > 1]  # fmt: skip


@pytest.mark.parametrize("seeds", [1, 2])
def test_every_product_is_found_and_none_twice(seeds):
    engine = step.engine(SMALL, WIDTH, seeds, BATCH)
    found = step.products(engine)
    networks = engine.state.networks
    nets = networks.nets
    encode = [layers(nets.inputs[0]), layers(nets.backbone)]
    decode = layers(nets.outputs[0])
    judges = [layers(d) for d in networks.discriminators()]
    first = encode[0][0]
    passes = 4 * sum(map(sum, encode)) + 6 * sum(decode)
    forward = passes + 3 * sum(map(sum, judges))  # two groups to learn, one to judge
    # Rows are data, and cycles start from detached rows: no gradient goes there.
    inputs = passes - 4 * first + sum(map(sum, judges))
    inputs += 2 * sum(sum(judge[1:]) for judge in judges)
    weights = passes + 2 * sum(map(sum, judges))
    want = {"forward": forward, "input gradient": inputs, "weight gradient": weights}
    for role, total in want.items():
        flops = sum(p.flops for p in found if p.role == role)
        assert flops == 2 * BATCH * seeds * total, role
    # Rows with rows: 2 of the batch, 2 of each of 4 rebuilt or returned, and gradients.
    grams = [p for p in found if p.role == "gram"]
    assert sum(p.flops for p in grams) == 2 * BATCH**2 * WIDTH * seeds * (10 + 12)


def test_the_same_products_are_made_again():
    engine = step.engine(SMALL, WIDTH, 1, BATCH)
    found = step.products(engine)
    again = step.replay(found, torch.device("cpu"))
    with step.Recorder([]) as recorder:
        again()
    assert [p.flops for p in recorder.found] == [p.flops for p in found]
    assert [p.dtype for p in recorder.found] == [torch.float32] * len(found)


def test_a_measured_step_is_told():
    found = step.measure_step(SMALL, WIDTH, 1, BATCH, repeats=2)
    assert found["ratio"] == found["seconds"]["step"] / found["seconds"]["products"]
    assert sum(p["gflop"] for p in found["products"]) == pytest.approx(found["gflop"])
    assert "seed-steps/s" in step.line(found) and found["device"] == "cpu"
    with pytest.raises(DataError, match="repeats = 0"):
        step.measure_step(SMALL, repeats=0)


def test_on_the_command_line(tmp_path, capsys):
    words = f"step --quick --work {tmp_path} --set preset=ours --set repeats=1".split()
    assert run.main(words) == 0
    out = capsys.readouterr().out
    assert "weight gradient" in out and "ours, 1 seeds, cpu" in out
    assert (tmp_path / "quick" / "result" / "step.json").is_file()
    assert run.main([*words, "--set", "preset=magic"]) == 2
    assert "no preset 'magic'" in capsys.readouterr().err


@pytest.mark.gpu
def test_on_a_gpu_products_are_in_half_precision():
    engine = step.engine(SMALL, WIDTH, 1, BATCH, "cuda", "bf16")
    found = step.products(engine)
    roles = {p.role for p in found if p.dtype == torch.bfloat16}
    assert roles == {"forward", "input gradient", "weight gradient"}
