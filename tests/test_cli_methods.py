"""Methods as the command line makes them, what it says of their time and of a fit."""

import re
from types import SimpleNamespace

import pytest

from v2v_lite.align.base import Stage
from v2v_lite.cli import methods
from v2v_lite.cli.base import UsageError
from v2v_lite.cli.methods import expected_time, made, remarks


@pytest.mark.parametrize(
    ("start", "tries"), [("best", 1), ("anchors", 2), ("grown", 2)]
)
def test_a_start_is_tried_twice_in_all(start, tries):
    config = made("selflearn", start).config
    assert (config.start, config.n_init) == (start, tries)


def test_other_methods_have_no_start():
    assert made("mean").name == "mean"
    with pytest.raises(UsageError, match="--start grown is an option of selflearn"):
        made("mean", "grown")
    with pytest.raises(UsageError, match="no method 'procrustes'"):
        made("procrustes")  # which needs pairs


def test_a_long_fit_says_so_and_a_short_one_does_not(monkeypatch):
    def side(n):
        return SimpleNamespace(n=n, d=384, vectors=SimpleNamespace(is_cuda=False))

    monkeypatch.setattr(methods, "LONG", 0)
    found = expected_time(made("selflearn"), side(16_384), side(16_384))
    assert re.fullmatch(r", about \d+ minutes", found)
    assert expected_time(made("mean"), side(16_384), side(16_384)) == ""
    monkeypatch.setattr(methods, "LONG", 1e9)
    assert expected_time(made("selflearn"), side(50), side(50)) == ""


def test_axes_that_were_left_out_are_counted_from_one():
    model = made("selflearn")
    assert list(remarks(model)) == []
    detail = {"source_without": (), "target_without": (0, 1)}
    model.history = (Stage("anchors", 0.5, 1.0, detail),)
    assert list(remarks(model)) == [
        "left out, as the target alone has it: leading axis 1, 2"
    ]
