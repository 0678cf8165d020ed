"""int8 codes, sets of them, and the making of a set from a text file."""

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.numpy import load_file

import v2v_lite.spaces.quantised as module
from v2v_lite.spaces import (
    DataError,
    Space,
    dequantise,
    load,
    make_set,
    quantise,
    read_texts,
)
from v2v_lite.spaces.quantised import worst_cosine, write_set

values = st.floats(-10, 10, width=32)
tables = arrays(
    np.float32, st.tuples(st.integers(1, 15), st.integers(2, 8)), elements=values
)


@given(tables)
@settings(max_examples=60, deadline=None)
def test_no_entry_moves_by_more_than_half_a_scale(x):
    x[:, 0] = 1  # no zero row
    codes, scale = quantise(torch.tensor(x))
    assert codes.dtype == torch.int8
    assert scale.dtype == torch.float32
    np.testing.assert_allclose(scale, np.abs(x).max(0) / 127, rtol=1e-6)
    error = np.abs(dequantise(codes, scale).numpy() - x)
    assert (error <= scale.numpy() * 0.5 * (1 + 1e-4) + 1e-37).all()


def test_constant_dimensions_come_back():
    x = torch.tensor([[1.0, 0.0, 0.25], [0.5, 0.0, 0.25]])
    codes, scale = quantise(x)
    assert scale[1] == 0
    back = dequantise(codes, scale)
    assert back[:, 1].tolist() == [0, 0]
    torch.testing.assert_close(back[:, 2], x[:, 2])


def test_worst_cosine_is_numpys():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9, 4))
    cosines = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    found = worst_cosine(torch.tensor(x), torch.tensor(y))
    assert found == pytest.approx(cosines.min(), abs=1e-6)


def fake_encode(texts, encoder, **options):
    """Stands in for a model: a vector that depends on the text and encoder alone."""

    def row(text):
        seed = hashlib.sha256(f"{encoder} {text.split('~')[0]}".encode()).digest()[:4]
        near = 1e-3 * len(text)  # texts alike up to a tilde are near-repeats
        return np.random.default_rng(int.from_bytes(seed, "big")).normal(size=16) + near

    return Space.of(
        np.stack([row(t) for t in texts]), encoder, texts, weights="invented"
    )


@pytest.fixture
def faked(monkeypatch):
    monkeypatch.setattr(module, "encode", fake_encode)


def write_texts(path: Path, texts):
    lines = texts
    if ".jsonl" in path.name:
        lines = [json.dumps({"text": t, "id": 3}) for t in texts]
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize(
    "name", ["t.txt", "t.txt.gz", "t.jsonl", "t.jsonl.gz", "plain"]
)
def test_a_set_is_made_from_a_file_and_loads(tmp_path, faked, name):
    texts = [f"ein Text, Nummer {i} ü" for i in range(30)]
    file = write_texts(tmp_path / name, texts + texts[:4])
    out = tmp_path / "out"
    entry = make_set(
        file, ["m", "owner/n"], out, 10, name="mine", about="b", licence="l"
    )
    assert entry["dropped"] == {"read": 34, "repeats": 4, "near": 0}
    assert (entry["rows"], entry["train"], entry["eval"]) == (30, [0, 20], [20, 30])
    manifest = json.loads((out / "manifest.json").read_text())["sets"]["mine"]
    assert set(manifest["spaces"]) == {"m", "owner--n"}
    for one in [manifest["ids"], *manifest["spaces"].values()]:
        content = (out / one["file"]).read_bytes()
        assert len(content) == one["bytes"]
        assert hashlib.sha256(content).hexdigest() == one["sha256"]
    space = load("m", dataset="mine", folder=out)
    in_order = {
        i: t for t in texts for i in Space.of(np.eye(2)[:1], texts=[t]).ids.tolist()
    }
    kept = [in_order[i] for i in space.ids.tolist()]
    assert sorted(kept) == sorted(texts)
    assert kept != texts  # shuffled
    truth = fake_encode(kept, "m")
    cosines = (truth.vectors * space.vectors).sum(1)
    assert float(cosines.min()) > 0.9999
    assert manifest["spaces"]["m"]["worst_cosine"] == pytest.approx(
        float(cosines.min()), abs=1e-5
    )
    train = load("m", "train", "mine", out).vectors.numpy()
    np.testing.assert_allclose(space.mean, train.mean(0), atol=1e-6)
    assert (
        manifest["texts_sha256"] == hashlib.sha256("\n".join(kept).encode()).hexdigest()
    )
    assert space.provenance.weights == "invented"
    assert set(load_file(out / "mine/m.safetensors")) == {"codes", "scale", "mean"}


def test_marks_and_ends_of_lines_are_no_part_of_a_text(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\n\n")
    (tmp_path / "t.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two"}\n\n'
    )
    assert read_texts(tmp_path / "t.txt") == read_texts(tmp_path / "t.jsonl")
    assert read_texts(tmp_path / "t.txt") == ["one", "two"]


