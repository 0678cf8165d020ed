"""Malformed files, each kind through the real command line, in this process.

Whatever a file holds: one line on stderr that names it, exit code 2, no traceback, no
warning, nothing written anywhere, nothing executed. To add a kind is to add a line to a
table of `KINDS`: its name, what makes the file (its bytes, or a function of the `Place`
that returns them or makes the file itself), and what the line must say.
"""

import gzip
import json
import os
import pickle
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from v2v_lite.align import METHODS
from v2v_lite.cli import main
from v2v_lite.spaces import Space, write_set
from v2v_lite.spaces.headers import write_tensors

DATA = Path(__file__).parents[1] / "data"
DEEP = "[" * 100_000

# ---- commands; {bad} is the malformed file, and good files lie beside it

ROWS = "align {bad} good.npy --method identity --out out/m"
OTHER = "translate m {bad} --out out/t.safetensors"
TEXTS = "encode {bad} --out out/e.safetensors"
SETS = "data make {bad} --encoders wordllama --out out"
SHOW = "data show --folder ."
DOCS = "attack attributes posts m --out out/a.json"  # $V2V_DATA is the folder


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A folder of good files: rows, a space, a set of codes, a translator."""
    folder = tmp_path_factory.mktemp("good")
    rows = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    np.save(folder / "good.npy", rows)
    texts = [f"text {i}" for i in range(60)]
    space = Space.of(rows, "minilm", texts)
    space.save(folder / "good.safetensors")
    write_set([space], folder, "set", 20, "invented", "CC0")
    METHODS["identity"]().fit(space, rows).save(folder / "m")
    return folder


class Place:
    """A copy of the good files, and the ways to spoil them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, content: bytes | str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def npy(self, header: str | bytes, body: bytes = b"", version=b"\1\0") -> bytes:
        """An .npy file with a header of one's own."""
        text = header.encode("latin1") if isinstance(header, str) else header
        size = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
        return b"\x93NUMPY" + version + size + text + body

    def array(self, x, **options) -> bytes:
        np.save(self.folder / "tmp.npy", x, **options)
        return (self.folder / "tmp.npy").read_bytes()

    def space(self, **change) -> bytes:
        """The good space's file with tensors or header fields (text) replaced."""
        good = Space.load(self.folder / "good.safetensors")
        tensors = {"vectors": good.vectors, "mean": good.mean, "ids": good.ids}
        about = {"format": "v2v-space-1", "encoder": "minilm"}
        return self.tensors(tensors, about, change)

    def codes(self, **change) -> bytes:
        """The good codes' file with tensors or header fields replaced."""
        from safetensors.torch import load_file

        tensors = load_file(self.folder / "set" / "minilm.safetensors")
        return self.tensors(tensors, {"format": "v2v-int8-1", "encoder": "m"}, change)

    def tensors(self, tensors: dict, about: dict, change: dict) -> bytes:
        for key, value in change.items():
            into = (
                tensors
                if key in ("vectors", "mean", "ids", "codes", "scale")
                else about
            )
            into[key] = value
            if value is None and into is tensors:
                del into[key]
        path = self.folder / "tmp.safetensors"
        write_tensors(path, tensors, about)
        return path.read_bytes()

    def bare(self, tensors: dict, metadata: dict | None = None) -> bytes:
        save_file(tensors, self.folder / "tmp.safetensors", metadata=metadata)
        return (self.folder / "tmp.safetensors").read_bytes()

    def manifest(self, **change) -> str:
        """The good manifest with fields of its set's entry replaced (None: deleted)."""
        whole = json.loads((self.folder / "manifest.json").read_text())
        entry = whole["sets"]["set"]
        for key, value in change.items():
            into = entry["spaces"]["minilm"] if key in SPACE_FIELDS else entry
            into[key] = value
            if value is None:
                del into[key]
        return json.dumps(whole)


SPACE_FIELDS = ("file", "bytes", "sha256", "d", "encoder")


def executed(path: Path):
    class Payload:
        def __reduce__(self):
            return (os.mkdir, (str(path),))

    return Payload()


