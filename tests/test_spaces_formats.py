"""Files of rows as other tools write them: each read as the tool itself reads it."""

import json
import struct
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from v2v_lite.spaces import DataError, Space, load, text_ids
from v2v_lite.spaces.formats import open_table
from v2v_lite.spaces.tables import RowsWarning, draw

X = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
IDS = np.arange(50) * 7 + 3
NAMES = [f"doc-{i}" for i in range(50)]
pytestmark = pytest.mark.filterwarnings("ignore::v2v_lite.spaces.tables.RowsWarning")


def expected(x=X):
    return x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)


def npz(path):
    np.savez(path, rows=X, ids=IDS, more=np.ones(3))


def pt(path):
    torch.save({"rows": torch.nn.Parameter(torch.tensor(X)), "ids": NAMES}, path)


def pt_alone(path):
    torch.save(torch.tensor(X), path, _use_new_zipfile_serialization=False)


def bf16(path):
    save_file({"rows": torch.tensor(X).bfloat16(), "id": torch.tensor(IDS)}, path)


def table():
    import pyarrow as pa

    return {"text": pa.array(NAMES), "id": pa.array(IDS)}


def parquet(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.array(X.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table(table() | {"embedding": rows}), path, row_group_size=20)


def parquet_half(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(X.astype(np.float16).ravel())
    rows = pa.FixedSizeListArray.from_arrays(flat, 6)
    pq.write_table(pa.table({"_id": pa.array(NAMES), "v": rows}), path)


def arrow_file(path):
    import pyarrow as pa

    rows = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 6)
    whole = pa.table({"emb": rows, "id": pa.array(NAMES)})
    with pa.ipc.new_file(str(path), whole.schema) as file:
        file.write_table(whole, max_chunksize=17)


def arrow_stream(path):
    import pyarrow as pa

    rows = pa.array(X.tolist(), pa.large_list(pa.float64()))
    whole = pa.table({"emb": rows, "id": pa.array(IDS)})
    with pa.ipc.new_stream(str(path), whole.schema) as file:
        file.write_table(whole, max_chunksize=17)


def dataset(path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"id": NAMES[::-1], "emb": X[::-1].tolist()})
    made.select(range(49, -1, -1)).save_to_disk(path)  # by way of an index


def lines(path, start=b"", end=b"\n"):
    rows = [{"id": a, "emb": b} for a, b in zip(NAMES, X.tolist(), strict=True)]
    path.write_bytes(start + end.join(json.dumps(one).encode() for one in rows) + end)


def jsonl_windows(path):
    lines(path, b"\xef\xbb\xbf", b"\r\n")


def fvecs(path):
    path.write_bytes(b"".join(struct.pack("<i6f", 6, *row) for row in X))


# kind: (name, writer, the tolerance of its type, its ids or None)
KINDS = {
    "npy": ("a.npy", lambda p: np.save(p, X), 1e-6, None),
    "npy fortran": ("a.npy", lambda p: np.save(p, np.asfortranarray(X)), 1e-6, None),
    "npy float16": ("a.npy", lambda p: np.save(p, X.astype("f2")), 2e-3, None),
    "npy big-endian": ("a.NPY", lambda p: np.save(open(p, "wb"), X.astype(">f8")),
                       1e-6, None),
    "npz": ("a.npz:rows", npz, 1e-6, IDS),
    "npz, its only table": ("a.npz", npz, 1e-6, IDS),
    "pt with a gradient": ("a.pt", pt, 1e-6, NAMES),
    "pt of one tensor, old": ("a.pth", pt_alone, 1e-6, None),
    "safetensors bfloat16": ("a.safetensors:rows", bf16, 1e-2, IDS),
    "parquet": ("a.parquet", parquet, 1e-6, IDS),
    "parquet by column": ("a.parquet:embedding", parquet, 1e-6, IDS),
    "parquet fixed-size float16": ("a.parquet", parquet_half, 2e-3, NAMES),
    "arrow file": ("a.arrow", arrow_file, 1e-6, NAMES),
    "feather": ("a.feather", arrow_file, 1e-6, NAMES),
    "arrow stream": ("a.arrow:emb", arrow_stream, 1e-6, IDS),
    "datasets": ("folder", dataset, 1e-6, NAMES),
    "datasets by column": ("folder:emb", dataset, 1e-6, NAMES),
    "jsonl": ("a.jsonl", lines, 1e-6, NAMES),
    "jsonl, mark and CRLF": ("a.jsonl:emb", jsonl_windows, 1e-6, NAMES),
    "fvecs": ("a.fvecs", fvecs, 1e-6, None),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [7, 4096])