def test_near_repeats_are_dropped_and_counted(tmp_path, faked):
    texts = [f"text {i}" for i in range(20)] + ["text 3~again", "text 4~again"]
    file = write_texts(tmp_path / "t.txt", texts)
    entry = make_set(
        file, ["m", "n"], tmp_path, 5, near=0.99, seed=None, progress=False
    )
    assert entry["dropped"] == {"read": 22, "repeats": 0, "near": 2}
    space = load("n", dataset="texts", folder=tmp_path)
    expected = Space.of(np.ones((20, 2)), texts=texts[:20])
    assert space.ids.tolist() == expected.ids.tolist()
    assert entry["texts_sha256"] == expected.provenance.texts_sha256


def test_a_second_set_joins_the_manifest(tmp_path, faked):
    file = write_texts(tmp_path / "t.txt", [f"text {i}" for i in range(9)])
    for name in ("one", "two"):
        make_set(file, ["m"], tmp_path, 3, name=name)
    assert load("m", dataset="one", folder=tmp_path).n == 9
    assert load("m", dataset="two", folder=tmp_path).n == 9


# Without the clock in it: both test workers must collect the same names.
CUT = gzip.compress(b"one\ntwo\n" * 500, mtime=0)[:-9]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"one\n\nthree\n", r"t\.txt, line 2: empty"),
        ("t.txt", b"\n \n", r"t\.txt: the file is empty"),
        ("t.txt", b"o\0n\0e\0\n\0", r"t\.txt, line 1: zero bytes"),
        ("t.txt", b"", r"t\.txt: the file is empty"),
        ("t.txt", b"one\n\xff\xfe\n", r"t\.txt, line 2: not UTF-8 text"),
        (
            "t.jsonl",
            b'{"text": "a"}\n{"text": "b"\n',
            r"t\.jsonl, line 2: not valid JSON",
        ),
        ("t.jsonl", b'{"text": "a"}\n{"no": "b"}\n', r"t\.jsonl, line 2: no 'text'"),
        ("t.jsonl", b'{"text": "a"}\n{"text": " "}\n', "line 2: text is ' '"),
        ("t.jsonl", b'{"text": "a"}\n[1]\n', r"line 2: \[1\] is no table"),
        ("t.txt.gz", CUT, r"t\.txt\.gz: not a whole file .*cut short"),
        ("t.txt.gz", b"not gzip", r"t\.txt\.gz: not a whole file"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, faked, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        make_set(tmp_path / name, ["m"], tmp_path / "out", 1)
    assert not (tmp_path / "out").exists()


def test_requests_that_cannot_be_met_are_refused(tmp_path, faked):
    file = write_texts(tmp_path / "t.txt", ["a", "b", "c"])
    with pytest.raises(DataError, match="3 different texts .* n_eval = 3"):
        make_set(file, ["m"], tmp_path, 3)
    with pytest.raises(DataError, match="no encoder was named; known are minilm"):
        make_set(file, [], tmp_path, 1)
    with pytest.raises(DataError, match="each only once"):
        make_set(file, ["m", "m"], tmp_path, 1)
    with pytest.raises(DataError, match=r"near = 1.5"):
        make_set(file, ["m"], tmp_path, 1, near=1.5)
    with pytest.raises(DataError, match="'../x' is not a path below"):
        make_set(file, ["m"], tmp_path, 1, name="../x")
    with pytest.raises(DataError, match=r"nothing\.txt: there is no such file"):
        make_set(tmp_path / "nothing.txt", ["m"], tmp_path, 1)


def test_a_wrong_second_encoder_shows_before_the_long_work(tmp_path, monkeypatch):
    sizes = []

    def counting(texts, encoder, **options):
        sizes.append(len(texts))
        if encoder == "wrong":
            raise DataError("unknown encoder 'wrong'")
        return fake_encode(texts, encoder)

    monkeypatch.setattr(module, "encode", counting)
    file = write_texts(tmp_path / "t.txt", [f"text {i}" for i in range(9)])
    with pytest.raises(DataError, match="unknown encoder"):
        make_set(file, ["m", "wrong"], tmp_path, 3)
    assert sizes == [1]


def test_spaces_of_other_texts_make_no_set(tmp_path):
    a, b = (Space.of(np.eye(4), n, [f"{n}{i}" for i in range(4)]) for n in "ab")
    with pytest.raises(DataError, match="b and a are not of the same texts"):
        write_set([a, b], tmp_path, "x", 1)
    with pytest.raises(DataError, match="without ids"):
        write_set([Space.of(np.eye(4))], tmp_path, "x", 1)


def test_codes_of_another_form_are_refused(tmp_path):
    from safetensors.torch import save_file

    codes = torch.ones(3, 4, dtype=torch.int8)
    save_file({"codes": codes, "scale": torch.ones(4)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match=r"x\.safetensors: format None, but"):
        Space.load(tmp_path / "x.safetensors")