def header(shape="(60, 16)", descr="'<f4'", more="") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, {more}}}\n"


def npz(p: Place) -> bytes:
    np.savez(p.folder / "tmp.npz", x=np.ones((3, 4)))
    return (p.folder / "tmp.npz").read_bytes()


def torch_pickle(p: Place) -> bytes:
    torch.save({"vectors": executed(p.folder / "executed")}, p.folder / "tmp.pt")
    return (p.folder / "tmp.pt").read_bytes()


def flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def safetensors(header_text: str | bytes, body: bytes = b"") -> bytes:
    text = header_text.encode() if isinstance(header_text, str) else header_text
    return struct.pack("<Q", len(text)) + text + body


def zipped(p: Place) -> bytes:
    with zipfile.ZipFile(p.folder / "tmp.zip", "w") as file:
        file.writestr("a.txt", "hello\n")
    return (p.folder / "tmp.zip").read_bytes()


def beside(p: Place, ids: bytes) -> bytes:
    p.write("ids.safetensors", ids)
    return p.codes()


GZ = gzip.compress(b"one\ntwo\n" * 400, mtime=0)
X = np.random.default_rng(1).normal(size=(60, 16)).astype(np.float32)


def with_entry(value, at=(3, 4), dtype=np.float32) -> np.ndarray:
    x = X.astype(dtype)
    x[at] = value
    return x


OBJECTS = np.array([[{"a": 1}]], dtype=object)
V2V = '{"format": "v2v-space-1"}'
ONE = torch.ones(3, 4)


class Kind(NamedTuple):
    """A kind of malformed file: the command that reads it, and what must be said."""

    command: str
    name: str
    make: bytes | str | Callable[[Place], object] | None  # None: there is no such file
    says: str


def kinds(command: str, name: str, table: dict[str, tuple]) -> dict[str, Kind]:
    """Kinds that one command reads from a file of one name: {kind: (make, says)}."""
    return {kind: Kind(command, name, *row) for kind, row in table.items()}


