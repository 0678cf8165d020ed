"""`v2v train`: any field of a preset, resuming, what it leaves, errors in one line."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("accelerate")
from v2v_lite.spaces import Space, load
from v2v_lite.vec2vec import Trainer
from v2v_lite.vec2vec.checkpoint import load as load_checkpoint
from v2v_lite.vec2vec.state import TrainState

TINY = (
    "--n-train 420 --net.hidden-dim 12 --adversarial.hidden-dim 12 "
    "--adversarial.ensemble-size 1 --adversarial.singular-value-exponent 0 0 "
    "--adversarial.variance-exponent 0 0 --optim.batch-size 32 --optim.steps 12 "
    "--init random --whitening-rows 0 --trainer.log-every 4 --trainer.eval-every 6 "
    "--trainer.checkpoint-every 4"
).split()


@pytest.fixture(autouse=True)
def files(elsewhere):
    """The working directory, with 420 real rows a side and 100 pairs of others."""
    a, b = load("minilm", "eval"), load("wordllama", "eval")
    a.take(slice(420)).save(elsewhere / "a.safetensors")
    b.take(slice(420, 840)).save(elsewhere / "b.safetensors")
    a.take(slice(900, 1000)).save(elsewhere / "true_a.safetensors")
    b.take(slice(900, 1000)).save(elsewhere / "true_b.safetensors")
    return elsewhere


@pytest.fixture
def v2v_train(v2v):
    """`v2v train` on the two files with the options of `TINY`."""
    return partial(v2v, "train", "a.safetensors", "b.safetensors", *TINY)


def test_from_two_files_to_a_score(v2v, v2v_train, capsys):
    v2v_train("--seeds", 2, "--seed", 3, "--json", "--out", "m")
    found = json.loads(capsys.readouterr().out)
    assert found["out"] == "m" and set(found["seeds"]) == {"3", "4"}
    assert found["seeds"][str(found["seed"])] == max(found["seeds"].values())
    assert found["summary"]["max"] == max(found["seeds"].values())
    assert "verdict" in found["diagnosis"] and found["step"] in (0, 6, 12)
    kept = json.loads(Path("m/history.json").read_text())
    assert kept["seeds"] == [3, 4] and kept["history"][1][-1]["step"] == 12

    v2v("translate", "m", "true_a.safetensors", "--out", "t.safetensors")
    rows = Space.load("t.safetensors")
    assert rows.name == "wordllama" and (rows.n, rows.d) == (100, 256)
    capsys.readouterr()
    v2v("score", "t.safetensors", "true_b.safetensors")
    assert "pool 100" in capsys.readouterr().out


def test_every_field_of_a_preset_is_an_option(v2v_train, capsys):
    words = (
        "--preset paper --out m --loss.cycle-weight 0.5 --net.latent-dim 20 "
        "--adversarial.game hinge --optim.betas 0.1 0.2 --net.no-residual "
        "--optim.schedule cosine --centred"
    )
    v2v_train(*words.split())
    assert capsys.readouterr().out.startswith("m: vec2vec paper, seed 0, ")
    preset = load_checkpoint("m/checkpoints", TrainState.HEADER)[1]["preset"]
    assert preset["loss"]["cycle_weight"] == 0.5 and preset["loss"]["mse_sum"]
    assert (
        preset["adversarial"]["game"] == "hinge"
        and preset["adversarial"]["latent"] == "both"
    )
    assert preset["optim"]["betas"] == [0.1, 0.2] and preset["centred"]
    assert preset["optim"]["schedule"] == "cosine" and preset["net"]["latent_dim"] == 20
    assert not preset["net"]["residual"] and preset["net"]["norm"] == "layer"


@pytest.mark.parametrize(
    "preset, value", [("released", "2e-05"), ("ours", "0.3"), ("", "0.3")]
)
def test_help_shows_the_presets_values(v2v, preset, value, capsys):
    words = ["--preset", preset] if preset else []
    v2v("train", *words, "--help-all")
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"Learning rate of the translator. (default: {value})" in told
    assert "SOURCE TARGET" in told and "--trainer.grad-accumulation" in told


def test_help_is_short_and_names_the_way_to_the_rest(v2v, capsys):
    v2v("train", "--help")
    told = capsys.readouterr().out
    assert len(told.splitlines()) <= 80 and "--trainer.grad-accumulation" not in told
    for word in ("--preset", "--resume", "--out", "--optim.steps", "--help-all"):
        assert word in told


def test_a_full_gpu_hands_the_run_to_the_cpu(v2v, v2v_train, capsys, monkeypatch):
    whole = Path("whole/weights.safetensors")
    v2v_train("--out", "whole")
    step, used = Trainer.step, []

    def full(trainer):
        if not used and trainer.state.step == 6:  # after the checkpoint of step 4
            used.append(trainer.state.step)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", full)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")  # what plays the GPU here
    v2v_train("--out", "m")
    assert used and "again on the CPU" in capsys.readouterr().err
    assert Path("m/weights.safetensors").read_bytes() == whole.read_bytes()
    used.clear()
    v2v("train", "a.safetensors", "b.safetensors", *TINY, "--device", "cuda",
        "--out", "n", expect=2)  # fmt: skip
    assert "out of memory; lower --optim.batch-size" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_interrupted_it_says_what_is_saved_and_goes_on(
    v2v, v2v_train, fails, monkeypatch, capsys
):
    step = Trainer.step

    def struck(trainer):
        if trainer.state.step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", struck)
        v2v_train("--out", "m", "--seeds", 2, expect=130)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "SIGTERM after step 7" in line and "m/checkpoints/step-000000007" in line
    assert not Path("m/model.json").exists()
    again = fails("train", "--resume", "m", "--optim.lr", 3)
    assert "optim.lr is 0.3, not 3.0" in again
    v2v("train", "--resume", "m")
    assert "m: vec2vec ours" in capsys.readouterr().out
    v2v_train("--out", "whole", "--seeds", 2)
    for name in ("history.json", "weights.safetensors"):
        assert Path("m", name).read_bytes() == Path("whole", name).read_bytes()
    assert json.loads(Path("m/run.json").read_text())["words"]["seeds"] == 2


def test_a_damaged_checkpoint_is_passed_over(v2v, v2v_train):
    v2v_train("--out", "m")
    before = Path("m/weights.safetensors").read_bytes()
    Path("m/checkpoints/step-000000012.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="step-000000012.*the one before"):
        v2v("train", "--resume", "m")
    assert Path("m/weights.safetensors").read_bytes() == before


def test_runs_are_not_overwritten(v2v_train, fails):
    v2v_train("--out", "m")
    kept = Path("m/run.json").read_text()
    line = fails("train", "a.safetensors", "b.safetensors", "--out", "m", *TINY)
    assert "m holds a run" in line and Path("m/run.json").read_text() == kept
    v2v_train("--out", "m", "--force", "--optim.lr", 0.2)
    preset = json.loads(Path("m/run.json").read_text())["preset"]
    assert preset["optim"]["lr"] == 0.2
    load("minilm", "eval").take(slice(410)).save("a.safetensors")
    assert "not those that the run" in fails("train", "--resume", "m")


def test_input_that_cannot_be_used(fails, monkeypatch):
    both = "train", "a.safetensors", "b.safetensors"
    line = fails(*both, "--preset", "magic")
    assert "'magic'" in line and "paper, released, ours" in line
    assert "batch takes 999" in fails(*both, *TINY, "--optim.batch-size", 999)
    assert "seeds = 0" in fails(*both, *TINY, "--seeds", 0)
    assert "grad_accumulation = 0" in fails(*both, "--trainer.grad-accumulation", 0)
    assert "hidden_dim = -1" in fails(*both, "--net.hidden-dim", -1)
    assert "no such file" in fails("train", "no.npy", "b.safetensors")
    assert "no such file" in fails("train", "--resume", "nowhere")
    Path("lost").mkdir()
    assert "lost: the folder has no run.json" in fails("train", "--resume", "lost")
    assert "linear_adapters" in fails(*both, "--net.no-linear-adapters")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert "v2v_lite[train]" in fails(*both, *TINY)
    assert not list(Path().glob("runs/*/checkpoints"))
