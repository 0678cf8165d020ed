"""Experiments: stamps, restarts, rechecks, the study, and one row measured again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import readme_numbers
import torch

from experiments import (
    align,
    diagnosis_study,
    imports,
    recheck,
    run,
    sources,
    store,
    workers,
)
from experiments.recheck import Recheck
from v2v_lite.align import METHODS
from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.spaces import DataError
from v2v_lite.teaching import comparison, results

ROOT = Path(__file__).resolve().parent.parent
FAST = align.Plan(
    pairs=(("minilm", "wordllama"),), study_pairs=(("minilm", "wordllama"),),
    main=("minilm", "wordllama"), n_train=400,
    n_small=300, main_seeds=2, seeds=2, study_seeds=1, repeats=1, ours="random",
    published="identity", once=("mean", "procrustes"), fitted=(),
    corrupted=("random", "axes", "twist8"),
)  # fmt: skip


# ---- results


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "results_folder", lambda: tmp_path)
    return tmp_path


def test_a_result_comes_back_with_its_circumstances(folder):
    with pytest.raises(DataError, match="make bench NAME=align"):
        results.load("align")
    path = run.write("align", {"a": 1}, folder)
    found = results.load("align")
    assert found["table"] == {"a": 1}
    stamp = found["stamp"]
    assert set(stamp) == {"code", "datasets", "data", "machine", "torch", "date"}
    assert re.fullmatch(r"\d+ cores \w+", stamp["machine"])
    assert results.stale("align") == ""
    changed = {"v2v_lite.spaces.splits": "other", "experiments.align": "other"}
    for module, code in changed.items():
        assert module in stamp["code"]
        new = found | {"stamp": stamp | {"code": stamp["code"] | {module: code}}}
        path.write_text(json.dumps(new))
        assert results.stale("align").startswith(f"{module} changed")
    path.write_text(json.dumps(found | {"stamp": stamp | {"data": "other"}}))
    assert "the data changed" in results.stale("align")
    path.write_text("[]")
    with pytest.raises(DataError, match="measure it again"):
        results.load("align")


def test_in_a_wheel_the_experiments_are_not_compared(folder, monkeypatch):
    run.write("align", {}, folder)
    monkeypatch.setattr(results, "BOOK", folder / "nowhere")
    results.module_hash.cache_clear()
    assert results.module_hash("experiments.align") == ""
    assert results.stale("align") == ""
    results.module_hash.cache_clear()


def test_a_stamp_of_before_modules_were_listed_is_stale(folder):
    path = run.write("align", {}, folder)
    found = json.loads(path.read_text())
    found["stamp"]["code"] = "86cb994e77d37fa2"
    path.write_text(json.dumps(found))
    assert "not recorded by module" in results.stale("align")


def test_a_hash_follows_code_and_not_words(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "LIBRARY", tmp_path / "v2v_lite")
    (tmp_path / "v2v_lite").mkdir()

    def hash_of(source):
        (tmp_path / "v2v_lite" / "a.py").write_text(source)
        results.module_hash.cache_clear()
        return results.module_hash("v2v_lite.a")

    first = hash_of('"""Doc."""\nx = 1  # one\n')
    assert hash_of('"""Other."""\n\n# !\nx = 1\n') == first
    assert hash_of("x = 2\n") != first
    results.module_hash.cache_clear()


# ---- sources


@pytest.mark.parametrize("name", results.NAMES)
def test_a_result_is_made_by_its_module_and_all_that_it_imports(name):
    module = run.module_of(name)
    code = run.code_stamp(name)["code"]
    assert module.__name__ in code and "experiments.run" not in code
    assert all(code.values()), "every module has a hash"
    for part in ("FULL", "QUICK", "PARTS", "DATASETS", "measure", "lines", "recheck"):
        assert hasattr(module, part), part


def test_every_task_covers_its_own_module():
    for name in results.NAMES:
        run.module_of(name)
    kinds = [k for k in store.Task.__subclasses__() if "experiments." in k.__module__]
    assert len(kinds) >= 10
    for kind in kinds:
        assert kind.__module__ in sources.closure((kind.__module__,))
        own = {"key", "code"} & set(vars(kind))
        assert not own, f"{kind.__name__} makes its own {own}"


def test_imports_are_followed_to_where_names_are_defined():
    home = sources.homes("v2v_lite.align", "SelfLearn")
    assert home == ["v2v_lite.align.selflearn"]
    assert "v2v_lite.spaces.bundled" in sources.homes("v2v_lite.spaces", "NAMES")
    assert sources.homes("v2v_lite.spaces", "bundled") == ["v2v_lite.spaces.bundled"]
    methods = sources.homes("v2v_lite.align", "METHODS")
    assert {METHODS[m].__module__ for m in ("selflearn", "procrustes")} <= set(methods)
    assert not [m for m in methods if ".vec2vec." in m], "a folder above"
    assert sources.homes("torch", "nn") == []
    inside = sources.imported("experiments.align")  # one is inside a function
    assert METHODS["selflearn"].__module__ not in inside
    assert "experiments.diagnosis_study" in inside
    assert any("diagnos" in m and m.startswith("v2v_lite.align") for m in inside)


# ---- rechecks


def two(stored, measured):
    numbers = {"top1": stored}, {"top1": measured}, {"top1": 0.01}
    return Recheck("a row", *numbers, "by hand")


@pytest.mark.parametrize("measured, code", [(0.505, 0), (0.52, 1)])
def test_a_recheck_stamps_what_agrees_and_nothing_else(
    folder, monkeypatch, capsys, measured, code
):
    path = run.write("align", {"kept": 1}, folder)
    old = json.loads(path.read_text())
    old["stamp"] |= {"code": "before", "date": "2026-01-01"}
    path.write_text(json.dumps(old))
    before = path.read_text()
    monkeypatch.setattr(align, "recheck", lambda table, work: two(0.5, measured))
    assert run.main(["align", "--recheck"]) == code
    found, out = json.loads(path.read_text()), capsys.readouterr().out
    if code:
        assert path.read_text() == before and "does NOT agree" in out
        return
    assert results.stale("align") == "" and found["table"] == {"kept": 1}
    assert found["stamp"]["date"] == "2026-01-01", "of the measurement"
    record = found["recheck"]
    assert (record["row"], record["agrees"]) == ("a row", True)
    assert (record["stored"], record["measured"]) == ({"top1": 0.5}, {"top1": 0.505})
    assert {"tolerance", "why", "date", "machine", "torch"} <= set(record)


def test_a_recheck_of_other_data_is_refused(folder, capsys):
    path = run.write("align", {}, folder)
    found = json.loads(path.read_text())
    found["stamp"]["data"] = "other"
    path.write_text(json.dumps(found))
    assert run.main(["align", "--recheck"]) == 2
    assert "the data have changed" in capsys.readouterr().err


def test_a_recheck_of_data_with_a_few_other_texts_keeps_what_was_said(
    folder, monkeypatch
):
    path = run.write("align", {}, folder)
    found = json.loads(path.read_text())
    found["stamp"]["data"] = "other"
    path.write_text(json.dumps(found))
    words = ["align", "--recheck", "--data-changed", "two names"]
    monkeypatch.setattr(align, "recheck", lambda table, work: two(0.5, 0.9))
    assert run.main(words) == 1 and json.loads(path.read_text()) == found
    monkeypatch.setattr(align, "recheck", lambda table, work: two(0.5, 0.505))
    assert run.main(words) == 0 and results.stale("align") == ""
    assert json.loads(path.read_text())["recheck"]["data_changed"] == "two names"


def test_a_recheck_wants_the_same_numbers_on_both_sides():
    with pytest.raises(ValueError, match="differ"):
        Recheck("a row", {"a": 1.0}, {"b": 1.0}, {"a": 1.0}, "")
    assert recheck.spread_of([1.0], 0.5) == 0.5


# ---- the runner


def test_the_runner_says_what_it_cannot_use(capsys):
    assert run.main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in results.NAMES)
    for words, why in (
        (["telepathy"], "no experiment 'telepathy'"),
        (["align", "--only", "half"], "only = 'half'"),
        (["align", "--jobs", "-1"], "jobs = -1"),
        (["align", "--set", "speed=3"], "fields are"),
        (["align", "--set", "n_train=many"], "n_train is a int"),
        (["privacy", "--set", "tweets=none.gz"], "no such file"),
    ):
        assert run.main(words) == 2, words
        assert why in capsys.readouterr().err


# ---- rows


def test_paired_references_learn_from_the_same_texts():
    split = comparison.split_of("minilm", "wordllama", 300, 0)
    model = METHODS["procrustes"]()
    comparison.fit(model, split, "minilm", "wordllama")
    both = torch.cat([split.source.ids, split.target.ids])
    rows = comparison.rows_with(comparison.load("minilm", "train"), both)
    assert rows.n == 600 and torch.equal(model.source_mean, rows.mean)


def test_summary_and_lines():
    rows = [
        {**dict.fromkeys((*comparison.NUMBERS, "seconds"), x), "pool": 4096}
        for x in (0.25, 1.0, 0.5)
    ]
    found = comparison.summary(rows)
    assert found["top1"] == {"median": 0.5, "min": 0.25, "max": 1.0}
    text = comparison.lines({"random": found})
    assert "0.500 (0.250 to 1.000)" in text[1] and len(text[0]) == len(text[1])


# ---- tasks


@dataclass(frozen=True)
class Square(store.Task):
    x: int

    def run(self, work):
        (work / f"ran-{self.x}").touch()
        if self.x < 0:
            raise DataError("negative")
        return {"y": self.x**2}


def test_a_stopped_experiment_goes_on(tmp_path, monkeypatch):
    kept = store.Store(tmp_path / "rows.json")
    with pytest.raises(DataError):
        workers.run_all([Square(2), Square(-1), Square(3)], kept, 0, "x", False)
    assert store.Store(kept.path).get(Square(2)) == {"y": 4}, "kept before the fault"
    (tmp_path / "ran-2").unlink()
    again = store.Store(kept.path)
    workers.run_all([Square(2), Square(3), Square(3)], again, 0, "x", False)
    assert not (tmp_path / "ran-2").exists() and again.get(Square(3)) == {"y": 9}
    monkeypatch.setattr(store, "code_of", lambda *_: {"other": "code"})
    assert again.get(Square(2)) is None, "what other code made is measured again"


def test_the_table_from_first_to_last_part(tmp_path, monkeypatch):
    pytest.importorskip("v2v_lite.align.diagnosis")
    keys = {t.key for p in align.PARTS for g in align.tasks_of(p, FAST) for t in g}
    tasks = {t for p in align.PARTS for g in align.tasks_of(p, FAST) for t in g}
    assert len(keys) == len(tasks)
    lacking = align.measure(FAST, tmp_path, ("main", "small"), jobs=0)[1]
    assert lacking == ["pairs", "time", "diagnosis"]
    found, lacking = align.measure(FAST, tmp_path, jobs=0)
    assert lacking == [] and found["main"]["random"]["seeds"] == 2
    (entry,) = found["pairs"]
    assert entry["procrustes"]["top1"]["median"] > entry["mean"]["top1"]["median"]
    assert set(found["time"]["seconds"]) == {"random", "identity"}
    study = found["diagnosis"]
    # Two seeds or one, and three corrupted maps, at each size.
    assert len(study["runs"]) == 5 + 4 and len(study["with_other_seeds"]["runs"]) == 1
    assert set(study["auc"]) == {f"minilm to wordllama, {n}" for n in (400, 300)}
    json.dumps(found)
    ran = []
    monkeypatch.setattr(align.Fit, "run", lambda *_: ran.append(1))
    assert align.measure(FAST, tmp_path, jobs=0)[0] == found and not ran


def test_two_processes_give_the_numbers_of_one(tmp_path):
    tasks = [align.Fit("random", "minilm", "wordllama", 300, s) for s in (0, 1)]
    stores = [store.Store(tmp_path / f"{jobs}" / "rows.json") for jobs in (0, 2)]
    for one, jobs in zip(stores, (0, 2), strict=True):
        workers.run_all(tasks, one, jobs, "fits", progress=False)
    for task in tasks:
        one, two = (kept.get(task) for kept in stores)
        assert one["rank"] == pytest.approx(two["rank"], rel=1e-3)


def test_the_plan_of_the_book():
    plan = align.Plan()
    assert len(plan.pairs) == 12 and plan.n_train == 16_384
    keys = [t.key for p in align.PARTS for g in align.tasks_of(p, plan) for t in g]
    mini = [key for key in set(keys) if key.startswith("fit-mini-")]
    assert len(mini) == 60, "mini-vec2vec is slow: no fit of it twice"


@dataclass(frozen=True)
class Sleep(store.Task):
    name: str

    def run(self, work):
        (work / f"{self.name}.pid").write_text(str(os.getpid()))
        time.sleep(60)
        return {}


STOPPED = """if True:
    import sys
    from pathlib import Path
    from experiments import store, workers
    from test_bench import Sleep

    if __name__ == "__main__":
        tasks = [Sleep(name) for name in "ab"]
        workers.run_all(tasks, store.Store(Path(sys.argv[1]) / "s.json"), 2, "x", False)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path, number):
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    path = os.pathsep.join(str(ROOT / p) for p in (".", "book", "tests", "tools"))
    call = [sys.executable, str(script), str(tmp_path)]
    parent = subprocess.Popen(
        call, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )
    until(lambda: len(list(tmp_path.glob("?.pid"))) == 2)
    pids = [int(p.read_text() or 0) for p in tmp_path.glob("?.pid")]
    parent.send_signal(number)
    assert parent.wait(20) != 0
    until(lambda: not any(map(alive, pids)))


