"""Atomic files: whole or untouched, whatever interrupts."""

import csv
import errno
import gzip
import hashlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

import v2v_lite.spaces.files as module
from v2v_lite.spaces import DataError, LeakError, atomic, read_json, write_json
from v2v_lite.spaces.files import parsing, sha256_of
from v2v_lite.spaces.headers import check_header, safe_child, safe_name


def test_a_finished_block_replaces_the_file_and_leaves_no_litter(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    for content in ("old", "new"):
        with atomic(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text(content)
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.txt"]


ERRORS = {
    "disk full": OSError(errno.ENOSPC, "No space left on device"),
    "the disk is full": SafetensorError("I/O error: No space (os error 28)"),
    "disk is full": OSError("768000 requested and 112608 written"),
    "permission denied": PermissionError(errno.EACCES, "Permission denied"),
    "odd": OSError("something odd"),
}


@pytest.mark.parametrize("words", ERRORS)
def test_whatever_a_write_raises_is_one_line_about_the_target(tmp_path, words):
    with pytest.raises(DataError) as caught, atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ERRORS[words]
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'a.txt'}: cannot be written: ")
    assert words.split()[-1] in line and ".tmp" not in line
    assert os.listdir(tmp_path) == []


def test_the_longest_names_can_be_saved_and_longer_ones_are_refused(tmp_path):
    write_json(tmp_path / ("x" * 255), 1)
    with pytest.raises(DataError, match="the name is too long"):
        write_json(tmp_path / ("x" * 256), 1)
    with pytest.raises(DataError, match="not the name of a file"):
        write_json("", 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_block_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    writer = (
        "import sys, time\n"
        "from v2v_lite.spaces.files import atomic\n"
        "with atomic(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "writing\n"
    child.kill()
    child.wait(timeout=20)
    child.stdout.close()
    assert path.read_text() == "old"
    assert len(os.listdir(tmp_path)) == 2
    with atomic(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]  # what the killed one left is gone too


def test_temporaries_of_others_stay_until_they_are_old(tmp_path):
    alive = tmp_path / f".v2v-{module._HOST}-{os.getpid()}-0.tmp"
    (tmp_path / f".v2v-{module._HOST}-{10**30}-0.tmp").write_text("")
    elsewhere, no_number = (tmp_path / f".v2v-{x}-0.tmp" for x in ("0-1", "0"))
    foreign = tmp_path / ".a.tmp"
    for path in (alive, elsewhere, no_number, foreign):
        path.write_text("")
    write_json(tmp_path / "a.json", 1)
    assert len(os.listdir(tmp_path)) == 6
    for path in (alive, elsewhere, foreign):
        os.utime(path, (1, 1))
    write_json(tmp_path / "a.json", 1)
    assert set(os.listdir(tmp_path)) >= {"a.json", ".a.tmp", no_number.name}
    assert len(os.listdir(tmp_path)) == 4


def test_files_are_readable_as_the_umask_says(tmp_path):
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_text("x")
    with atomic(ours) as temporary:
        temporary.write_text("x")
    assert ours.stat().st_mode == plain.stat().st_mode


def test_sha256_is_that_of_hashlib_across_blocks(tmp_path):
    content = bytes(range(256)) * 5000  # more than one block of 1 MiB
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_json_goes_and_comes_back(tmp_path):
    obj = {"a": [1, 2.5, None], "é": "ü"}
    write_json(tmp_path / "a.json", obj)
    assert read_json(tmp_path / "a.json") == obj


@pytest.mark.parametrize("obj", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
def test_what_json_cannot_hold_is_refused_and_the_old_file_stays(tmp_path, obj):
    path = tmp_path / "a.json"
    write_json(path, 1)
    with pytest.raises(DataError, match=r"a\.json: cannot be written as JSON"):
        write_json(path, obj)
    assert read_json(path) == 1


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json: not valid JSON"):
        read_json(tmp_path / "a.json")


def test_missing_json_is_named(tmp_path):
    with pytest.raises(DataError, match=r"b\.json: there is no such file"):
        read_json(tmp_path / "b.json")


def test_a_slow_writer_does_not_disturb_another(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as slow:
        slow.write_text("slow")
        with atomic(path) as quick:
            quick.write_text("quick")
        assert path.read_text() == "quick"
    assert path.read_text() == "slow"


# ---- parsers and headers

RAISED = [ValueError("a"), RecursionError("a"), OverflowError("a"), csv.Error("a"),
          UnicodeError("a"), EOFError(), SyntaxError("a"), zlib.error("a"),
          KeyError("a"), struct.error("a"), SafetensorError("a"),
          gzip.BadGzipFile("a")]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda e: type(e).__name__)
def test_whatever_a_parser_raises_is_one_line_about_the_file(error):
    with pytest.raises(
        DataError, match=r"^a\.x: not a thing \(.*\); mend it$"
    ) as caught:
        with parsing("a.x", "a thing", "mend it"):
            raise error
    assert "\n" not in str(caught.value)


def test_causes_are_told_apart_and_our_own_errors_get_the_path():
    with pytest.raises(DataError, match=r"a\.x: it needs more memory than there is"):
        with parsing("a.x"):
            raise MemoryError
    with pytest.raises(LeakError, match=r"^a\.x: rows 1, 2$"):
        with parsing("a.x"):
            raise LeakError("rows 1, 2")
    with pytest.raises(LeakError, match=r"^a\.x, line 2: no$"):
        with parsing("a.x"):
            raise LeakError("a.x, line 2: no")
    with pytest.raises(KeyboardInterrupt), parsing("a.x"):
        raise KeyboardInterrupt


SCHEMA = {"format": "f-1", "n": int, "x?": float, "in?": {"s": str}, "names": list}
FITS = {"format": "f-1", "n": 3, "names": []}


def test_a_header_that_fits_is_given_back_with_keys_beyond_the_schema():
    for more in ({}, {"x": 1}, {"x": 0.5, "in": {"s": ""}}, {"beyond": None}):
        assert check_header(FITS | more, SCHEMA, "a.json") == FITS | more


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "f-2"}, "format 'f-2', but this version reads 'f-1'"),
        ({"format": ["f-1"]}, "format .* but this version"),
        ({"n": True}, "n is True, but int is needed"),
        ({"n": 3.0}, r"n is 3\.0, but int"),
        ({"n": None}, "n is None, but int"),
        ({"x": "1"}, "x is '1', but float"),
        ({"in": 5}, "a.json, in: 5 is no table"),
        ({"in": {}}, "a.json, in: no 's'"),
        ({"names": {"a": 1}}, "names is"),
        ({"names": "y" * 9999}, "names is .{,60}, but list"),
    ],
)
def test_a_header_that_does_not_fit_is_named(change, message):
    with pytest.raises(DataError, match=message):
        check_header(FITS | change, SCHEMA, "a.json")


# ---- names


@given(st.text(max_size=300))
def test_a_safe_name_is_one_part_of_a_path_on_any_system(name):
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= 110 and safe.isprintable()
    assert not set(safe) & set('/\\:*?"<>|') and safe.strip(". -") == safe
    assert safe_child("f", safe, "m.json") == Path("f") / safe
    assert safe_name(safe) == safe


def test_long_names_that_differ_stay_different():
    a, b = (safe_name("x" * 200 + end) for end in "ab")
    assert a != b
    assert safe_name("owner/model-1.5_b") == "owner--model-1.5_b"


BAD = ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", ".a", "a/.b",
       "a\\b", "C:a", "a\0b", "a\nb", "a" * 256, None, 5, ["a"]]  # fmt: skip


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_paths_that_leave_the_folder_are_refused(name):
    with pytest.raises(DataError, match="m.json: .* is not a path below the folder"):
        safe_child("f", name, "m.json")
    assert safe_child("f", "a/b c-1.x", "m.json") == Path("f/a/b c-1.x")
