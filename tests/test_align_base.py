"""What every translator must keep: one row as a batch, saving, loading, refusing."""

import json
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.align import METHODS, LinearTranslator, Translator, centred, polar
from v2v_lite.align.saved import HEADER, WEIGHTS
from v2v_lite.spaces.files import DataError
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


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 9), st.integers(2, 9))
def test_polar_is_semi_orthogonal_and_nearest(seed, d_source, d_target):
    generator = torch.Generator().manual_seed(seed)
    m = torch.randn(d_source, d_target, generator=generator)
    w = polar(m)
    small = w @ w.T if d_source <= d_target else w.T @ w
    torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)
    assert (w * m).sum() >= (polar(torch.randn_like(m)) * m).sum() - 1e-4


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
    with pytest.raises(DataError, match=f"{file}: there is no such file"):
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
        with pytest.raises(DataError, match="this version reads"):
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

    Zero().fit(*spaces()).save(tmp_path)
    assert isinstance(Translator.load(tmp_path), Zero)