KINDS: dict[str, Kind] = {}
KINDS |= kinds(
    ROWS,
    "x.npy",
    {
        "npy empty": (b"", "not a whole .npy"),
        "npy magic alone": (b"\x93NUMPY", "not a whole .npy"),
        "npy of a version to come": (
            lambda p: p.npy(header(), version=b"\x09\x09"),
            "not a whole",
        ),
        "npy header cut": (lambda p: p.array(X)[:40], "not a whole .npy"),
        "npy rows cut": (lambda p: p.array(X)[:-9], "not a whole .npy"),
        "npy with bytes after the rows": (
            lambda p: p.array(X) + b"more",
            "not a whole .npy",
        ),
        "npy claims 10^12 rows": (
            lambda p: p.npy(header(f"({10**12}, 384)")),
            "not a whole .npy",
        ),
        "npy claims more rows than a number holds": (
            lambda p: p.npy(header(f"({2**70}, 4)")),
            "not a whole .npy",
        ),
        "npy claims minus one row": (
            lambda p: p.npy(header("(-1, 16)"), X.tobytes()),
            "not a whole",
        ),
        "npy claims a row of texts": (
            lambda p: p.npy(header("('a', 16)"), X.tobytes()),
            "not a whole",
        ),
        "npy header is a list": (lambda p: p.npy("[1, 2]\n"), "not a whole"),
        "npy header lacks its shape": (
            lambda p: p.npy("{'descr': '<f4', 'fortran_order': False}\n"),
            "not a whole",
        ),
        "npy header is code": (
            lambda p: p.npy("__import__('os').mkdir('executed')\n"),
            "not a whole",
        ),
        "npy header nested deep": (lambda p: p.npy("[" * 9000 + "\n"), "not a whole"),
        "npy header of 20 MB": (
            lambda p: p.npy(" " * 20_000_000, version=b"\2\0"),
            "not a whole",
        ),
        "npy of an unknown type": (
            lambda p: p.npy(header(descr="'<q7'")),
            "not a whole",
        ),
        "npy of pickled objects": (
            lambda p: p.array(np.array([[executed(p.folder / "executed")]])),
            "not a whole",
        ),
        "a pickle called npy": (
            lambda p: pickle.dumps(executed(p.folder / "executed")),
            r"not a whole .npy file of numbers \((?!.*pickle)",
        ),
        "npy of structures": (
            lambda p: p.array(np.zeros(3, "f4,f4")),
            "are not numbers",
        ),
        "npy of dates": (
            lambda p: p.array(np.zeros((3, 4), "M8[s]")),
            "are not numbers",
        ),
        "npy of words": (lambda p: p.array(np.array([["a"]])), "not numbers"),
        "npy of truths": (lambda p: p.array(X > 0), "bool are not numbers"),
        "npy complex": (lambda p: p.array(X + 1j), "complex.* not numbers"),
        "npy of one number": (lambda p: p.array(np.float32(3)), "shape"),
        "npy of one row": (lambda p: p.array(X[0]), r"x\[None, :\]"),
        "npy of a cube": (lambda p: p.array(X[None]), r"shape \(1, 60, 16\)"),
        "npy one column": (lambda p: p.array(X[:, :1]), "d = 1"),
        "npy without rows": (lambda p: p.array(X[:0]), "x.npy"),
        "npy with NaN": (lambda p: p.array(with_entry(np.nan)), "row 3: NaN"),
        "npy with infinity": (
            lambda p: p.array(with_entry(-np.inf)),
            "row 3: an infinite",
        ),
        "npy beyond float32": (
            lambda p: p.array(with_entry(1e200, dtype=np.float64)),
            "row 3",
        ),
        "npy with a row of zeros": (
            lambda p: p.array(with_entry(0, at=5)),
            "row 5: all zeros",
        ),
        "nothing": (None, "there is no such file"),
        "a folder": (lambda p: (p.folder / "x.npy").mkdir(), "it is a folder"),
        "a link to itself": (
            lambda p: (p.folder / "x.npy").symlink_to("x.npy"),
            "back to itself",
        ),
        "a link to nothing": (
            lambda p: (p.folder / "x.npy").symlink_to("gone"),
            "no such file",
        ),
        "a pipe": (lambda p: os.mkfifo(p.folder / "x.npy"), "pipe or device"),
        "a device": (lambda p: (p.folder / "x.npy").symlink_to("/dev/zero"), "device"),
    },
)
KINDS |= kinds(
    OTHER,
    "x.npy",
    {
        "a text called npy": ("1,2\n3,4\n", "not a whole .npy"),
        "an npz called npy": (npz, "not a whole .npy"),
        "a gzip called npy": (gzip.compress(b"x"), "not a whole"),
    },
)
KINDS |= kinds(
    ROWS,
    "x.NPY",
    {
        "NPY in capitals, cut": (lambda p: p.array(X)[:-9], "not a whole"),
    },
)
KINDS |= kinds(
    ROWS,
    "x.safetensors",
    {
        "safetensors empty": (b"", "not a whole .safetensors"),
        "safetensors of a size beyond all": (b"\xff" * 64, "not a whole"),
        "safetensors header is no JSON": (safetensors("{[}"), "not a whole"),
        "safetensors header nested deep": (safetensors(DEEP), "not a whole"),
        "safetensors header in Latin-1": (safetensors(b'{"\xf6": 1}'), "not a whole"),
        "safetensors tensor beyond the file": (
            safetensors('{"x":{"dtype":"F32","shape":[9,9],"data_offsets":[0,324]}}'),
            "not a whole",
        ),
        "safetensors of a type to come": (
            safetensors(
                '{"x":{"dtype":"F99","shape":[1,1],"data_offsets":[0,4]}}', b"1234"
            ),
            "not a whole",
        ),
        "a torch pickle called safetensors": (torch_pickle, "not a whole"),
        "safetensors without tensors": (lambda p: p.bare({}), "0 tables"),
        "safetensors with two tables": (
            lambda p: p.bare({"a": ONE, "b": ONE * 2}),
            r"2 tables among \['a', 'b'\]",
        ),
        "safetensors with codes of somebody's": (
            lambda p: p.bare({"codes": ONE}),
            "format None",
        ),
        "header is no JSON": (
            lambda p: p.bare({"vectors": ONE}, {"v2v": "{"}),
            "not a whole",
        ),
        "header nested deep": (
            lambda p: p.bare({"vectors": ONE}, {"v2v": DEEP}),
            "nested too deep",
        ),
        "header is a list": (
            lambda p: p.bare({"vectors": ONE}, {"v2v": "[1]"}),
            r"\[1\] is no table",
        ),
        "header is null": (
            lambda p: p.bare({"vectors": ONE}, {"v2v": "null"}),
            "None is no table",
        ),
        "header without a format": (lambda p: p.space(format=None), "format None"),
        "format to come": (lambda p: p.space(format="v2v-space-9"), "v2v-space-9"),
        "format is a number": (lambda p: p.space(format=1), "format 1"),
        "encoder is null": (lambda p: p.space(encoder=None), "encoder is None"),
        "encoder is a list": (lambda p: p.space(encoder=["a"]), "encoder is"),
        "encoder rings the bell": (
            lambda p: p.space(encoder="\x1b]0;x\x07"),
            "plain text",
        ),
        "encoder of two lines": (
            lambda p: p.space(encoder="a\nv2v: done"),
            "plain text",
        ),
        "encoder of 10,000 letters": (
            lambda p: p.space(encoder="a" * 10_000),
            "plain text",
        ),
        "licence is a number": (lambda p: p.space(licence=7), "licence is 7"),
        "another name after saving": (
            lambda p: p.space().replace(b"minilm", b"arctic"),
            "altered since",
        ),
        "another number after saving": (
            lambda p: flipped(p.space(), -5),
            "altered since",
        ),
        "digest is a number": (
            lambda p: p.bare(
                {"vectors": ONE}, {"v2v": '{"format": "v2v-space-1", "digest": 7}'}
            ),
            "altered since",
        ),
        "space without vectors": (lambda p: p.space(vectors=None), "0 tables"),
        "vectors are truths": (lambda p: p.space(vectors=ONE > 0), "bool"),
        "vectors are a line": (lambda p: p.space(vectors=ONE[0]), r"shape \(4,\)"),
        "mean complex": (lambda p: p.space(mean=torch.ones(16) + 1j), "mean"),
        "mean of another width": (
            lambda p: p.space(mean=torch.zeros(15)),
            r"shape \(15,\)",
        ),
        "mean longer than unit rows allow": (
            lambda p: p.space(mean=torch.ones(16)),
            "longer than one",
        ),
        "mean is NaN": (lambda p: p.space(mean=torch.full((16,), torch.nan)), "finite"),
        "ids are fractions": (lambda p: p.space(ids=torch.rand(60)), "whole number"),
        "ids for other rows": (lambda p: p.space(ids=torch.arange(9)), r"shape \(9,\)"),
        "ids a table": (
            lambda p: p.space(ids=torch.ones(60, 2).long()),
            r"shape \(60, 2\)",
        ),
        "codes without scale": (lambda p: p.codes(scale=None), "scale"),
        "codes without mean": (lambda p: p.codes(mean=None), "mean"),
        "codes are fractions": (lambda p: p.codes(codes=torch.rand(60, 16)), "int8"),
        "codes are a line": (
            lambda p: p.codes(codes=torch.ones(16).to(torch.int8)),
            "int8",
        ),
        "codes all zero": (
            lambda p: p.codes(codes=torch.zeros(60, 16, dtype=torch.int8)),
            "all zeros",
        ),
        "scale of another width": (lambda p: p.codes(scale=torch.ones(15)), "scale"),
        "scale is NaN": (lambda p: p.codes(scale=torch.full((16,), torch.nan)), "NaN"),
        "ids beside are cut": (
            lambda p: beside(p, (p.folder / "set/ids.safetensors").read_bytes()[:-3]),
            r"ids\.safetensors: not a whole",
        ),
        "ids beside are of other rows": (
            lambda p: beside(p, p.bare({"ids": torch.arange(3)})),
            "ids of shape",
        ),
    },
)
KINDS |= kinds(
    ROWS,
    "x.SAFETENSORS",
    {
        "SAFETENSORS in capitals, cut": (lambda p: p.space()[:-9], "not a whole"),
    },
)
KINDS |= kinds(
    OTHER,
    "x.safetensors",
    {
        "format of a translator": (
            lambda p: (p.folder / "m" / "weights.safetensors").read_bytes(),
            "x.safetensors",
        ),
    },
)
KINDS |= kinds(
    ROWS,
    "good.npy/x.npy",
    {
        "a file in a file": (None, "where a folder is needed"),
    },
)
KINDS |= kinds(
    ROWS,
    "x" * 300 + ".npy",
    {
        "a name too long": (None, "the name is too long"),
    },
)
KINDS |= kinds(
    ROWS,
    "x.csv",
    {
        "an unknown ending": ("1,2\n", "neither a bundled space"),
        "a link to itself": (
            lambda p: (p.folder / "x.csv").symlink_to("x.csv"),
            "back to itself",
        ),
    },
)
KINDS |= kinds(
    TEXTS,
    "t.txt",
    {
        "texts in Latin-1": (b"one\ngr\xf6n\n", "line 2: not UTF-8 text"),
        "texts in UTF-16": ("one\ntwo\n".encode("utf-16"), "not UTF-8 text"),
        "texts in UTF-16 without a mark": (
            "one\ntwo\n".encode("utf-16-le"),
            "zero bytes",
        ),
        "texts are an image": (b"\x89PNG\r\n\x1a\n" + bytes(99), "not UTF-8"),
        "texts empty": (b"", "the file is empty"),
        "texts a mark alone": (b"\xef\xbb\xbf", "the file is empty"),
        "texts blank": (b" \n\t\n\n", "the file is empty"),
        "texts are a folder": (
            lambda p: (p.folder / "t.txt").mkdir(),
            "it is a folder",
        ),
    },
)
KINDS |= kinds(
    SETS,
    "t.txt",
    {
        "texts with a gap": (b"one\n\ntwo\n", "line 2: empty"),
        "texts missing": (None, "there is no such file"),
    },
)
KINDS |= kinds(
    TEXTS,
    "t.txt.gz",
    {
        "texts in gzip, cut": (GZ[:-9], "not a whole file"),
        "texts in gzip, altered": (flipped(GZ, len(GZ) - 6), "not a whole file"),
        "texts in gzip, garbage within": (GZ[:12] + b"garbage" * 9, "not a whole file"),
        "texts called gzip": (b"one\n", "not a whole file"),
        "a zip called gzip": (zipped, "not a whole file"),
    },
)
KINDS |= kinds(
    TEXTS,
    "t.jsonl",
    {
        "jsonl cut": ('{"text": "a"}\n{"te', "line 2: not valid"),
        "jsonl nested deep": (DEEP, "line 1: .*nested too deep"),
        "jsonl with a number of 5,000 digits": (
            '{"text": ' + "9" * 5000 + "}",
            "line 1",
        ),
        "jsonl is a list": ('["a"]', "is no table"),
        "jsonl is a text": ('"a"', "is no table"),
        "jsonl is NaN": ("NaN", "is no table"),
        "jsonl without text": ('{"a": 1}', "no 'text'"),
        "jsonl with a number for text": ('{"text": 5}', "text is 5"),
        "jsonl with half a character": ('{"text": "\\ud800"}', "half a character"),
    },
)
KINDS |= kinds(
    SETS,
    "t.jsonl",
    {
        "jsonl with a blank text": ('{"text": " "}', "text is ' '"),
    },
)
KINDS |= kinds(
    SHOW,
    "manifest.json",
    {
        "manifest missing": (
            lambda p: (p.folder / "manifest.json").unlink(),
            "folder has no manifest.json; copy",
        ),
        "manifest empty": (b"", "not valid JSON"),
        "manifest {}": ("{}", "format None"),
        "manifest a list": ("[1]", "is no table"),
        "manifest nested deep": (DEEP, "nested too deep"),
        "manifest in Latin-1": (b'{"\xf6": 1}', "not valid JSON"),
        "manifest of another format": (
            '{"format": "v2v-data-9", "sets": {}}',
            "data-9",
        ),
        "manifest's sets a list": ('{"format": "v2v-data-1", "sets": []}', "sets is"),
        "a set is null": (
            '{"format": "v2v-data-1", "sets": {"a": null}}',
            "is no table",
        ),
        "a set's name clears the screen": (
            lambda p: p.manifest().replace('"set":', '"\\u001b[2J":'),
            "plain text",
        ),
        "a set without ids": (lambda p: p.manifest(ids=None), "'ids'"),
        "a set's ids a text": (lambda p: p.manifest(ids="set/ids.safetensors"), "ids"),
        "a set's spaces a list": (lambda p: p.manifest(spaces=[]), "spaces is"),
        "a set without a licence": (lambda p: p.manifest(licence=None), "licence"),
        "a set of NaN rows": (lambda p: p.manifest(rows=float("nan")), "rows is nan"),
        "a set of true rows": (lambda p: p.manifest(rows=True), "rows is True"),
        "rows to train on of three numbers": (
            lambda p: p.manifest(train=[0, 1, 2]),
            "block of rows",
        ),
        "rows to train on backwards": (
            lambda p: p.manifest(train=[40, 0]),
            "block of rows",
        ),
        "rows to evaluate on beyond the file": (
            lambda p: p.manifest(eval=[40, 10**9]),
            "end at 1000000000",
        ),
        "a file above the folder": (
            lambda p: p.manifest(file="../good.npy"),
            "not a path below",
        ),
        "a file above, by way of a folder": (
            lambda p: p.manifest(file="set/../../x"),
            "not a path below",
        ),
        "a file of the system": (
            lambda p: p.manifest(file="/etc/passwd"),
            "not a path below",
        ),
        "a file of Windows": (lambda p: p.manifest(file="C:\\x"), "not a path below"),
        "a hidden file": (lambda p: p.manifest(file=".ssh/id"), "not a path below"),
        "a file without a name": (lambda p: p.manifest(file=""), "not a path below"),
        "a file with a zero byte": (
            lambda p: p.manifest(file="a\0b"),
            "not a path below",
        ),
        "a file with too long a name": (
            lambda p: p.manifest(file="x" * 300),
            "not a path below",
        ),
        "a file that is a number": (lambda p: p.manifest(file=5), "file is 5"),
        "a file that is missing": (lambda p: p.manifest(file="set/y"), "missing"),
        "a file that is a folder": (lambda p: p.manifest(file="set"), "set: "),
        "a file of another size": (lambda p: p.manifest(bytes=7), "expected 7"),
        "a size in words": (lambda p: p.manifest(bytes="seven"), "bytes is 'seven'"),
        "another hash": (lambda p: p.manifest(sha256="0"), "expected 0"),
        "a hash that is null": (
            lambda p: p.manifest().replace('"sha256": "', '"sha256": 7, "x": "'),
            "sha256 is 7",
        ),
        "a width in words": (lambda p: p.manifest(d="wide"), "d is 'wide'"),
    },
)
KINDS |= kinds(
    DOCS,
    "manifest.json",
    {
        "no documents": (lambda p: p.manifest(), "no set 'documents/posts'"),
    },
)
KINDS |= kinds(
    DOCS,
    "documents/labels.json",
    {
        "labels nested deep": (DEEP, "too deep"),
        "labels a list": ("[1]", "is no table"),
        "labels of other sets": ("{}", "'posts'"),
        "a label that is a text": ('{"posts": {"a": "b"}}', "is no table"),
        "a label without words": (
            '{"posts": {"a": {"name": "a", "description": " "}}}',
            "description",
        ),
        "a label with more": (
            '{"posts": {"a": {"name": "a", "description": "b", "c": 1}}}',
            "labels",
        ),
    },
)
KINDS |= kinds(
    DOCS,
    "documents/posts.jsonl",
    {
        "documents cut": (
            (DATA / "documents/posts.jsonl").read_bytes()[:5000],
            "not valid JSON",
        ),
        "documents in Latin-1": (b"\xf6\n", "line 1: not UTF-8"),
        "a document that is a list": ("[1]\n", "is no table"),
        "a document with a number for labels": (
            '{"id": "a", "split": "public", "text": "b", "labels": 5}',
            "labels is 5",
        ),
        "documents of others": (
            (DATA / "documents/posts.jsonl").read_bytes().split(b"\n")[0],
            "cut short",
        ),
    },
)


