"""What every translator must keep: one row as a batch, saving, loading, refusing."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from v2v_lite.align import METHODS, LinearTranslator, Translator, centred, saved
from v2v_lite.align.saved import HEADER, WEIGHTS
from v2v_lite.spaces.files import DataError
from v2v_lite.spaces.headers import write_tensors
from v2v_lite.spaces.space import Space

QUICK = ("identity", "mean", "random", "procrustes", "whitened", "ridge", "mlp")


def spaces(n=80, d_source=7, d_target=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    latent = torch.randn(n, 5, generator=generator)
    sides = []
    for name, d in (("a", d_source), ("b", d_target)):
        map_ = torch.randn(5, d, generator=generator)
        sides.append(Space.of(latent @ map_ + 0.5, encoder=name))
    return sides


def fitted(method="procrustes", **sizes):
    return METHODS[method]().fit(*spaces(**sizes))


@pytest.mark.parametrize("method", QUICK)
@pytest.mark.parametrize("widths", [(5, 7), (7, 5), (6, 6)])
def test_rows_one_by_one_are_the_batch(method, widths):
    source, target = spaces(d_source=widths[0], d_target=widths[1])
    model = METHODS[method]().fit(source, target)
    batch = model.translate(source)
    assert batch.shape == (80, widths[1])
    torch.testing.assert_close(batch.norm(dim=1), torch.ones(80))
    alone = torch.cat([model.translate(row[None]) for row in source.vectors])
    torch.testing.assert_close(alone, batch, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", QUICK)
def test_saved_and_loaded_it_is_the_same(method, tmp_path):
    model = fitted(method)
    model.save(tmp_path / "model")
    again = Translator.load(tmp_path / "model")
    assert type(again) is METHODS[method]
    assert (again.source_name, again.target_name) == ("a", "b")
    assert again.history == model.history and again.seed == model.seed
    source = spaces(seed=1)[0]
    assert torch.equal(again.translate(source), model.translate(source))


def test_translation_is_its_formula():
    source, target = spaces()
    model = fitted("procrustes")
    x = source.vectors - source.mean
    core = torch.nn.functional.normalize(x @ model.weight)
    torch.testing.assert_close(model.direction(source), core)
    scale = (target.vectors - target.mean).norm(dim=1).mean()
    want = torch.nn.functional.normalize(target.mean + scale * core)
    torch.testing.assert_close(model.translate(source), want)


def test_the_training_mean_of_a_space_is_used():
    source, target = spaces()
    part = source.take(slice(0, 10))  # carries the mean of all 80
    rows, mean = centred(part)
    assert torch.equal(mean, source.mean)
    model = METHODS["random"]().fit(part, target)
    assert torch.equal(model.source_mean, source.mean)


def test_arrays_and_lists_are_rows_too():
    source, target = spaces()
    model = METHODS["procrustes"]().fit(source.vectors.numpy(), target.vectors.tolist())
    want = fitted("procrustes").translate(source)
    torch.testing.assert_close(model.translate(source.vectors.numpy()), want)


def test_another_encoder_is_refused():
    model = fitted()
    other = Space.of(torch.randn(3, 7), encoder="c")
    with pytest.raises(DataError, match="rows of c .* translates from a"):
        model.translate(other)
    assert model.translate(Space.of(torch.randn(3, 7))).shape == (3, 5)


def test_another_width_is_refused_with_both():
    with pytest.raises(DataError, match="6-d.*fitted on 7-d"):
        fitted().translate(torch.randn(3, 6))


def test_before_fit_nothing_works(tmp_path):
    model = METHODS["procrustes"]()
    with pytest.raises(DataError, match="not fitted"):
        model.translate(torch.randn(3, 7))
    with pytest.raises(DataError, match="not fitted"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_bad_rows_are_named():
    source, target = spaces()
    bad = source.vectors.clone()
    bad[4, 2] = float("inf")
    with pytest.raises(DataError, match="source: row 4.*infinite"):
        METHODS["random"]().fit(bad, target)
    with pytest.raises(DataError, match="row 4"):
        fitted().translate(bad)
    with pytest.raises(DataError, match="d = 1"):
        METHODS["random"]().fit(np.ones((5, 1)), target)


@pytest.mark.parametrize("method", ["procrustes", "whitened", "ridge", "mlp"])
def test_pairs_must_be_pairs(method):
    source, target = spaces()
    with pytest.raises(DataError, match="79 rows and target 80"):
        METHODS[method]().fit(source.take(slice(1, None)), target)
    with pytest.raises(DataError, match="source has 1 rows"):
        METHODS[method]().fit(source.vectors[:1], target.vectors[:1])


def test_a_failed_fit_leaves_the_old_map():
    model = fitted()
    before = model.translate(spaces()[0])
    with pytest.raises(DataError):
        model.fit(torch.randn(3, 7), torch.randn(4, 5))
    assert torch.equal(model.translate(spaces()[0]), before)


@pytest.mark.parametrize("interrupted", [0, 1])
def test_an_interrupted_save_leaves_a_whole_model(tmp_path, monkeypatch, interrupted):
    old, new = fitted(seed=0), fitted(seed=5)
    old.save(tmp_path)
    replace, calls = os.replace, []

    def stop(*paths):
        calls.append(paths)
        if len(calls) > interrupted:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        new.save(tmp_path)
    monkeypatch.undo()
    whole = (old, new)[interrupted]
    source = spaces(seed=9)[0]
    assert torch.equal(
        Translator.load(tmp_path).translate(source), whole.translate(source)
    )
    assert sorted(os.listdir(tmp_path)) == [HEADER, WEIGHTS]


def test_other_files_in_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    fitted().save(tmp_path)
    fitted().save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("file", [HEADER, WEIGHTS])
def test_missing_and_truncated_files(tmp_path, file):
    fitted().save(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=file):
        Translator.load(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(DataError, match=f"folder has no {file}; copy"):
        Translator.load(tmp_path)


def test_altered_weights_and_other_versions(tmp_path):
    fitted().save(tmp_path)
    data = bytearray((tmp_path / WEIGHTS).read_bytes())
    data[-3] ^= 1
    (tmp_path / WEIGHTS).write_bytes(bytes(data))
    with pytest.raises(DataError, match="altered"):
        Translator.load(tmp_path)
    header = json.loads((tmp_path / HEADER).read_text())
    for changed in (header | {"format": "v2v-translator-99"}, [], "?"):
        (tmp_path / HEADER).write_text(json.dumps(changed))
        with pytest.raises(DataError, match="this version reads|no table"):
            Translator.load(tmp_path)


def test_load_of_the_wrong_class(tmp_path):
    fitted("ridge").save(tmp_path)
    assert LinearTranslator.load(tmp_path).name == "ridge"
    with pytest.raises(DataError, match="holds a ridge, not a procrustes"):
        METHODS["procrustes"].load(tmp_path)


def test_methods_by_name():
    assert set(QUICK) | {"mini", "selflearn"} <= set(METHODS)
    assert all(METHODS[name].name == name for name in QUICK)
    assert {n for n in QUICK if METHODS[n].paired} == {
        "procrustes",
        "whitened",
        "ridge",
        "mlp",
    }
    assert "telepathy" not in METHODS
    with pytest.raises(DataError, match="telepathy.*procrustes"):
        METHODS["telepathy"]


def test_a_method_of_ones_own_saves_and_loads(tmp_path):
    class Zero(LinearTranslator):
        name = "test-zero"

        def _learn(self, x, y, seed, progress):
            return torch.zeros(x.shape[1], y.shape[1]), ()

    class Nameless(Zero):  # has no name of its own, so Zero stays the one known
        pass

    Zero().fit(*spaces()).save(tmp_path)
    assert type(Translator.load(tmp_path)) is Zero is METHODS["test-zero"]


def test_a_given_map_is_a_translator(tmp_path):
    source, target = spaces()
    fit = fitted("procrustes")
    model = LinearTranslator.from_map(fit.weight, source, target, seed=4)
    assert torch.equal(model.translate(source), fit.translate(source))
    assert (model.source_name, model.widths, model.seed) == ("a", (7, 5), 4)
    model.save(tmp_path)
    assert type(Translator.load(tmp_path)) is LinearTranslator
    for bad in (fit.weight.T, fit.weight * float("nan")):
        with pytest.raises(DataError, match="a map of shape"):
            LinearTranslator.from_map(bad, source, target)
    with pytest.raises(DataError, match="from_map"):
        LinearTranslator().fit(source, target)


# Rows that nothing can be learned from.


def degenerate(kind, n=500, d=16):
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(n, d, generator=g)
    if kind == "all equal":
        rows = rows[:1].expand(n, -1)
    elif kind == "equal but for rounding":
        rows = rows[:1] * (1 + 1e-7 * torch.rand(n, d, generator=g))
    elif kind == "475 of 500 equal":
        rows = torch.cat([rows[:1].expand(475, -1), rows[475:]])
    elif kind == "two rows":
        rows = rows[:2].repeat(n // 2, 1)
    elif kind == "rank one":
        rows = torch.randn(n, 1, generator=g) * rows[:1]
    return rows.clone()


@pytest.mark.parametrize(
    "kind",
    "all equal|equal but for rounding|475 of 500 equal|two rows|rank one".split("|"),
)
@pytest.mark.parametrize("method", sorted(set(METHODS) - {"vec2vec", "linear"}))
def test_degenerate_rows_are_refused_by_every_method(method, kind):
    good = torch.randn(500, 12, generator=torch.Generator().manual_seed(1))
    why = "(all 500 rows are the same|of 500 rows differ|lie on one line)"
    with pytest.raises(DataError, match=f"source: .*{why}"):
        METHODS[method]().fit(degenerate(kind), good)
    with pytest.raises(DataError, match=f"target: .*{why}"):
        METHODS[method]().fit(good, degenerate(kind))


def test_duplicates_that_leave_enough_rows_are_legal():
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    doubled = torch.cat([x, x])
    assert METHODS["ridge"]().fit(doubled, doubled).translate(x).isfinite().all()


def test_a_failed_decomposition_is_one_clear_error(monkeypatch):
    def fail(self, x, y):
        raise torch.linalg.LinAlgError("svd: did not converge")

    monkeypatch.setattr(METHODS["procrustes"], "_map", fail)
    with pytest.raises(DataError, match="too few directions"):
        fitted("procrustes")


# Folders that were altered, cut, or written by another version.


def resave(folder, change_header=None, change_tensors=None):
    """Write a folder again with a valid digest, its content changed."""
    tensors = load_file(folder / WEIGHTS)
    header = json.loads((folder / HEADER).read_text())
    if change_tensors:
        tensors = change_tensors(tensors)
    header = (change_header or dict)(header)
    write_tensors(folder / WEIGHTS, tensors, header)
    (folder / HEADER).write_text(json.dumps(header))


HEADERS = {
    "no method": lambda h: {k: v for k, v in h.items() if k != "method"},
    "unknown method": lambda h: h | {"method": "telepathy"},
    "method of another type": lambda h: h | {"method": ["procrustes"]},
    "method null": lambda h: h | {"method": None},
    "method with other tensors": lambda h: h | {"method": "mlp"},
    "plan's method": lambda h: h | {"method": "hungarian"},
    "widths null": lambda h: h | {"widths": None},
    "widths missing": lambda h: {k: v for k, v in h.items() if k != "widths"},
    "one width": lambda h: h | {"widths": [7]},
    "widths of text": lambda h: h | {"widths": ["7", "5"]},
    "widths of booleans": lambda h: h | {"widths": [True, True]},
    "other widths": lambda h: h | {"widths": [5, 7]},
    "negative widths": lambda h: h | {"widths": [-7, 5]},
    "huge widths": lambda h: h | {"widths": [10**30, 5]},
    "seed of text": lambda h: h | {"seed": "0"},
    "target null": lambda h: h | {"target": None},
    "source a number": lambda h: h | {"source": 3},
    "history a dict": lambda h: h | {"history": {}},
    "history of numbers": lambda h: h | {"history": [1, 2]},
    "stages without a name": lambda h: h | {"history": [{"objective": 1}]},
    "stages with other fields": lambda h: h | {"history": [{"colour": "red"}]},
    "source with a control": lambda h: h | {"source": "a\x1b[2J"},
    "source without end": lambda h: h | {"source": "a" * 5000},
}
TENSORS = {
    "no weight": lambda t: {k: v for k, v in t.items() if k != "weight"},
    "no scale": lambda t: {k: v for k, v in t.items() if k != "scale"},
    "no tensors": lambda t: {},
    "weight turned": lambda t: t | {"weight": t["weight"].T.contiguous()},
    "weight flat": lambda t: t | {"weight": t["weight"].flatten()},
    "weight a number": lambda t: t | {"weight": torch.tensor(1.0)},
    "weight of integers": lambda t: t | {"weight": t["weight"].long()},
    "weight NaN": lambda t: t | {"weight": t["weight"] * float("nan")},
    "weight infinite": lambda t: t | {"weight": t["weight"] / 0},
    "mean too long": lambda t: t | {"source_mean": torch.zeros(9)},
    "mean complex": lambda t: t | {"source_mean": t["source_mean"].to(torch.cfloat)},
    "scale a vector": lambda t: t | {"scale": torch.ones(3)},
    "scale NaN": lambda t: t | {"scale": torch.tensor(float("nan"))},
}


@pytest.mark.parametrize("change", HEADERS.values(), ids=HEADERS)
def test_altered_headers_end_in_one_line(tmp_path, change):
    fitted().save(tmp_path)
    resave(tmp_path, change_header=change)
    with pytest.raises(DataError) as error:
        Translator.load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS)
def test_altered_tensors_end_in_one_line(tmp_path, change):
    fitted().save(tmp_path)
    resave(tmp_path, change_tensors=change)
    with pytest.raises(DataError) as error:
        Translator.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_header_of_an_older_version_loads_with_defaults(tmp_path):
    model = fitted()
    model.save(tmp_path)
    newer = ("source", "target", "seed", "history")
    resave(tmp_path, lambda h: {k: v for k, v in h.items() if k not in newer})
    again = Translator.load(tmp_path)
    assert (again.source_name, again.seed, again.history) == ("unknown", 0, ())
    assert torch.equal(again.weight, model.weight)


def test_plans_saved_under_old_names_load(tmp_path):
    source, target = spaces(n=30)
    model = METHODS["hungarian"]().fit(source, target)
    model.save(tmp_path)
    old = {"projected": "images", "n_neighbors": "neighbours"}
    resave(tmp_path, change_tensors=lambda t: {old.get(k, k): v for k, v in t.items()})
    again = Translator.load(tmp_path)
    assert torch.equal(again.translate(source), model.translate(source))


def test_a_diagnosis_of_the_model_before_goes(tmp_path):
    fitted().save(tmp_path)
    (tmp_path / saved.DIAGNOSIS).write_text("{}")
    with pytest.raises(DataError, match="not fitted"):
        METHODS["ridge"]().save(tmp_path)
    assert (tmp_path / saved.DIAGNOSIS).exists()  # nothing was saved
    fitted("ridge").save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [HEADER, WEIGHTS]
