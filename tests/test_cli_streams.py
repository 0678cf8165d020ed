"""stdout carries the result alone, whatever becomes of stderr; and who is missing."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from v2v_lite.align import METHODS
from v2v_lite.cli import base, doctor, main

ROOT = Path(__file__).resolve().parent.parent
NARROW = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
          "PYTHONIOENCODING": "ascii:strict"}  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Rows of two spaces, and a translator between them."""
    folder = tmp_path_factory.mktemp("files")
    a, b = np.random.default_rng(0).normal(size=(2, 600, 8)).astype(np.float32)
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    np.save(folder / "a.npy", a)
    np.save(folder / "b.npy", b)
    METHODS["mean"]().fit(a, b).save(folder / "m")
    return folder


@pytest.fixture(autouse=True)
def elsewhere(files, tmp_path, monkeypatch):
    """Each test has the files in a working directory of its own."""
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def shell(line, **env):
    """A shell's command with `v2v` in it; the exit code is the program's own."""
    line = line.replace("v2v", f'"{sys.executable}" -m v2v_lite', 1)
    env = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    return subprocess.run(line, shell=True, capture_output=True, env=env)


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_closed_and_full_streams(redirection):
    done = shell(f"v2v translate m a.npy --out t.npy --json {redirection}")
    assert done.returncode == 0 and len(np.load("t.npy")) == 600
    if ">&- 2>&-" in redirection:
        assert done.stdout == done.stderr == b""
    else:
        assert json.loads(done.stdout)["rows"] == 600


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_an_error_with_closed_streams_keeps_its_exit_code():
    done = shell("v2v align a --json >&- 2>&-")
    assert done.returncode == 2 and done.stdout == done.stderr == b""


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full")
def test_a_full_disk_for_stdout_is_one_line():
    done = shell("v2v translate m a.npy --json --out t.npy >/dev/full")
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1
    assert done.stderr.startswith(b"v2v: ") and b"space" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
def test_a_narrow_locale():
    for words in ("--help", "train --help"):
        done = shell(f"v2v {words}", **NARROW)
        assert done.returncode == 0 and b"usage: v2v" in done.stdout and not done.stderr
        assert done.stdout.isascii()
    out = Path("später.safetensors")
    call = ["v2v_lite", "translate", "m", "a.npy", "--json", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", *call], capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii:strict"},
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.isascii() and out.is_file()
    assert json.loads(done.stdout)["out"] == str(out)


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_readers_that_have_left():
    done = shell("v2v data show | true")
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    done = shell("(v2v translate m a.npy --json --out t.npy 2>&3) 3>&1 >o.json | true")
    assert json.loads(Path("o.json").read_text())["rows"] == 600


@pytest.mark.parametrize("closed", [True, False])
def test_a_script_without_stderr(closed, monkeypatch):
    out, err = io.StringIO(), io.StringIO() if closed else None
    if err:
        err.close()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(["translate", "m", "a.npy", "--json"]) == 0
    assert json.loads(out.getvalue())["rows"] == 600
    assert main(["translate", "m", "missing.npy"]) == 2
    assert sys.stdout is out and sys.stderr is err


def test_what_others_print_is_not_in_the_json(monkeypatch, capsys):
    from v2v_lite.align import Translator

    load = Translator.load
    monkeypatch.setattr(
        Translator, "load", lambda folder: print("noise") or load(folder)
    )
    capsys.readouterr()
    assert main(["translate", "m", "a.npy", "--json", "--out", "t.npy"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == 600 and "noise" in err


def test_a_log_holds_no_progress_bars(monkeypatch, capsys):
    asked = []
    fit = METHODS["mean"].fit
    monkeypatch.setattr(
        METHODS["mean"], "fit",
        lambda *rows, progress, **more: asked.append(progress) or fit(*rows, **more),
    )  # fmt: skip
    assert not base.interactive()
    for terminal in (False, True):
        monkeypatch.setattr(base, "interactive", lambda terminal=terminal: terminal)
        assert main(["align", "a.npy", "b.npy", "--method", "mean"]) == 0
    assert asked == [False, True]
    assert "fitting mean, seed 0\n" in capsys.readouterr().err


def test_numbers_for_json():
    values = {"a": [float("nan"), 1 / 3], 2: (Path("x/y"), None, float("-inf"), 5)}
    assert base.to_jsonable(values) == {
        "a": [None, 0.333333], "2": [str(Path("x/y")), None, None, 5],
    }  # fmt: skip


# ---- packages


@pytest.mark.parametrize(
    "module, command",
    [
        ("ot.gromov", "pip install 'v2v_lite[course]'"),
        ("sentence_transformers", "pip install 'v2v_lite[text]'"),
        ("accelerate", "pip install 'v2v_lite[train]'"),
        ("sklearn", "pip install 'v2v_lite[course]'"),
        ("somebody.elses", "pip install somebody"),
    ],
)
def test_advice_names_the_extra_of_the_package(module, command):
    assert doctor.advice(module) == command


def test_a_missing_core_package_names_all_that_are_missing(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: None)
    assert doctor.advice("scipy.linalg").startswith("pip install ")
    assert {"torch", "scipy", "tyro"} <= set(doctor.advice("scipy").split())


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ot", None)
    assert main(["align", "a.npy", "b.npy", "--method", "gw"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("v2v: ") and "v2v_lite[course]" in line


def test_doctor_knows_every_package_of_every_extra(monkeypatch, capsys):
    gone = {"accelerate", "pot", "scikit-learn", "tensorboard", "scipy"}
    version = doctor.version
    monkeypatch.setattr(
        doctor, "version", lambda name: None if name in gone else version(name)
    )
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert gone <= set(found["packages"]) and "scipy; `pip" in found["broken"][0]
    table = doctor.requirements()
    assert {name for names in table.values() for name in names} == set(
        found["packages"]
    )
    named = " ".join(found["missing"])
    assert all(name in named for name in gone - {"scipy"})
    assert (
        "accelerate, tensorboard (optional); `pip install 'v2v_lite[train]'`" in named
    )