def tree(folder: Path) -> dict:
    return {
        str(path.relative_to(folder)): path.stat().st_size if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def place(good, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    shutil.copytree(good, folder)
    monkeypatch.chdir(folder)
    return Place(folder)


def prepare(place: Place, command: str, name: str, make, monkeypatch) -> list[str]:
    if command == DOCS:
        monkeypatch.setenv("V2V_DATA", str(place.folder))
        if name != "manifest.json":
            shutil.copy(DATA / "manifest.json", place.folder)
            (place.folder / "documents").mkdir()
            for file in ("labels.json", "posts.jsonl"):
                shutil.copy(DATA / "documents" / file, place.folder / "documents")
    content = make(place) if callable(make) else make
    if content is not None:
        place.write(name, content)
    for path in place.folder.glob("tmp.*"):
        path.unlink()
    return command.format(bad=name).split()


@pytest.mark.parametrize("kind", KINDS)
def test_a_malformed_file_ends_in_one_line(kind, place, monkeypatch, capsys, recwarn):
    command, name, make, says = KINDS[kind]
    words = prepare(place, command, name, make, monkeypatch)
    before = tree(place.folder.parent)
    recwarn.clear()
    assert main(words) == 2
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == "" and len(lines) == 1 and lines[0].startswith("v2v: "), (out, err)
    assert lines[0].isprintable() and "Traceback" not in err and ".tmp" not in err
    assert re.search(says, lines[0]), lines[0]
    assert not recwarn.list, [str(one.message) for one in recwarn.list]
    assert tree(place.folder.parent) == before  # and so nothing was executed either


def test_there_are_enough_kinds():
    assert len(KINDS) >= 100


# ---- places that cannot be written to, and names that would lead elsewhere


def block(folder: Path) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))


