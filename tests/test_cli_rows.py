"""The reader's own rows through the commands: drawn, dropped, judged unseen, told."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from v2v_lite.align import METHODS, Procrustes, SelfLearn, Translator
from v2v_lite.cli import base
from v2v_lite.spaces import (
    DataError,
    RowsWarning,
    Space,
    document_space,
    load,
    load_documents,
)
from v2v_lite.spaces.files import locked

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """1,500 real rows a side, sorted by a direction as an export may be, no ids."""
    folder = tmp_path_factory.mktemp("rows")
    for name, encoder, rows in (("a", "minilm", slice(0, 1500)),
                                ("b", "wordllama", slice(2000, 3500))):  # fmt: skip
        x = load(encoder, "eval").take(rows).vectors.numpy()
        np.save(folder / f"{name}.npy", x[np.argsort(x[:, 5])])
    return folder


def align(v2v, files, *words, out="m", method="random"):
    pair = files / "a.npy", files / "b.npy"
    v2v("align", *pair, "--out", out, "--method", method, *words)


def fitted_rows(folder="m"):
    from v2v_lite.spaces.headers import read_tensors

    return read_tensors(Path(folder) / "rows.safetensors")[0]


def test_n_train_is_a_random_sample_and_is_remembered(v2v, files, capsys):
    align(v2v, files, "--n-train", 800, "--json")
    assert json.loads(capsys.readouterr().out)["rows"] == [720, 720]
    first = fitted_rows()
    for side in ("source", "target"):
        rows = first[side]
        assert len(set(rows.tolist())) == 720
        # Uniform on 0 to 1499: mean 749.5, its standard error 16.
        assert abs(rows.double().mean() - 749.5) < 65 and rows.max() > 1400
    assert first["source"].tolist() != first["target"].tolist()
    align(v2v, files, "--n-train", 800, "--seed", 1, "--force")
    assert fitted_rows()["source"].tolist() != first["source"].tolist()
    align(v2v, files, "--n-train", 800, out="again")
    assert all(torch.equal(fitted_rows("again")[k], first[k]) for k in first)


def seen_by_diagnose(v2v, monkeypatch, *words):
    """The rows that `v2v diagnose` judged."""
    import v2v_lite.align.diagnosis as module

    found = []

    def spy(model, *sides, **options):
        found.extend(sides)
        return module.Diagnosis(0, "failed", 0, 0, 0, 0, 0, None, 0)

    monkeypatch.setattr("v2v_lite.align.diagnose", spy)
    v2v("diagnose", "m", *words)
    return found


def test_diagnose_judges_rows_that_the_fit_has_not_seen(v2v, files, monkeypatch):
    align(v2v, files, "--n-train", 800)
    fitted = fitted_rows()
    pair = files / "a.npy", files / "b.npy"
    sides = seen_by_diagnose(v2v, monkeypatch, *pair)
    for side, name in zip(sides, ("source", "target"), strict=True):
        assert not set(side.numbers.tolist()) & set(fitted[name].tolist())
        assert side.n == 1500 - 720
    whole = Space.load(pair[0])
    expected = whole.take(fitted["source"]).vectors.mean(0)
    torch.testing.assert_close(sides[0].mean, expected)  # not that of the judged rows
    few = seen_by_diagnose(v2v, monkeypatch, *pair, "--n-train", 100)
    assert [side.n for side in few] == [100, 100]


def test_diagnose_without_n_train_repeats_the_diagnosis_of_align(v2v, files, capsys):
    align(v2v, files, "--json")
    at_fit = json.loads(capsys.readouterr().out)["diagnosis"]
    v2v("diagnose", "m", files / "a.npy", files / "b.npy", "--json")
    assert json.loads(capsys.readouterr().out) == at_fit


def test_other_files_are_said_to_be_new(v2v, files, capsys):
    align(v2v, files)
    np.save("c.npy", np.load(files / "a.npy")[::-1])
    v2v("diagnose", "m", "c.npy", files / "b.npy")
    err = capsys.readouterr().err
    assert "c.npy: not the file that m was fitted on" in err
    assert "b.npy: not the file" not in err


def test_rows_of_a_translator_that_are_spoiled_are_one_line(v2v, fails, files):
    align(v2v, files)
    from v2v_lite.spaces.headers import read_tensors, write_tensors

    path = Path("m/rows.safetensors")
    tensors, header = read_tensors(path)
    pair = files / "a.npy", files / "b.npy"
    for bad in (torch.tensor([5, 10**9]), torch.tensor([-1]), torch.ones(2, 2).long()):
        write_tensors(path, tensors | {"source": bad}, header)
        assert "rows.safetensors: no rows of" in fails("diagnose", "m", *pair)
    write_tensors(path, tensors | {"source": torch.arange(1500)}, header)
    assert "fitted on all rows of" in fails("diagnose", "m", *pair)
    path.write_bytes(path.read_bytes()[:-9])
    assert "cut short" in fails("diagnose", "m", *pair)


# ---- bad rows


def spoiled(files, name="a", bad=(3, 700, 1400)):
    x = np.load(files / f"{name}.npy")
    x[bad[0]], x[bad[1], 7], x[bad[2]] = 0, np.nan, 0
    return x


def test_bad_rows_are_named_at_once_and_dropped_on_demand(v2v, fails, files, capsys):
    np.save("a.npy", spoiled(files))
    line = fails("align", "a.npy", files / "b.npy", "--method", "mean")
    assert "row 700: NaN, rows 3, 1400: all zeros" in line and "--drop-bad" in line
    call = ("align", "a.npy", files / "b.npy", "--method", "mean", "--out", "m")
    with pytest.warns(RowsWarning, match="left out 3: rows 3, 700, 1400$"):
        v2v(*call, "--drop-bad")
    assert not {3, 700, 1400} & set(fitted_rows()["source"].tolist())
    line = fails("translate", "m", "a.npy", "--out", "t.npy")
    assert "rows 3, 1400: all zeros" in line and not Path("t.npy").exists()
    capsys.readouterr()
    v2v("translate", "m", "a.npy", "--out", "t.npy", "--drop-bad", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["dropped"] == [3, 700, 1400] and found["rows"] == 1497
    assert np.load("t.npy").shape == (1497, 256)


def test_ids_go_along_and_those_of_dropped_rows_are_listed(v2v, files):
    pq = pytest.importorskip("pyarrow.parquet")
    pa = pytest.importorskip("pyarrow")
    x, ids = spoiled(files), [f"uuid-{i}" for i in range(1500)]
    pq.write_table(pa.table({"id": ids, "embedding": list(x)}), "store.parquet")
    align(v2v, files, method="mean")
    words = "store.parquet:embedding", "--drop-bad", "--out", "t.safetensors"
    listed = r"\(ids uuid-3, uuid-700, uuid-1400\)"
    with pytest.warns(RowsWarning, match=listed):
        v2v("translate", "m", *words)
    from v2v_lite.spaces import text_ids

    kept = [one for i, one in enumerate(ids) if i not in (3, 700, 1400)]
    assert torch.equal(Space.load("t.safetensors").ids, text_ids(kept))


def test_ids_of_a_store_are_not_taken_for_texts(v2v, files, capsys):
    """Two stores count their rows from 0: that is no leak."""
    for name in "ab":
        np.savez(f"{name}.npz", vectors=np.load(files / f"{name}.npy"),
                 ids=np.arange(1500))  # fmt: skip
    v2v("align", "a.npz", "b.npz", "--method", "mean", "--out", "m")
    assert "1,500 ids stand on both sides" in capsys.readouterr().err


def test_score_draws_a_pool_and_drops_pairs(v2v, fails, files, capsys):
    np.save("a.npy", spoiled(files))
    np.save("b.npy", spoiled(files, bad=(8, 700, 9)))
    assert "row 700: NaN" in fails("score", "a.npy", "b.npy")
    v2v("score", "a.npy", "b.npy", "--drop-bad", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["pool"] == 1495 and found["top1"]["mean"] == 1
    v2v("score", files / "a.npy", files / "a.npy", "--pool", 200, "--json")
    assert json.loads(capsys.readouterr().out)["pool"] == 200


# ---- by blocks


@pytest.mark.parametrize("out", ["t.npy", "t.safetensors"])
def test_blocks_give_what_the_whole_gives(out, v2v, files, monkeypatch, tmp_path):
    rows = slice(0, 1000)
    model = Procrustes().fit(load("minilm").take(rows), load("wordllama").take(rows))
    model.save("m")
    space = load("minilm", "eval").take(slice(0, 300))
    space.save("s.safetensors")
    whole = model.translate(space)
    monkeypatch.setattr("v2v_lite.spaces.tables.spans.__defaults__", (64,))
    v2v("translate", "m", "s.safetensors", "--out", out)
    found = Space.load(out)
    torch.testing.assert_close(found.vectors, whole, rtol=0, atol=1e-6)
    if out.endswith("npy"):
        assert np.load(out).dtype == np.float32 and np.load(out).shape == (300, 256)
    else:
        assert torch.equal(found.ids, space.ids) and found.name == "wordllama"
        torch.testing.assert_close(found.mean, whole.mean(0), rtol=0, atol=1e-6)
        from safetensors.torch import load_file

        assert set(load_file(out)) == {"vectors", "mean", "ids"}


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory as Linux tells it")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """64 and 256 MB of float16 rows: the peak grows by far less than the file.

    Pages of the mapped file that the system has not taken back count, too.
    """
    model = METHODS["identity"]().fit(np.eye(64, 512), np.eye(64, 512))
    model.save(tmp_path / "m")
    code = (
        "import sys; from v2v_lite.cli import main\n"
        "assert main(sys.argv[1:]) == 0\n"
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) // 1024)"
    )
    peaks = []
    for n in (65_536, 262_144):
        rows = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, (n, 512))
        g = np.random.default_rng(0)
        block = g.normal(size=(4096, 512)).astype(np.float16)
        for start in range(0, n, 4096):
            rows[start : start + 4096] = block
        rows.flush()
        del rows
        words = "translate", tmp_path / "m", tmp_path / "x.npy", "--out", tmp_path / "t"
        call = [sys.executable, "-c", code, *map(str, words[:-1]), f"{words[-1]}.npy"]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(call, capture_output=True, text=True, env=env)
        peaks.append(int(done.stdout.split()[-1]))
        (tmp_path / "t.npy").unlink()
    assert peaks[1] - peaks[0] < 96, peaks  # the larger file has 192 MB more


def test_rows_beyond_the_memory_are_one_line(fails, files, monkeypatch):
    real = torch.empty

    def full(*size, **options):
        if size in ((1500, 384), ((1500, 384),)):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(*size, **options)

    monkeypatch.setattr(torch, "empty", full)
    line = fails("align", files / "a.npy", files / "b.npy")
    assert "1,500 rows of 384 take 0.0 GB" in line and "--n-train" in line


@pytest.mark.parametrize(
    ("error", "need"),
    [
        (RuntimeError("can't allocate memory: you tried to allocate 8589934592 bytes."),
         "out of memory: 8.0 GiB more are needed at once; "),
        (RuntimeError("CUDA out of memory. Tried to allocate 20.50 GiB. GPU 0 has"),
         "out of memory: 20.50 GiB more are needed at once; "),
        (MemoryError("Unable to allocate 3.25 MiB for an array with shape (2, 2)"),
         "out of memory: 3.25 MiB more are needed at once; "),
        (MemoryError(), "out of memory; "),
    ],
)  # fmt: skip
def test_a_fit_beyond_the_memory_is_one_line(fails, files, monkeypatch, error, need):
    def full(*args, **options):
        raise error

    monkeypatch.setattr(SelfLearn, "fit", full)
    line = fails("align", files / "a.npy", files / "b.npy")
    assert need + "give fewer rows by --n-train" in line
    assert not Path("runs").exists() or not list(Path("runs").rglob("weights*"))


def test_a_full_gpu_falls_back_to_the_cpu_where_it_was_chosen(monkeypatch, capsys):
    used = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def work(device):
        used.append(device)
        if used[-1] != "cpu":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return "done"

    assert base.on_device("auto", work) == "done"
    assert used == ["cuda", "cpu"] and "again on the CPU" in capsys.readouterr().err
    with pytest.raises(RuntimeError, match="out of memory"):
        base.on_device("cuda", work)  # what was asked for is not changed

    def wrong(device):
        raise RuntimeError("another error")

    with pytest.raises(RuntimeError, match="another"):
        base.on_device("auto", wrong)


# ---- another encoder, another process, other names


def test_rows_of_another_encoder_are_doubted(v2v, capsys):
    rows, pair = slice(0, 2000), (load("minilm"), load("granite"))
    model = Procrustes().fit(*(space.take(rows) for space in pair))
    model.save("m")
    again = Translator.load("m")
    for encoder in ("minilm", "granite", "arctic"):
        wiki = load(encoder, "eval").vectors[:600]
        posts = document_space(load_documents("posts"), encoder).vectors
        for x in (wiki, wiki[:30], posts):
            for translator in (model, again):
                said = translator.doubt(x)
                assert (said is None) == (encoder == "minilm"), (encoder, said)
        np.save("x.npy", wiki[:300].numpy())
        capsys.readouterr()
        v2v("translate", "m", "x.npy", "--out", "t.npy")
        warned = "another encoder's" in capsys.readouterr().err
        assert warned == (encoder != "minilm")
    said = again.doubt(load("arctic", "eval").vectors)
    assert "by chance 8%" in said and "constant dimensions vary" in said
    assert again.doubt(load("arctic", "eval").vectors[:5]) is None  # too few to tell


def test_a_translator_of_an_older_version_has_no_doubts(v2v, files):
    align(v2v, files)
    from v2v_lite.align import saved

    tensors, header = saved.read(Path("m"))
    old = {k: v for k, v in tensors.items() if not k.startswith("profile.")}
    saved.write(Path("m"), old, header)
    model = Translator.load("m")
    assert model.profile is None and model.doubt(load("granite", "eval")) is None
    bad = tensors | {"profile.axes": torch.ones(3, 2)}
    saved.write(Path("m"), bad, header)
    with pytest.raises(DataError, match="profile.axes"):
        Translator.load("m")


def test_two_processes_do_not_share_a_folder(v2v, fails, files, tmp_path):
    code = (
        "import sys, time; from v2v_lite.spaces.files import locked\n"
        "with locked(sys.argv[1]):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    call = [sys.executable, "-c", code, str(tmp_path / "m")]
    other = subprocess.Popen(call, stdout=subprocess.PIPE, text=True, env=env)
    assert other.stdout.readline() == "held\n"
    pair = files / "a.npy", files / "b.npy"
    line = fails("align", *pair, "--out", "m", "--method", "mean")
    assert "m: another process is writing there" in line
    other.kill()
    other.wait(timeout=20)
    other.stdout.close()
    v2v("align", *pair, "--out", "m", "--method", "mean")  # its lock is taken over
    assert not list(Path("m").glob(".*"))


def test_a_lock_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / "new"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with locked(tmp_path / "new"):
        (tmp_path / "new" / "a").touch()
        with pytest.raises(DataError, match="another process"):
            with locked(tmp_path / "new"):
                pass
    assert os.listdir(tmp_path / "new") == ["a"]
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file"), locked(tmp_path / "file"):
        pass


def test_default_names_are_files_not_folders(v2v, files):
    x = np.load(files / "a.npy")
    np.savez("store.npz", **{"emb": x, "other": x})
    np.save("b.npy", np.load(files / "b.npy"))
    v2v("align", "store.npz:emb", "b.npy", "--method", "mean")
    (made,) = Path("runs").iterdir()
    assert made.is_dir() and ":" not in made.name
    v2v("translate", made, "store.npz:emb")
    (out,) = Path().glob("*.translated.safetensors")
    assert ":" not in out.name and Space.load(out).n == 1500