def test_each_kind_gives_its_rows_and_ids(kind, block, tmp_path, monkeypatch):
    name, write, tolerance, ids = KINDS[kind]
    if "parquet" in kind or "arrow" in kind or "feather" in kind:
        pytest.importorskip("pyarrow")
    for module in ("tables", "columns"):
        monkeypatch.setattr(f"v2v_lite.spaces.{module}.BLOCK", block)
    monkeypatch.setattr("v2v_lite.spaces.tables.spans.__defaults__", (block,))
    write(tmp_path / name.partition(":")[0])
    space = Space.load(tmp_path / name)
    np.testing.assert_allclose(space.vectors, expected(), atol=tolerance)
    if ids is None:
        assert space.ids is None
    else:
        as_text = text_ids(ids) if isinstance(ids, list) else torch.tensor(ids)
        assert torch.equal(space.ids, as_text)
    # A sample is those rows of the whole.
    found = open_table(tmp_path / name)
    index = draw(50, 9, torch.Generator().manual_seed(0))
    some = Space.of_table(found, index)
    assert torch.equal(some.vectors, space.vectors[index])
    assert torch.equal(some.numbers, index)
    assert found.labels == (ids if isinstance(ids, list) else None)


def test_bvecs_are_bytes(tmp_path):
    x = np.random.default_rng(1).integers(1, 100, size=(30, 8), dtype=np.uint8)
    content = b"".join(struct.pack("<i", 8) + row.tobytes() for row in x)
    (tmp_path / "a.bvecs").write_bytes(content)
    np.testing.assert_allclose(
        Space.load(tmp_path / "a.bvecs").vectors, expected(x), atol=1e-6
    )


SCALES = {"one": np.float32(0.3), "a dimension": np.linspace(0.1, 2, 6, dtype="f4"),
          "a row": np.linspace(0.1, 2, 50, dtype="f4")}  # fmt: skip


@pytest.mark.parametrize("kind", SCALES)
def test_int8_with_its_scale(kind, tmp_path):
    codes = np.random.default_rng(2).integers(-127, 127, (50, 6)).astype(np.int8)
    scale = SCALES[kind]
    by_hand = codes * (scale[:, None] if np.shape(scale) == (50,) else scale)
    np.savez(tmp_path / "a.npz", vectors=codes, scale=scale)
    tensors = {"vectors": torch.tensor(codes), "scales": torch.tensor(scale)}
    save_file(tensors, tmp_path / "a.safetensors")
    for name in ("a.npz", "a.safetensors"):
        found = next(open_table(tmp_path / name).blocks())[1]
        np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    np.savez(tmp_path / "b.npz", vectors=codes, scale=np.ones(4))
    with pytest.raises(DataError, match=r"b\.npz: a scale of shape \(4,\)"):
        open_table(tmp_path / "b.npz")


def test_faiss_is_read_where_it_is_and_else_named(tmp_path, monkeypatch):
    (tmp_path / "a.faiss").write_bytes(b"IxF2")
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(DataError, match=r"a\.faiss: faiss-cpu is not installed"):
        open_table(tmp_path / "a.faiss")