def until(happens, seconds=60):
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.1)
    assert happens()


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().split()[2] == "Z")


# ---- the study of the diagnosis


def test_auc_and_spearman():
    assert diagnosis_study.auc([1, 0, 0.5, 0.5], [False, True, False, True]) == 0.875
    assert diagnosis_study.auc([1, 0], [False, False]) is None
    assert diagnosis_study.spearman([0.9, 0.5, 0.1], [1, 10, 1000]) == pytest.approx(1)


@pytest.mark.parametrize("recipe", diagnosis_study.CORRUPTED)
def test_corrupted_maps_are_worse(recipe):
    split = comparison.split_of("minilm", "wordllama", 2000, 0)
    good = METHODS["procrustes"]()
    comparison.fit(good, split, "minilm", "wordllama")
    before = comparison.row_of(good, split, 0)["rank"]
    bad = diagnosis_study.corrupt(recipe, good, split)
    assert comparison.row_of(bad, split, 0)["rank"] > 1.05 * before


@pytest.mark.parametrize("recipe", diagnosis_study.FITTED)
def test_bad_recipes_fit(recipe, monkeypatch):
    few = AnchorConfig(n_runs=4, n_clusters=8, n_init=3, n_restarts=2)
    small = SelfLearnConfig(few, phases=(Phase(2, 256, 0.05, 1.0, 0.0),) * 2)
    monkeypatch.setattr(diagnosis_study, "SelfLearnConfig", lambda: small)
    split = comparison.split_of("minilm", "wordllama", 300, 0)
    model = diagnosis_study.fit_badly(recipe, split)
    assert model.weight.shape == (384, 256) and model.weight.isfinite().all()


def test_noise_has_the_targets_moments():
    space = comparison.load("wordllama", "eval")
    noise = diagnosis_study.gaussian_like(space, 0)
    cosine = torch.cosine_similarity(noise.mean, space.mean, dim=0)
    assert noise.n == space.n and cosine > 0.99


# ---- what is stored


def test_imports_are_measured():
    found, _ = imports.measure(imports.Plan(1), Path())
    assert found["seconds"]["torch"] > 0 and found["ratio"] > 0.5


def test_the_readme_shows_the_stored_numbers():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_numbers.filled(text) == text, "run `python tools/readme_numbers.py`"


def test_the_numbers_block_from_a_table():
    stored = {"stamp": {"machine": "m", "torch": "t", "date": "d"}, "table": {}}
    assert "not measured" in readme_numbers.block(None)
    with pytest.raises(SystemExit, match="markers"):
        readme_numbers.filled("no markers")
    assert "d" in readme_numbers.block(stored)
