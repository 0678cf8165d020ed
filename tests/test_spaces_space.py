"""A Space keeps its rows, mean, ids and provenance, in memory and on disk."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import v2v_lite.spaces.space as module
from v2v_lite.spaces import DataError, Provenance, Space, text_ids, texts_sha256


def make(n=6, d=4, seed=0, encoder="toy", **more):
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return Space.of(rows, encoder, [f"text {seed} {i}" for i in range(n)], **more)


def test_of_scales_and_fingerprints():
    space = make(licence="MIT", about="invented")
    texts = [f"text 0 {i}" for i in range(6)]
    assert (len(space), space.n, space.d, space.name) == (6, 6, 4, "toy")
    assert torch.equal(space.ids, text_ids(texts))
    assert space.provenance.texts_sha256 == texts_sha256(texts)
    assert (space.provenance.licence, space.provenance.texts) == ("MIT", "invented")
    np.testing.assert_allclose(np.linalg.norm(space.vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(space.mean, space.vectors.numpy().mean(0), atol=1e-6)


def test_a_constant_dimension_is_legal():
    x = np.random.default_rng(0).normal(size=(5, 4))
    x[:, 2] = 0
    assert Space.of(x).vectors[:, 2].abs().max() == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"vectors": torch.ones(2, 3)}, "row 0 is not of length one; Space.of"),
        ({"vectors": torch.eye(3), "mean": torch.ones(2)}, r"mean of shape \(2,\)"),
        ({"vectors": torch.eye(2), "mean": torch.tensor([1.0, torch.nan])}, "finite"),
        (
            {"vectors": torch.eye(3), "ids": torch.arange(2)},
            r"ids of shape \(2,\) for 3",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(kwargs, message):
    with pytest.raises(DataError, match=message):
        Space(**kwargs)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_take_is_numpy_indexing_and_keeps_mean_and_provenance(index):
    space = make()
    taken = space.take(index)
    np.testing.assert_array_equal(taken.vectors, space.vectors.numpy()[index])
    np.testing.assert_array_equal(taken.ids, space.ids.numpy()[index])
    assert torch.equal(taken.mean, space.mean)
    assert taken.provenance == space.provenance


def test_take_by_mask_slice_and_out_of_range():
    space = make()
    mask = torch.tensor([True, False, True, False, False, False])
    assert torch.equal(space.take(mask).vectors, space.vectors[[0, 2]])
    assert torch.equal(space.take(slice(4, None)).ids, space.ids[4:])
    with pytest.raises(DataError, match="6 rows"):
        space.take([6])
    with pytest.raises(DataError, match="0 rows"):
        space.take([])


def test_save_and_load_give_the_same_bits(tmp_path):
    space = make(weights="w", licence="MIT", note="n — ü")
    space.save(tmp_path / "a.safetensors")
    again = Space.load(tmp_path / "a.safetensors")
    torch.testing.assert_close(again.vectors, space.vectors, rtol=0, atol=1e-7)
    assert torch.equal(again.mean, space.mean)
    assert torch.equal(again.ids, space.ids)
    assert again.provenance == space.provenance
    part = space.take([1, 2])  # its mean is not that of its rows, and must survive
    part.save(tmp_path / "b.safetensors")
    assert torch.equal(Space.load(tmp_path / "b.safetensors").mean, space.mean)


def test_saving_twice_gives_the_same_bytes_readable_by_all(tmp_path):
    for name in "ab":
        make().save(tmp_path / f"{name}.safetensors")
    a, b = ((tmp_path / f"{name}.safetensors") for name in "ab")
    assert a.read_bytes() == b.read_bytes()
    (tmp_path / "plain").touch()
    plain = (tmp_path / "plain").stat().st_mode
    assert stat.S_IMODE(a.stat().st_mode) == stat.S_IMODE(plain)


def test_rows_alone_are_written_as_npy_and_other_endings_refused(tmp_path):
    make().save(tmp_path / "a.NPY")
    np.testing.assert_array_equal(np.load(tmp_path / "a.NPY"), make().vectors)
    with pytest.raises(DataError, match=r"a\.csv: rows are saved as \.safetensors"):
        make().save(tmp_path / "a.csv")
    assert os.listdir(tmp_path) == ["a.NPY"]


def test_parts_are_not_checked_again_but_a_mean_is(monkeypatch):
    space = make()
    monkeypatch.setattr(Space, "__post_init__", lambda self: 1 / 0)
    part = space.take([0, 2]).to("cpu").with_mean()
    torch.testing.assert_close(part.mean, space.vectors[[0, 2]].mean(0))
    for wrong in (torch.ones(3), torch.ones(4), torch.full((4,), torch.nan)):
        with pytest.raises(DataError, match="mean of shape"):
            space.with_mean(wrong)
    for index in (3, torch.ones(2, 2).long(), torch.ones(6, 4, dtype=torch.bool)):
        with pytest.raises(DataError, match="shape|indices"):
            space.take(index)


def test_a_file_of_before_headers_had_a_digest_still_loads(tmp_path):
    about = json.dumps({"format": "v2v-space-1", "encoder": "old", "colour": "red"})
    tensors = {"vectors": make().vectors, "mean": make().mean}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"v2v": about})
    assert Space.load(tmp_path / "a.safetensors").name == "old"


@pytest.mark.parametrize("old, new", [(b"toy", b"tox"), (b"w: 1", b"w: 2")])
def test_a_changed_header_is_noticed(tmp_path, old, new):
    make(note="w: 1").save(tmp_path / "a.safetensors")
    content = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "a.safetensors").write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match="altered since it was saved"):
        Space.load(tmp_path / "a.safetensors")


def test_an_error_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    make(seed=1).save(path)
    before = path.read_bytes()

    def half(file, *rest):
        with open(file, "wb") as out:
            out.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_rows", half)
    with pytest.raises(
        DataError, match=r"a\.safetensors: cannot be written: disk full"
    ):
        make(seed=2).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_a_process_killed_while_saving_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    make(seed=1).save(path)
    before = path.read_bytes()
    saver = (
        "import sys, time, torch\n"
        "import v2v_lite.spaces.space as module\n"
        "from v2v_lite.spaces import Space\n"
        "real = module.write_rows\n"
        "def slow(file, *rest):\n"
        "    real(file, *rest)\n"
        "    with open(file, 'rb+') as out:\n"
        "        out.truncate(100)\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
        "module.write_rows = slow\n"
        "Space.of(torch.eye(5)).save(sys.argv[1])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", saver, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "writing\n"
    child.kill()
    child.wait(timeout=20)
    child.stdout.close()
    assert path.read_bytes() == before
    assert Space.load(path).n == 6


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_a_file_cut_short_is_named(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    make().save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.safetensors: not a whole .* cut short"):
        Space.load(path)


def test_peoples_own_files_are_read(tmp_path):
    x = np.random.default_rng(3).normal(size=(7, 5)).astype(np.float32)
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.save(tmp_path / "a.npy", x)
    np.save(tmp_path / "f64.npy", x.astype(np.float64))
    save_file({"anything": torch.tensor(x)}, tmp_path / "one.safetensors")
    both = {"vectors": torch.tensor(x), "other": torch.ones(2, 2)}
    save_file(both, tmp_path / "named.safetensors")
    for name in ("a.npy", "f64.npy", "one.safetensors", "named.safetensors"):
        space = Space.load(tmp_path / name)
        np.testing.assert_allclose(space.vectors, expected, atol=1e-6)
        assert space.name == "unknown"
        assert space.ids is None


def test_files_that_are_no_space_are_refused(tmp_path):
    save_file(
        {"a": torch.ones(2, 2), "b": torch.ones(3, 2)}, tmp_path / "two.safetensors"
    )
    (tmp_path / "x.csv").write_text("1,2")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.save(tmp_path / "zero.npy", np.zeros((2, 3)))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "zero.npy").read_bytes()[:-8])
    for name, message in {
        "two.safetensors": r"2 tables among \['a', 'b'\]",
        "x.csv": "only .npy, .npz, .safetensors",
        "o.npy": "not a whole .npy file",
        "cut.npy": "not a whole .npy file",
        "zero.npy": "rows 0, 1: all zeros",
        "missing.npy": "no such file",
    }.items():
        with pytest.raises(DataError, match=message) as caught:
            Space.load(tmp_path / name)
        assert name in str(caught.value)


def test_the_file_holds_no_more_than_it_should(tmp_path):
    make().save(tmp_path / "a.safetensors")
    assert set(load_file(tmp_path / "a.safetensors")) == {"vectors", "mean", "ids"}
    assert Provenance().encoder == "unknown"
