"""Atomic files: whole or untouched, whatever interrupts."""

import hashlib
import os
import subprocess
import sys

import pytest

from v2v_lite.spaces import DataError, atomic, read_json, sha256_of, write_json


def test_a_finished_block_replaces_the_file_and_leaves_no_litter(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    for content in ("old", "new"):
        with atomic(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text(content)
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["a.txt"]


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
    with atomic(path) as temporary:  # the litter of the killed one is in nobody's way
        temporary.write_text("new")
    assert path.read_text() == "new"


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


@pytest.mark.parametrize("obj", [{"x": float("nan")}, {"x": object()}])
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
