"""The bench: stamps, restarts, the study's arithmetic, and one row measured again."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import readme_numbers
import torch

from v2v_lite.align.anchors import AnchorConfig
from v2v_lite.align.selflearn import Phase, SelfLearnConfig
from v2v_lite.bench import align, diagnosis, imports, pool, results, table
from v2v_lite.spaces import DataError

ROOT = Path(__file__).resolve().parent.parent
FAST = align.Plan(
    pairs=(("minilm", "wordllama"),), study_pairs=(("minilm", "wordllama"),),
    main=("minilm", "wordllama"), n_train=400,
    n_small=300, main_seeds=2, seeds=2, study_seeds=1, repeats=1, ours="random",
    peer="identity", once=("mean", "procrustes"), fitted=(),
    spoiled=("random", "axes", "twist8"),
)  # fmt: skip


# ---- results


def test_a_result_comes_back_with_its_circumstances(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "results_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="v2v bench align"):
        results.load("align")
    path = results.write("align", {"a": 1})
    found = results.load("align")
    assert found["table"] == {"a": 1} and path.parent == tmp_path
    stamp = found["stamp"]
    assert set(stamp) == {"code", "data", "machine", "torch", "date"}
    assert re.fullmatch(r"\d+ cores \w+", stamp["machine"])
    assert results.stale("align") == ""
    found["stamp"]["code"] = "other"
    path.write_text(json.dumps(found))
    assert "code changed" in results.stale("align")
    path.write_text("[]")
    with pytest.raises(DataError, match="measure it again"):
        results.load("align")


def test_the_code_hash_follows_code_and_not_words(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PACKAGE", tmp_path)

    def hash_of(**sources):
        for name, text in sources.items():
            (tmp_path / f"{name}.py").write_text(text)
        results.code_hash.cache_clear()
        return results.code_hash(("a",))

    first = hash_of(a='"""Doc."""\nfrom .b import x\n', b="x = 1  # one\n")
    assert hash_of(a='"""Other."""\n\nfrom .b import x\n', b="# !\nx = 1\n") == first
    assert hash_of(b="x = 2\n") != first
    results.code_hash.cache_clear()


def test_the_measured_modules_exist_and_are_followed():
    for modules in results.MADE_BY.values():
        for name in modules:
            assert (results.PACKAGE / f"{name}.py").is_file(), name
    alone = results.code_hash(("spaces/splits",))
    assert results.code_hash(("align/mini_vec2vec",)) != alone


# ---- rows


def test_paired_references_learn_from_the_same_texts():
    split = table.split_of("minilm", "wordllama", 300, 0)
    model = align.METHODS["procrustes"]()
    table.fit(model, split, "minilm", "wordllama")
    both = torch.cat([split.source.ids, split.target.ids])
    rows = table.rows_with(table.load("minilm", "train"), both)
    assert rows.n == 600 and torch.equal(model.source_mean, rows.mean)


def test_summary_and_lines():
    rows = [
        {**dict.fromkeys((*table.NUMBERS, "seconds"), x), "pool": 4096}
        for x in (0.25, 1.0, 0.5)
    ]
    found = table.summary(rows)
    assert found["top1"] == {"median": 0.5, "min": 0.25, "max": 1.0}
    text = table.lines({"random": found})
    assert "0.500 (0.250 to 1.000)" in text[1] and len(text[0]) == len(text[1])


# ---- tasks


@dataclass(frozen=True)
class Square:
    x: int
    code: str = "1"

    @property
    def key(self):
        return f"square-{self.x}"

    def run(self, work):
        (work / f"ran-{self.x}").touch()
        if self.x < 0:
            raise DataError("negative")
        return {"y": self.x**2}


def test_a_stopped_bench_goes_on(tmp_path):
    store = pool.Store(tmp_path / "rows.json")
    with pytest.raises(DataError):
        pool.run_all([Square(2), Square(-1), Square(3)], store, 0, "x", False)
    assert pool.Store(store.path).get(Square(2)) == {"y": 4}, "kept before the fault"
    (tmp_path / "ran-2").unlink()
    again = pool.Store(store.path)
    pool.run_all([Square(2), Square(3), Square(3)], again, 0, "x", False)
    assert not (tmp_path / "ran-2").exists() and again.get(Square(3)) == {"y": 9}
    assert again.get(Square(2, code="2")) is None, "other code is measured again"


def test_the_table_from_first_to_last_part(tmp_path, monkeypatch):
    pytest.importorskip("v2v_lite.align.diagnosis")
    keys = {t.key for p in align.PARTS for g in align.tasks_of(p, FAST) for t in g}
    tasks = {t for p in align.PARTS for g in align.tasks_of(p, FAST) for t in g}
    assert len(keys) == len(tasks)
    lacking = align.run(FAST, tmp_path, ("main", "small"), jobs=0)[1]
    assert lacking == ["pairs", "time", "diagnosis"]
    found, lacking = align.run(FAST, tmp_path, jobs=0)
    assert lacking == [] and found["main"]["random"]["seeds"] == 2
    (entry,) = found["pairs"]
    assert entry["procrustes"]["top1"]["median"] > entry["mean"]["top1"]["median"]
    assert set(found["time"]["seconds"]) == {"random", "identity"}
    study = found["diagnosis"]
    # Two seeds or one, and three spoiled maps, at each size.
    assert len(study["runs"]) == 5 + 4 and len(study["with_rivals"]["runs"]) == 1
    assert set(study["auc"]) == {f"minilm to wordllama, {n}" for n in (400, 300)}
    json.dumps(found)
    ran = []
    monkeypatch.setattr(align.Fit, "run", lambda *_: ran.append(1))
    assert align.run(FAST, tmp_path, jobs=0)[0] == found and not ran


def test_two_processes_give_the_numbers_of_one(tmp_path):
    tasks = [align.Fit("random", "minilm", "wordllama", 300, s) for s in (0, 1)]
    stores = [pool.Store(tmp_path / f"{jobs}" / "rows.json") for jobs in (0, 2)]
    for store, jobs in zip(stores, (0, 2), strict=True):
        pool.run_all(tasks, store, jobs, "fits", progress=False)
    for task in tasks:
        one, two = (store.get(task) for store in stores)
        assert one["rank"] == pytest.approx(two["rank"], rel=1e-3)


def test_the_plan_of_the_book():
    plan = align.Plan()
    assert len(plan.pairs) == 12 and plan.n_train == 16_384
    keys = [t.key for p in align.PARTS for g in align.tasks_of(p, plan) for t in g]
    mini = [key for key in set(keys) if key.startswith("mini-")]
    assert len(mini) == 60, "the peer is slow: no fit of it twice"


# ---- the study of the diagnosis


def test_auc_and_spearman():
    assert diagnosis.auc([1, 0, 0.5, 0.5], [False, True, False, True]) == 0.875
    assert diagnosis.auc([1, 0], [False, False]) is None
    assert diagnosis.spearman([0.9, 0.5, 0.1], [1, 10, 1000]) == pytest.approx(1)


@pytest.mark.parametrize("recipe", diagnosis.SPOILED)
def test_spoiled_maps_are_worse(recipe):
    split = table.split_of("minilm", "wordllama", 2000, 0)
    good = align.METHODS["procrustes"]()
    table.fit(good, split, "minilm", "wordllama")
    before = table.row_of(good, split, 0)["rank"]
    bad = diagnosis.spoil(recipe, good, split)
    assert table.row_of(bad, split, 0)["rank"] > 1.05 * before


@pytest.mark.parametrize("recipe", diagnosis.FITTED)
def test_bad_recipes_fit(recipe, monkeypatch):
    few = AnchorConfig(n_runs=4, n_clusters=8, n_init=3, n_restarts=2)
    small = SelfLearnConfig(few, phases=(Phase(2, 256, 0.05, 1.0, 0.0),) * 2)
    monkeypatch.setattr(diagnosis, "SelfLearnConfig", lambda: small)
    split = table.split_of("minilm", "wordllama", 300, 0)
    model = diagnosis.fit_badly(recipe, split)
    assert model.weight.shape == (384, 256) and model.weight.isfinite().all()


def test_noise_has_the_targets_moments():
    space = table.load("wordllama", "eval")
    noise = diagnosis.gaussian_like(space, 0)
    cosine = torch.cosine_similarity(noise.mean, space.mean, dim=0)
    assert noise.n == space.n and cosine > 0.99


# ---- what is stored


def test_imports_are_measured():
    found = imports.measure(repeats=1)
    assert found["seconds"]["torch"] > 0 and found["ratio"] > 0.5


def test_one_row_of_the_stored_table_again():
    """A cheap row; a result that no longer follows from the code is found here."""
    try:
        stored = results.load("align")["table"]
    except DataError:
        pytest.skip("not measured yet")
    pair = {"source": "minilm", "target": "wordllama"}
    (entry,) = [e for e in stored["pairs"] if pair.items() <= e.items()]
    row, _ = table.measure("procrustes", *pair.values(), stored["n_train"])
    for key in ("top1", "rank", "cosine"):
        assert row[key] == pytest.approx(entry["procrustes"][key]["median"], rel=2e-3)


def test_the_readme_shows_the_stored_numbers():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_numbers.filled(text) == text, "run `python tools/readme_numbers.py`"


def test_the_numbers_block_from_a_table():
    stored = {"stamp": {"machine": "m", "torch": "t", "date": "d"}, "table": {}}
    assert "not measured" in readme_numbers.block(None)
    with pytest.raises(SystemExit, match="markers"):
        readme_numbers.filled("no markers")
    assert "d" in readme_numbers.block(stored)
