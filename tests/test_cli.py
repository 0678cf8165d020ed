"""The command line: every command on real rows, every error in one line, exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from v2v_lite.cli import main
from v2v_lite.spaces import Space, load

ROOT = Path(__file__).resolve().parent.parent
pytest.importorskip("v2v_lite.align.diagnosis")
pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """600 real rows a side of disjoint texts, and 300 pairs of others."""
    folder = tmp_path_factory.mktemp("rows")
    a, b = load("minilm", "eval"), load("wordllama", "eval")
    parts = {
        "source": a.take(slice(600)),
        "target": b.take(slice(600, 1200)),
        "true_source": a.take(slice(1200, 1500)),
        "true_target": b.take(slice(1200, 1500)),
    }
    for name, space in parts.items():
        space.save(folder / f"{name}.safetensors")
    np.save(folder / "source.npy", parts["source"].vectors.numpy())
    np.save(folder / "target.npy", parts["target"].vectors.numpy())
    return folder


def subprocess_v2v(*words, **options):
    call = [sys.executable, "-m", "v2v_lite", *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(call, capture_output=True, text=True, env=env, **options)


# ---- words


def test_help_lists_the_commands_and_does_not_import_torch():
    code = (
        "import sys; from v2v_lite.cli import main\n"
        "for words in (['--help'], ['align', '--help'], ['demo', '--help']):\n"
        "    print(main(words), 'torch' in sys.modules)"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.count("0 False\n") == 3, done.stdout + done.stderr
    names = "demo align train translate score diagnose rehearse gate attack defend "
    names += "encode data doctor"
    assert all(name in done.stdout for name in names.split())


@pytest.mark.parametrize(
    "words, why",
    [
        ((), "Expected one of {demo, align"),
        (("alig",), "Unrecognized options: alig; see `v2v --help`"),
        (("align", "minilm"), "TARGET"),
        (
            ("attack",),
            "inversion, questionnaire, fingerprint}; see `v2v attack --help`",
        ),
        (("attack", "inversion"), "VECTORS"),
        (("attack", "attributes", "a", "--translator", "m"), "'translator'."),
        (("align", "a", "b", "--methode", "x"), "perhaps --method; see `v2v align"),
        (
            ("align", "a", "b", "--method", "magic"),
            "no method 'magic'; choose consensus, emd",
        ),
        (("align", "a", "b", "--seeds", "two"), "--seeds: invalid literal"),
        (("align", "a", "b", "--out"), "'--out'. Expected 1 values; see `v2v align"),
        (("align", "a", "b", "--out", ""), "empty"),
        (("align", "a", "b", "--out="), "empty"),
        (("train", "a", "b", "--net.norms", "3"), "perhaps --net.norm; see `v2v train"),
        (("train", "a", "b", "--net.hidden-dim", "-1"), "hidden_dim = -1"),
        (("bench", "align"), "make bench NAME="),
        (("diagnose", "m", "a", "b", "--rivals", "n"), "is now --other-seeds"),
        (("defend", "minilm", "--kind", "stretch"), "'stretch' is now 'scale'"),
    ],
)
def test_wrong_words_are_one_line(v2v, words, why, capsys):
    v2v(*words, expect=2)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("v2v: ") and err.count("\n") == 1
    assert why in err and "__" not in err


def test_each_command_has_help(v2v, capsys):
    for words in ("demo", "align", "data make", "data show", "attack inversion",
                  "attack attributes", "defend", "doctor"):  # fmt: skip
        v2v(*words.split(), "--help")
        out, err = capsys.readouterr()
        assert "--json" in out and not err
    assert "SOURCE TARGET" in subprocess_v2v("align", "--help").stdout


def test_help_names_all_that_the_library_has(v2v, capsys):
    from v2v_lite.align import METHODS
    from v2v_lite.privacy import DEFENCES

    # A linear map that is given is not learned.
    ours = {n for n in METHODS if METHODS[n].__module__.startswith("v2v_lite")}
    unpaired = {n for n in ours if not METHODS[n].paired and n != "linear"}
    for command, names in ("align", unpaired), ("defend", set(DEFENCES)):
        v2v(command, "--help")
        words = capsys.readouterr().out.replace("│", " ").replace("(", " ").split()
        assert names <= {word.strip(".,()") for word in words}


# ---- align, translate, score, diagnose


def test_from_two_files_to_a_score(v2v, files, tmp_path, capsys):
    out = tmp_path / "model"
    call = ("align", files / "source.safetensors", files / "target.safetensors")
    v2v(*call, "--out", out, "--method", "random", "--seeds", 2, "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["source"] == "minilm" and set(found["seeds"]) == {"0", "1"}
    best = max(found["seeds"].values(), key=lambda d: d["score"])
    assert found["diagnosis"] == best == found["seeds"][str(found["seed"])]
    assert json.loads((out / "diagnosis.json").read_text())["seed"] == found["seed"]

    rows = tmp_path / "t.safetensors"
    v2v("translate", out, files / "true_source.safetensors", "--out", rows)
    space = Space.load(rows)
    assert space.name == "wordllama" and len(space) == 300
    assert "minilm" in space.provenance.note and space.ids is not None

    capsys.readouterr()
    v2v("score", rows, files / "true_target.safetensors", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["pool"] == 300 and 100 < found["rank"]["mean"] < 200
    v2v("score", rows, files / "true_target.safetensors")
    assert "pool 300" in capsys.readouterr().out

    both = files / "source.safetensors", files / "target.safetensors"
    v2v("diagnose", out, *both, "--other-seeds", out, "--json")
    found = json.loads(capsys.readouterr().out)  # of 60 rows a side
    assert found["verdict"] == "undecided" and found["score"] < found["chance"]


def test_npy_in_and_out(v2v, files, tmp_path, capsys):
    both = files / "source.npy", files / "target.npy"
    v2v("align", *both, "--method", "identity")
    out, err = capsys.readouterr()
    assert "runs/source-target" in Path(out.split(":")[0]).as_posix()
    assert "no ids" in err
    v2v("translate", "runs/source-target", files / "source.npy", "--out", "t.npy")
    rows = np.load("t.npy")
    assert rows.shape == (600, 256) and rows.dtype == np.float32
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_bundled_names_are_split_without_leak(v2v, capsys):
    v2v("align", "minilm", "wordllama", "--method", "mean", "--n-train", 500)
    err = capsys.readouterr().err
    assert "500 go to the source and 500 others to the target" in err
    v2v(
        "translate",
        "runs/minilm-wordllama",
        "minilm",
        "--part",
        "eval",
        "--out",
        "t.npy",
    )
    assert np.load("t.npy").shape == (4096, 256)


def test_ours_runs_from_files(v2v, files, monkeypatch, capsys):
    from v2v_lite.align.anchors import AnchorConfig
    from v2v_lite.align.selflearn import Phase, SelfLearn, SelfLearnConfig

    few = AnchorConfig(n_runs=4, n_clusters=8, n_init=3, n_restarts=2)
    small = SelfLearnConfig(few, phases=(Phase(2, 256, 0.05, 1.0, 0.0),))
    monkeypatch.setattr("v2v_lite.align.SelfLearnConfig", lambda **_: small)
    both = files / "source.safetensors", files / "target.safetensors"
    v2v("align", *both, "--out", "m")
    out = capsys.readouterr().out.strip().splitlines()
    assert out[0] == "m: selflearn, seed 0" and len(out) == 2
    assert SelfLearn.load("m").history


# ---- errors


def test_results_of_another_pair_are_kept(v2v, fails, files):
    pair = files / "source.safetensors", files / "target.safetensors"
    v2v("align", *pair, "--out", "m", "--method", "random")
    v2v("align", *pair, "--out", "m", "--method", "mean")  # the same pair anew
    before = Path("m/weights.safetensors").read_bytes()
    line = fails("align", *pair[::-1], "--out", "m", "--method", "mean")
    assert "m holds a translator from minilm to wordllama" in line and "--force" in line
    assert Path("m/weights.safetensors").read_bytes() == before
    v2v("align", *pair[::-1], "--out", "m", "--method", "mean", "--force")
    assert json.loads(Path("m/model.json").read_text())["source"] == "wordllama"
    bare = files / "source.npy", files / "target.npy"  # which name no encoder
    v2v("align", *bare, "--out", "n", "--method", "mean")
    assert "n holds a" in fails("align", *bare[::-1], "--out", "n", "--method", "mean")


def test_the_input_is_not_overwritten(v2v, fails, files):
    rows = Path("rows.safetensors")
    rows.write_bytes((files / "source.safetensors").read_bytes())
    target = files / "target.safetensors"
    v2v("align", rows, target, "--out", "m", "--method", "mean")
    before = rows.read_bytes()
    for words in (
        ("translate", "m", rows, "--out", "./rows.safetensors"),
        ("defend", rows, "--out", rows.absolute()),
        ("align", rows, target, "--out", rows),
    ):
        line = fails(*words)
        assert "rows.safetensors" in line and "--out" in line
    assert rows.read_bytes() == before


def test_a_failed_diagnosis_leaves_no_older_one(v2v, files, monkeypatch):
    from v2v_lite.cli import align

    call = ("align", files / "source.npy", files / "target.npy", "--out", "m")
    v2v(*call, "--method", "random")
    assert Path("m/diagnosis.json").exists()

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(align, "best_of", stopped)
    v2v(*call, "--method", "mean", expect=130)
    assert json.loads(Path("m/model.json").read_text())["method"] == "mean"
    assert not Path("m/diagnosis.json").exists()


def test_a_name_out_of_a_file_makes_no_folder(v2v, files):
    wild = load("wordllama", "eval").take(slice(600, 1200))
    about = replace(wild.provenance, encoder="../../esc/x")
    Space(wild.vectors, about).save("wild.safetensors")
    shutil.copy(files / "source.npy", "s.npy")
    v2v("align", "s.npy", "wild.safetensors", "--method", "mean", "--out", "in/m")
    v2v("translate", "in/m", "s.npy")
    assert len(list(Path().glob("s.npy.*.safetensors"))) == 1
    assert not list(Path().parent.rglob("esc"))


def test_unknown_names_list_the_known(fails, files):
    line = fails("align", "minilm", "gpt")
    assert "gpt" in line and "minilm, granite, arctic, wordllama" in line
    Path("t.txt").write_text("one\ntwo\n")
    line = fails("encode", "t.txt", "--encoder", "gpt")
    assert "gpt" in line and "wordllama" in line


def test_bad_rows_are_named(fails, files, tmp_path):
    rows = np.load(files / "source.npy")
    rows[[3, 7]] = np.nan
    np.save("bad.npy", rows)
    line = fails("align", "bad.npy", files / "target.npy")
    assert "rows 3, 7" in line and "NaN" in line
    whole = (files / "source.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-100])
    assert "cut short" in fails("align", "cut.safetensors", "granite")
    np.save("thin.npy", np.ones((600, 1), np.float32))
    assert "d = 1" in fails("align", "thin.npy", "granite")


def test_files_that_are_not_there(fails, files):
    assert "no such file" in fails("align", "no.npy", files / "target.npy")
    line = fails("translate", "nowhere", files / "source.npy")
    assert "nowhere" in line and "no such file" in line
    assert "no such file" in fails("encode", "no.txt")
    Path("part").mkdir()
    Path("part/weights.safetensors").write_bytes(b"")
    line = fails("translate", "part", files / "source.npy")
    assert "part: the folder has no model.json; copy all of it again" in line
    line = fails("data", "show", "--folder", "part")
    assert "part: the folder has no manifest.json" in line
    Path("file").write_text("here")
    both = files / "source.npy", files / "target.npy"
    assert "a file has this name" in fails("align", *both, "--out", "file")


def test_overlapping_texts_are_refused(fails, files):
    load("wordllama", "eval").take(slice(500, 900)).save("near.safetensors")
    line = fails("align", files / "source.safetensors", "near.safetensors")
    assert "100 texts" in line


def test_rows_of_other_texts_or_spaces_are_not_scored(fails, files):
    pair = files / "source.safetensors", files / "target.safetensors"
    assert "not of the same texts" in fails("score", *pair)
    pair = files / "true_source.safetensors", files / "true_target.safetensors"
    assert "different spaces" in fails("score", *pair)


def test_wrong_numbers(v2v, fails, files, capsys):
    both = files / "source.npy", files / "target.npy"
    assert "seeds = 0" in fails("align", *both, "--seeds", 0)
    assert "n_train = -1" in fails("align", *both, "--n-train", -1)
    assert "device" in fails("align", *both, "--device", "abacus")
    assert "seeds = 0" in fails("demo", "--seeds", 0)
    v2v("align", *both, "--method", "random", "--out", "m")
    capsys.readouterr()
    line = fails("translate", "m", files / "source.npy", "--out", "t.txt")
    assert "t.txt" in line and not Path("t.txt").exists()


def test_debug_shows_the_traceback():
    from v2v_lite.spaces import DataError

    with pytest.raises(DataError):
        main(["align", "minilm", "gpt", "--debug"])


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr("v2v_lite.spaces.resolve_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["align", "minilm", "gpt"])


# ---- interrupts


def test_an_interrupted_save_leaves_the_old_translator(v2v, files, monkeypatch, capsys):
    from v2v_lite.align import Translator

    call = ("align", files / "source.npy", files / "target.npy", "--out", "m")
    v2v(*call, "--method", "random")
    before = {p.name: p.read_bytes() for p in Path("m").iterdir()}

    def interrupted(path, tensors, about):
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("v2v_lite.spaces.headers.write_tensors", interrupted)
    v2v(*call, "--method", "identity", expect=130)
    assert "interrupted" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in Path("m").iterdir()} == before
    assert Translator.load("m").name == "random"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_in_130_without_a_traceback(tmp_path):
    call = [sys.executable, "-m", "v2v_lite", "align", "minilm", "granite"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    # A shell's background job ignores SIGINT, and its children inherit that.
    process = subprocess.Popen(
        call, stderr=subprocess.PIPE, cwd=tmp_path, env=env,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    os.set_blocking(process.stderr.fileno(), False)
    said, end = b"", time.monotonic() + 60
    while b"selflearn" not in said and time.monotonic() < end:
        time.sleep(0.1)
        said += process.stderr.read() or b""
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    said += process.stderr.read() or b""
    process.stderr.close()
    assert b"interrupted" in said and b"Traceback" not in said
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_closed_pipe_is_no_error():
    call = f'"{sys.executable}" -m v2v_lite data show | true'
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(call, shell=True, capture_output=True, text=True, env=env)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


# ---- texts


def test_encode_and_make_a_set(v2v, fails, capsys):
    pytest.importorskip("wordllama")
    texts = [f"the {noun} number {i}" for i in range(20) for noun in ("cat", "river")]
    Path("t.txt").write_text("\n".join(texts) + "\n")
    v2v("encode", "t.txt", "--encoder", "wordllama", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 40 and Space.load(found["out"]).name == "wordllama"
    v2v("data", "make", "t.txt", "--encoders", "wordllama", "--out", "d", "--n-eval", 8)
    assert load("wordllama", "eval", dataset="texts", folder="d").n == 8
    assert "40 texts" in capsys.readouterr().out
    v2v("data", "show", "--folder", "d")
    assert "verified" in capsys.readouterr().out
    Path("d/texts/wordllama.safetensors").write_bytes(b"cut")
    assert "altered" in fails("data", "show", "--folder", "d")


# ---- demo and doctor


def test_demo_writes_table_and_picture(v2v, monkeypatch, capsys):
    from v2v_lite.teaching import comparison

    fast = {"mini": "random", "selflearn": "mean", "mlp": "ridge"}
    measure = comparison.measure
    monkeypatch.setattr(
        comparison, "measure", lambda name, *rest: measure(fast.get(name, name), *rest)
    )
    v2v("demo", "--target", "wordllama", "--n-train", 700, "--out", "d", "--json")
    found = json.loads(capsys.readouterr().out)
    assert list(found["methods"]) == list(comparison.KINDS)
    assert found["methods"]["procrustes"]["top1"]["median"] > 0.4
    assert found["methods"]["random"]["pool"] == 4096
    assert found["methods"]["selflearn"]["seeds"] == 2
    assert "verdict" in found["diagnosis"] and "torch" in found["circumstances"]
    assert json.loads(Path("d/demo.json").read_text())["n_train"] == 700
    assert Path("d/demo.png").read_bytes().startswith(b"\x89PNG")
    assert Path("d/demo.png").stat().st_size < 100_000


def test_doctor_reports(v2v, monkeypatch, tmp_path, capsys):
    v2v("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["broken"] == [] and "verified" in found["data"]["minilm"]
    assert found["packages"]["torch"] and "minilm" in found["encoders"]
    monkeypatch.setenv("V2V_DATA", str(tmp_path))
    assert main(["doctor"]) == 1
    assert "V2V_DATA" in capsys.readouterr().out