OUTPUTS = {
    "a folder has the name": (
        "f.npy", lambda p: (p / "f.npy").mkdir(), "f.npy: .*folder"),
    "a file is on the way": ("good.npy/t.npy", None, "where a folder is needed"),
    "too long a name": ("x" * 260 + ".npy", None, "the name is too long"),
    "a disk that is full, numpy": ("t.npy", block, r"t\.npy: cannot be written"),
    "a disk that is full, safetensors": (
        "t.safetensors", block, r"t\.safetensors: cannot be written"),
}  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
@pytest.mark.parametrize("case", OUTPUTS)
def test_a_save_that_fails_is_one_line_about_its_target(case, place, capsys):
    import resource

    name, make, says = OUTPUTS[case]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if make:
        make(place.folder)
    before = tree(place.folder)
    try:
        code = main(["translate", "m", "good.npy", "--out", name])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and re.search(says, err), err
    assert len(err.splitlines()) == 1 and ".tmp" not in err
    assert tree(place.folder) == before


def test_the_longest_names_are_written_and_read(place):
    name = "x" * (255 - len(".safetensors")) + ".safetensors"
    assert main(["translate", "m", "good.npy", "--out", name]) == 0
    assert main(["translate", "m", name, "--out", "again.npy"]) == 0


NAMES = ["/../../../esc/x", "..", "a/b", "C:\\x", "~root", "x" * 255, "-rf", "ü"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_encoders_lead_nowhere(name, place, tmp_path):
    space = Space.load(place.folder / "good.safetensors")
    target = Space.of(space.vectors, name)
    METHODS["identity"]().fit(space, target).save(place.folder / "elsewhere")
    before = tree(tmp_path)
    assert main(["translate", "elsewhere", "good.npy"]) == 0
    (new,) = tree(tmp_path).keys() - before.keys()
    made = tmp_path / new
    assert made.parent == place.folder and made.name.startswith("good.npy.")
    assert Space.load(made).name == name