def test_a_faiss_index_gives_rows_and_ids(tmp_path):
    faiss = pytest.importorskip("faiss")
    plain, named = faiss.IndexFlatIP(6), faiss.IndexIDMap(faiss.IndexFlatL2(6))
    plain.add(X)
    named.add_with_ids(X, IDS)
    inverted = faiss.index_factory(6, "IVF4,Flat")
    inverted.train(X)
    inverted.add(X)
    for index, ids in ((plain, None), (named, IDS), (inverted, None)):
        faiss.write_index(index, str(tmp_path / "a.index"))
        space = Space.load(tmp_path / "a.index")
        np.testing.assert_allclose(space.vectors, expected(), atol=1e-6)
        assert (space.ids is None) == (ids is None)
        if ids is not None:
            assert space.ids.tolist() == ids.tolist()


# ---- what is not rows


def executed(path):
    class Payload:
        def __reduce__(self):
            return (open, (str(path), "w"))

    return Payload()


def bad_parquet(path, column):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"v": column(pa), "n": list(range(3))}), path)


BAD = {
    "npz cut": ("a.npz", lambda p: (npz(p), p.write_bytes(p.read_bytes()[:-30])),
                "not a whole .npz"),
    "npz of objects": ("a.npz", lambda p: np.savez(p, a=np.array([{}, 1])),
                       r"not a whole .npz(?!.*pickle)"),
    "npz, two tables": ("a.npz", lambda p: np.savez(p, a=X, b=X),
                        r"2 tables among \['a', 'b'\].*a\.npz:NAME"),
    "npz, no such name": ("a.npz:c", lambda p: np.savez(p, a=X), r"no 'c' in it.*'a'"),
    "npz empty": ("a.npz", lambda p: np.savez(p), "0 tables"),
    "pt that runs code": ("a.pt", lambda p: torch.save(executed(f"{p}.ran"), p),
                          r"more than tensors(?!.*weights_only)"),
    "pt cut": ("a.pt", lambda p: (pt(p), p.write_bytes(p.read_bytes()[:99])), "a.pt"),
    "pt of numbers": ("a.pt", lambda p: torch.save({"a": 1}, p), "0 tables"),
    "parquet cut": ("a.parquet", lambda p: (
        parquet(p), p.write_bytes(p.read_bytes()[:-9])), "not a whole .parquet"),
    "parquet of words": ("a.parquet", lambda p: bad_parquet(
        p, lambda pa: pa.array(["a", "b", "c"])), "0 tables"),
    "parquet, ragged": ("a.parquet", lambda p: bad_parquet(
        p, lambda pa: pa.array([[1.0, 2.0], [3.0, 4.0], [5.0]])),
        "row 2 holds 1 numbers, not 2"),
    "parquet, a row missing": ("a.parquet", lambda p: bad_parquet(
        p, lambda pa: pa.array([[1.0, 2.0], None, [3.0, 4.0]])), "row 1: NaN"),
    "parquet, an entry missing": ("a.parquet", lambda p: bad_parquet(
        p, lambda pa: pa.array([[1.0, 2.0], [5.0, 6.0], [None, 4.0]])), "row 2: NaN"),
    "parquet, all missing": ("a.parquet", lambda p: bad_parquet(
        p, lambda pa: pa.array([None] * 3, pa.list_(pa.float32()))), "d = 0"),
    "arrow empty": ("a.arrow", lambda p: p.write_bytes(b""), "not a whole Arrow"),
    "arrow cut": ("a.arrow", lambda p: (
        arrow_stream(p), p.write_bytes(p.read_bytes()[:900])), "not a whole Arrow"),
    "a folder of splits": ("folder", lambda p: (
        p.mkdir(), (p / "state.json").write_text("{")), "not a folder that datasets"),
    "jsonl empty": ("a.jsonl", lambda p: p.write_bytes(b"\n"), "the file is empty"),
    "jsonl, ragged": ("a.jsonl", lambda p: p.write_text('{"e": [1, 2]}\n{"e": [1]}'),
                      "line 2: 'e' holds 1 numbers, but 2"),
    "jsonl of words": ("a.jsonl", lambda p: p.write_text('{"e": ["a", "b"]}'),
                       "not numbers"),
    "jsonl, a number": ("a.jsonl", lambda p: p.write_text('{"e": [1, 2]}\n{"e": 1}'),
                        "line 2: 'e' holds 1, but 2 numbers"),
    "jsonl, null": ("a.jsonl", lambda p: p.write_text('{"e": [1, 2]}\n{"e": null}'),
                    "row 1: NaN"),
    "jsonl, null within": ("a.jsonl", lambda p: p.write_text('{"e": [1, null]}'),
                           "not numbers"),
    "jsonl without it": ("a.jsonl:v", lambda p: p.write_text('{"e": [1, 2]}'),
                         "no 'v' in it"),
    "jsonl of truths": ("a.jsonl", lambda p: p.write_text('{"e": [true, false]}'),
                        "not numbers"),
    "fvecs cut": ("a.fvecs", lambda p: (fvecs(p), p.write_bytes(p.read_bytes()[:-1])),
                  "not a whole .fvecs"),
    "fvecs empty": ("a.fvecs", lambda p: p.write_bytes(b""), "not a whole .fvecs"),
    "fvecs of several lengths": ("a.fvecs", lambda p: p.write_bytes(
        struct.pack("<i2fi2f", 2, 1, 2, 3, 1, 2)), "several lengths"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_holds_no_rows_is_one_line_about_the_file(kind, tmp_path):
    name, write, says = BAD[kind]
    if kind.startswith(("parquet", "arrow", "a folder")):
        pytest.importorskip("pyarrow")
    write(tmp_path / name.partition(":")[0])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=says) as caught:
        Space.load(tmp_path / name)
    assert name.partition(":")[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before  # and so nothing was executed


# ---- rows that are not what they seem


@pytest.mark.parametrize("encoder", ["minilm", "granite", "arctic", "wordllama"])
@pytest.mark.parametrize("signed", [False, True])
def test_packed_bits_are_refused_with_the_way_out(encoder, signed, tmp_path):
    x = load(encoder, "eval").vectors[:400].numpy()
    bits = np.packbits(x > 0, axis=1)
    if signed:
        bits = (bits.astype(np.int16) - 128).astype(np.int8)
    np.save(tmp_path / "a.npy", bits)
    says = r"bits packed into bytes.*give np\.unpackbits\((.*), axis=1\) \* 2\.0 - 1"
    with pytest.raises(DataError, match=says) as caught:
        Space.load(tmp_path / "a.npy")
    mend = str(caught.value).split("give ")[1]
    unpacked = eval(mend, {"np": np, "x": bits.astype(np.int16) if signed else bits})
    np.testing.assert_array_equal(unpacked > 0, x > 0)
    with pytest.raises(DataError, match="packed"):
        Space.of(bits)


@pytest.mark.parametrize("encoder", ["minilm", "granite", "arctic", "wordllama"])
@pytest.mark.parametrize("n", [25, 400])
@pytest.mark.parametrize("clip", [0.0, 0.025])
def test_coordinates_rounded_to_a_byte_pass(encoder, n, clip):
    x = load(encoder, "eval").vectors[:n].numpy()
    low, high = np.quantile(x, [clip, 1 - clip], axis=0)
    share = (np.clip(x, low, high) - low) / np.maximum(high - low, 1e-9)
    codes = np.round(share * 255)
    assert Space.of(codes.astype(np.uint8)).n == n
    assert Space.of((codes - 128).astype(np.int8)).n == n


def test_lengths_that_are_not_one_are_said(tmp_path):
    unit = expected().astype(np.float32)
    np.save(tmp_path / "unit.npy", unit)
    np.save(tmp_path / "long.npy", X)
    scrambled = np.ascontiguousarray(load("minilm", "eval").vectors[:200].numpy().T)
    np.save(tmp_path / "scrambled.npy", scrambled.reshape(200, 384))
    from warnings import catch_warnings, simplefilter

    with catch_warnings():
        simplefilter("error", RowsWarning)
        Space.load(tmp_path / "unit.npy")
    with pytest.warns(RowsWarning, match=r"long\.npy: lengths .* only directions"):
        Space.load(tmp_path / "long.npy")
    with pytest.warns(RowsWarning, match="another order of memory"):
        Space.load(tmp_path / "scrambled.npy")


def test_all_bad_rows_are_named_at_once_and_can_be_dropped(tmp_path):
    x = np.tile(X, (4, 1))
    x[[3, 150]], x[7, 2], x[[20, 190]], x[9, 0] = 0, np.nan, np.inf, -np.inf
    np.savez(tmp_path / "a.npz", vectors=x, ids=np.arange(200) + 1000)
    says = "row 7: NaN, rows 9, 20, 190: an infinite .*, rows 3, 150: all zeros; "
    with pytest.raises(DataError, match=says + ".*--drop-bad"):
        Space.load(tmp_path / "a.npz")
    with pytest.warns(RowsWarning) as caught:
        space = Space.load(tmp_path / "a.npz", drop_bad=True)
    assert "left out 6: rows 3, 7, 9, 20, 150, 190 (ids 1003, 1007" in str(
        caught[0].message
    )
    good = np.delete(np.arange(200), [3, 7, 9, 20, 150, 190])
    assert space.numbers.tolist() == good.tolist()
    assert space.ids.tolist() == (good + 1000).tolist()
    np.testing.assert_allclose(space.vectors, expected(x[good]), atol=1e-6)
    x[:40] = 0
    np.save(tmp_path / "b.npy", x)
    with pytest.raises(DataError, match="rows 0, 1, 2.*drop or encode again$"):
        Space.load(tmp_path / "b.npy", drop_bad=True)


def test_what_people_have_in_memory_is_taken():
    pd = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow")
    datasets = pytest.importorskip("datasets")
    objects = np.empty(50, object)
    objects[:] = list(X)
    tensors = [torch.tensor(row, requires_grad=True) for row in X]
    held = np.empty(50, object)
    for i, one in enumerate(tensors):
        held[i] = one
    frame = pd.DataFrame({"emb": X.tolist(), "array": list(X)})
    exact = [objects, list(X), tensors, tuple(tensors), held, frame["emb"],
             frame["array"], pd.DataFrame(X), pa.array(X.tolist()),
             pa.chunked_array([X[:9].tolist(), X[9:].tolist()]),
             datasets.Dataset.from_pandas(frame)["emb"]]  # fmt: skip
    for given in exact:
        np.testing.assert_allclose(Space.of(given).vectors, expected(), atol=1e-6)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        given = [torch.tensor(row, dtype=dtype, requires_grad=True) for row in X]
        space = Space.of(given)
        np.testing.assert_allclose(space.vectors, expected(), atol=1e-2)
        assert not space.vectors.requires_grad
    frame.loc[[4, 9], "emb"] = None
    with pytest.raises(DataError, match="rows 4, 9: NaN"):
        Space.of(frame["emb"])
    with pytest.raises(DataError, match="same length"):
        Space.of([X[0], X[1][:3]])
    with pytest.raises(DataError, match="same length"):
        Space.of([torch.ones(3), torch.ones(4)])


def test_bundled_rows_are_decoded_as_a_whole(tmp_path):
    """Blocks change no bit: the stored results hang on these rows."""
    from safetensors.torch import load_file

    from v2v_lite.spaces import data_folder, dequantise, unit

    whole = load_file(data_folder() / "wiki" / "wordllama.safetensors")
    rows = unit(dequantise(whole["codes"], whole["scale"]))
    assert torch.equal(load("wordllama").vectors, rows)
