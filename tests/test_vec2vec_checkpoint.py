"""Checkpoints: whole or absent, whatever happens to the process, the disk, the file."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.spaces import DataError
from v2v_lite.vec2vec import checkpoint
from v2v_lite.vec2vec.checkpoint import checkpoints, flat, load, nested

ROOT = Path(__file__).resolve().parent.parent
TREE = {"nets": {"in.a": torch.arange(6.0).view(2, 3)}, "step": torch.tensor(3)}


def save(folder, step, value=0.0):
    tree = {"nets": {"w": torch.full((2, 3), value)}, "adam": {"0": torch.ones(())}}
    return checkpoint.save(folder, step, tree, {"note": f"step {step}"})


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.integers(0, 9).map(torch.tensor),
        lambda kids: st.dictionaries(st.text("a.0", min_size=1), kids, min_size=1),
    ).filter(lambda tree: isinstance(tree, dict))
)
def test_a_flat_tree_becomes_itself_again(tree):
    assert nested(flat(tree)) == tree


def test_what_is_saved_is_loaded(tmp_path):
    path = checkpoint.save(tmp_path, 7, TREE, {"best": [0.5, -1.0]})
    assert path.name == "step-000000007.safetensors"
    tree, header = load(tmp_path)
    assert torch.equal(tree["nets"]["in.a"], TREE["nets"]["in.a"])
    assert tree["step"].dtype == torch.int64 and tree["step"].shape == ()
    assert header["best"] == [0.5, -1.0] and header["step"] == 7


def test_the_two_newest_are_kept(tmp_path):
    for step in (1, 2, 10, 9_999, 10_000):
        save(tmp_path, step)
    names = [p.stem for p in tmp_path.iterdir()]
    assert sorted(names) == ["step-000009999", "step-000010000"]
    assert load(tmp_path)[1]["note"] == "step 10000"


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def altered(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def other_header(path):
    path.write_bytes(path.read_bytes().replace(b"step 2", b"step 3"))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, altered, other_header, empty])
def test_a_damaged_newest_one_is_passed_over_with_a_warning(spoil, tmp_path):
    save(tmp_path, 1, 1.0)
    spoil(save(tmp_path, 2, 2.0))
    with pytest.warns(UserWarning, match="step-000000002.*taking the one before"):
        tree, header = load(tmp_path)
    assert header["step"] == 1 and tree["nets"]["w"].eq(1).all()
    save(tmp_path, 2, 3.0)  # the run comes by again, and puts a whole one in its place
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(tmp_path)[0]["nets"]["w"].eq(3).all()


def test_a_damaged_one_of_a_later_step_does_not_outlive_the_resumed_run(tmp_path):
    save(tmp_path, 1)
    cut(save(tmp_path, 9))
    save(tmp_path, 5)
    assert [p.stem[-1] for p in checkpoints(tmp_path)] == ["1", "5"]


def test_nothing_whole_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there are none"):
        load(tmp_path / "nowhere")
    cut(save(tmp_path, 1))
    with (
        pytest.warns(UserWarning, match="step-000000001"),
        pytest.raises(DataError, match="all 1 are damaged"),
    ):
        load(tmp_path)


def test_another_format_is_an_error_and_not_passed_over(tmp_path, monkeypatch):
    save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", "v2v-checkpoint-9")
        save(tmp_path, 2)
    with pytest.raises(DataError, match="'v2v-checkpoint-9'.*reads.*version"):
        load(tmp_path)


def test_checkpoints_of_the_old_version_name_it(tmp_path):
    (tmp_path / "step-000000001").mkdir()
    (tmp_path / "step-000000001/state.json").write_text("{}")
    with pytest.raises(DataError, match=r"of v2v_lite 0\.1; resume with the version"):
        load(tmp_path)


def test_a_header_against_its_schema(tmp_path):
    checkpoint.save(tmp_path, 1, TREE, {"seeds": [0]})
    checkpoint.save(tmp_path, 2, TREE, {"seeds": "all"})
    with pytest.warns(UserWarning, match="step-000000002.* seeds is 'all'"):
        assert load(tmp_path, {"seeds": list})[1]["seeds"] == [0]


@pytest.mark.parametrize("error", [OSError(28, "No space left"), OSError(13, "no")])
def test_a_full_disk_leaves_the_old_one_whole(error, tmp_path, monkeypatch):
    before = {p: p.read_bytes() for p in [save(tmp_path, 1, 1.0)]}

    def full(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_tensors", full)
        with pytest.raises(DataError, match="cannot be written.*step-000000001"):
            save(tmp_path, 2, 2.0)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert load(tmp_path)[1]["step"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_truly_full_device_is_named(tmp_path, monkeypatch):
    save(tmp_path, 1)
    write = checkpoint.write_tensors

    def to_full_device(path, tensors, header):
        write(path, tensors, header)
        with open("/dev/full", "wb") as device:
            device.write(path.read_bytes())

    monkeypatch.setattr(checkpoint, "write_tensors", to_full_device)
    with pytest.raises(DataError, match="the disk is full"):
        save(tmp_path, 2)
    assert [p.stem for p in tmp_path.iterdir()] == ["step-000000001"]


@pytest.mark.skipif(os.name == "nt", reason="kill of POSIX")
def test_killed_within_a_save_it_leaves_the_old_one_and_litter_that_goes(tmp_path):
    code = """
import os, signal, sys, torch
from v2v_lite.vec2vec import checkpoint
checkpoint.save(sys.argv[1], 1, {"w": torch.ones(3)}, {})
write = checkpoint.write_tensors
def killed(*args):
    write(*args)
    os.kill(os.getpid(), signal.SIGKILL)
checkpoint.write_tensors = killed
checkpoint.save(sys.argv[1], 2, {"w": torch.zeros(3)}, {})
"""
    call = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(call, cwd=ROOT).returncode == -9
    assert len(list(tmp_path.glob(".v2v-*.tmp"))) == 1
    assert load(tmp_path)[0]["w"].eq(1).all()
    save(tmp_path, 3)
    assert not list(tmp_path.glob(".*"))
