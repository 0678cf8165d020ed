"""The bundled vectors are what the manifest says, and damage is named."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from v2v_lite.spaces import (
    EVAL_ROWS,
    NAMES,
    TRAIN_ROWS,
    DataError,
    Space,
    check_disjoint,
    data_folder,
    load,
    resolve,
    unpaired,
)

DATA = Path(__file__).parents[1] / "data"
TEXTS = "abc8fd126ad052c8216e4c8d9f904c2fbb70238c1ba3bc4704bf2af939c1d861"
MANIFEST = json.loads((DATA / "manifest.json").read_text())["sets"]["wiki"]


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A data folder of our own to damage: WordLlama alone."""
    (tmp_path / "wiki").mkdir()
    for name in ("manifest.json", "wiki/ids.safetensors", "wiki/wordllama.safetensors"):
        shutil.copy(DATA / name, tmp_path / name)
    monkeypatch.setenv("V2V_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_files_are_those_of_the_manifest_and_close_to_the_originals(name):
    one = MANIFEST["spaces"][name]
    content = (DATA / one["file"]).read_bytes()
    assert len(content) == one["bytes"]
    assert hashlib.sha256(content).hexdigest() == one["sha256"]
    assert 0.9999 <= one["worst_cosine"] < 1
    assert all(one[key] for key in ("encoder", "weights", "licence", "d"))


def test_the_whole_is_about_52_megabytes_and_says_whose_it_is():
    ours = [MANIFEST["ids"], *MANIFEST["spaces"].values()]
    assert sum(one["bytes"] for one in ours) < 53e6
    assert MANIFEST["texts_sha256"] == TEXTS
    assert "CC BY-SA" in MANIFEST["licence"]
    for name in ("granite", "arctic"):
        weights = MANIFEST["spaces"][name]["weights"]
        assert "int8" in weights and "repack" in weights


@pytest.mark.parametrize("name", NAMES)
def test_a_space_is_its_codes_decoded_by_hand(name):
    space = load(name)
    raw = load_file(DATA / "wiki" / f"{name}.safetensors")
    rows = raw["codes"][::500].astype(np.float64) * raw["scale"]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(space.vectors[::500], rows, atol=1e-6)
    assert (space.n, space.d) == (TRAIN_ROWS + EVAL_ROWS, MANIFEST["spaces"][name]["d"])
    train = space.vectors[:TRAIN_ROWS].numpy().mean(0, dtype=np.float64)
    np.testing.assert_allclose(space.mean, train, atol=1e-7)
    assert space.provenance.encoder == name
    assert space.provenance.texts_sha256 == TEXTS


def test_minilm_keeps_its_two_constant_dimensions():
    constant = (load("minilm").vectors.abs().amax(0) == 0).nonzero().flatten()
    assert constant.tolist() == [127, 223]


def test_parts_are_disjoint_and_their_texts_all_different():
    train, pool = load("wordllama", "train"), load("wordllama", "eval")
    assert (train.n, pool.n) == (TRAIN_ROWS, EVAL_ROWS)
    assert torch.equal(train.mean, pool.mean)
    check_disjoint(train, pool)
    assert len(set(train.ids.tolist()) | set(pool.ids.tolist())) == 36864


def test_the_bundle_splits_without_a_leak():
    split = unpaired(load("minilm"), load("granite"), seed=1)
    check_disjoint(split.source, split.target)
    assert (split.source.n, split.target.n, split.eval_source.n) == (16384, 16384, 4096)
    # Row i of both pools is one text: what is related under one encoder is so
    # under the other.
    a, b = split.eval_source.vectors[:300], split.eval_target.vectors[:300]
    similarities = [np.asarray(x @ x.T)[np.triu_indices(300, 1)] for x in (a, b)]
    assert np.corrcoef(*similarities)[0, 1] > 0.5


def test_unknown_names_list_the_known():
    with pytest.raises(DataError, match="no space 'bert'; there is minilm, granite"):
        load("bert")
    with pytest.raises(DataError, match="no part of wiki 'test'; there is train, eval"):
        load("minilm", "test")
    with pytest.raises(DataError, match="no set 'news'; there is wiki"):
        load("minilm", dataset="news")
    with pytest.raises(DataError, match="neither a bundled space .minilm, granite"):
        resolve("mini-lm")


def test_resolve_takes_names_and_files(tmp_path):
    assert resolve("wordllama").name == "wordllama"
    np.save(tmp_path / "a.npy", np.eye(4))
    assert resolve(tmp_path / "a.npy").n == 4
    Space.of(np.eye(3), "mine").save(tmp_path / "b.safetensors")
    assert resolve(str(tmp_path / "b.safetensors")).name == "mine"
    codes = resolve(DATA / "wiki" / "wordllama.safetensors")
    assert torch.equal(codes.ids, load("wordllama").ids)


def test_a_truncated_file_is_named_with_its_sizes_and_the_mend(copied):
    file = copied / "wiki" / "wordllama.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    size = MANIFEST["spaces"]["wordllama"]["bytes"]
    with pytest.raises(
        DataError, match=rf"{size - 100} bytes, expected {size}"
    ) as caught:
        load("wordllama")
    assert "wordllama.safetensors" in str(caught.value)
    assert "git checkout -- " in str(caught.value)


def test_one_altered_byte_is_found_even_after_a_good_load(copied):
    load("wordllama")
    file = copied / "wiki" / "wordllama.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(1, 1))  # any other time than before, however coarse the clock
    found = hashlib.sha256(content).hexdigest()
    expected = MANIFEST["spaces"]["wordllama"]["sha256"]
    with pytest.raises(DataError, match=f"SHA-256 {found}, expected {expected}"):
        load("wordllama")


def test_altered_ids_and_missing_files_are_named(copied):
    ids = copied / "wiki" / "ids.safetensors"
    ids.write_bytes(ids.read_bytes() + b"x")
    with pytest.raises(DataError, match=r"ids\.safetensors: cut short or altered"):
        load("wordllama")
    ids.unlink()
    with pytest.raises(DataError, match=r"ids\.safetensors: the file is missing"):
        load("wordllama")


def test_the_data_folder_can_be_chosen(copied, tmp_path, monkeypatch):
    assert data_folder() == copied
    monkeypatch.setenv("V2V_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no manifest.json in .*nowhere; set V2V_DATA"):
        data_folder()
    monkeypatch.delenv("V2V_DATA")
    assert (data_folder() / "manifest.json").is_file()
