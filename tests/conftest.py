"""Shared fixtures, and what the markers `gpu` and `network` leave out.

`generator`, `rows`, `rotation`, `cloud`, `noisy` and `world` are functions: a test
calls them with the sizes and the seed that it needs (see `problems`).
"""

from __future__ import annotations

import os

import problems
import pytest


def pytest_collection_modifyitems(items) -> None:
    import torch

    skips = {
        "gpu": (torch.cuda.is_available(), "needs a CUDA device"),
        "network": (os.environ.get("V2V_NETWORK"), "set V2V_NETWORK=1 to run it"),
    }
    for item in items:
        for name, (there, reason) in skips.items():
            if not there and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason))


def _shared(function):
    """A fixture that gives a function of `problems`."""

    @pytest.fixture(scope="session", name=function.__name__)
    def fixture():
        return function

    fixture.__doc__ = function.__doc__
    return fixture


generator = _shared(problems.generator)
rows = _shared(problems.rows)
rotation = _shared(problems.rotation)
cloud = _shared(problems.cloud)
noisy = _shared(problems.noisy)
world = _shared(problems.world)


@pytest.fixture(scope="session")
def split():
    """MiniLM and Granite without pairs: 4,000 disjoint training texts a side."""
    from v2v_lite.spaces import load, unpaired

    return unpaired(load("minilm"), load("granite"), seed=0, n_train=4000)


# ---- the command line


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory: commands write below it, not into the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def v2v(elsewhere):
    """`v2v(*words, expect=0)` runs a command in `elsewhere`, checks its exit code."""
    from v2v_lite.cli import main

    def run(*words, expect: int = 0) -> None:
        assert main([str(word) for word in words]) == expect

    return run


@pytest.fixture
def fails(v2v, capsys):
    """`fails(*words)`: the one line that a command ends in when its input is bad."""

    def run(*words) -> str:
        capsys.readouterr()
        v2v(*words, expect=2)
        out, err = capsys.readouterr()
        last = err.strip().splitlines()[-1]
        assert out == "" and last.startswith("v2v: ") and "Traceback" not in err
        return last

    return run
