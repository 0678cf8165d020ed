"""Rows are checked, named when bad, and brought to length one."""

import hashlib
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from v2v_lite.spaces import (
    DataError,
    check_not_degenerate,
    check_rows,
    text_ids,
    texts_sha256,
    unit,
)
from v2v_lite.spaces.rows import repeats
from v2v_lite.spaces.texts import check_texts

finite = st.floats(-1e3, 1e3, width=32).map(lambda v: v if abs(v) > 1e-3 else 1.0)
tables = arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(2, 9)), elements=finite
)


@given(tables)
@settings(max_examples=50, deadline=None)
def test_unit_rows_agree_with_numpy_and_are_idempotent(x):
    wide = x.astype(np.float64)
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    rows = check_rows(x)
    np.testing.assert_allclose(rows.numpy(), expected, atol=1e-6)
    torch.testing.assert_close(unit(rows), rows, rtol=0, atol=3e-7)
    torch.testing.assert_close(check_rows(rows), rows, rtol=0, atol=3e-7)


@given(
    n=st.integers(1, 40),
    bad=st.sets(st.integers(0, 39)),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 0.0]),
)
@settings(max_examples=80, deadline=None)
def test_exactly_the_bad_rows_are_named(n, bad, value):
    bad = sorted(i for i in bad if i < n)
    x = np.random.default_rng(n).normal(size=(n, 3))
    x[bad] = value if value == 0 else x[bad]
    x[bad, 1] = value
    if not bad:
        assert check_rows(x).shape == (n, 3)
        return
    with pytest.raises(DataError) as caught:
        check_rows(x, "mine")
    words = str(caught.value).split(";")[0]
    assert words.startswith("mine: row")
    rows = words.removeprefix("mine: ")
    named = [int(i) for i in re.findall(r"\d+", re.split(" and|:", rows)[0])]
    assert named == bad[:5]
    assert ("more" in words) == (len(bad) > 5)
    if len(bad) > 5:
        assert f"and {len(bad) - 5} more" in words


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 3)) + 1j, "complex128"),
        (np.array([["a", "b"]]), "not numbers"),
        (np.ones((2, 3), dtype=bool), "bool"),
        (torch.ones(2, 3, dtype=torch.bool), "bool"),
        ([[1.0, 2.0], [3.0]], "same length"),
        ([object(), object()], "not numbers.*np.stack"),
        ([torch.ones(2), torch.ones(3)], "not a table of numbers"),
        (torch.ones(2, 3).to_sparse(), "to_dense"),
        (torch.ones(4), r"shape \(4,\).*x\[None, :\]"),
        (torch.ones(2, 3, 4), r"shape \(2, 3, 4\)"),
        (torch.ones(5, 1), "d = 1"),
        (torch.ones(0, 4), "0 rows, but at least 1"),
        (np.array([[1e300, 1.0]]), "row 0: an infinite value"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(x, message):
    with pytest.raises(DataError, match=message):
        check_rows(x)


def test_min_rows_is_said():
    with pytest.raises(DataError, match="3 rows, but at least 20 are needed"):
        check_rows(torch.ones(3, 4), min_rows=20)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1.0, 1e30])
def test_lengths_at_the_ends_of_float32_still_become_one(size):
    rows = check_rows(torch.tensor([[3.0, 4.0]]) * size)
    assert abs(float(rows.norm()) - 1) < 1e-6


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint16, np.int64, np.float16, np.float64, ">f4"]
)
def test_every_real_type_is_taken_and_lengths_stay_when_asked(dtype):
    x = np.array([[3, 4], [1, 0]], dtype=dtype)
    kept = check_rows(x, unit_rows=False)
    assert kept.dtype == torch.float32
    assert kept.tolist() == [[3.0, 4.0], [1.0, 0.0]]


def test_a_callers_array_is_not_aliased():
    x = np.ones((2, 3), np.float32)
    rows = check_rows(x, unit_rows=False)
    x[:] = 7
    assert rows.max() == 1


def test_unit_has_a_gradient_and_leaves_zero_rows():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    unit(x)[0, 0].backward()
    assert x.grad[0].tolist() == pytest.approx([0.128, -0.096])  # (I - uu')/|x| by hand
    assert unit(x)[1].tolist() == [0, 0]


def test_ids_and_hash_are_those_of_hashlib():
    texts = ["one", "zwei", "drei ü", ""]
    expected = [
        int.from_bytes(hashlib.sha256(t.encode()).digest()[:8], "little", signed=True)
        for t in texts
    ]
    ids = text_ids(texts)
    assert ids.dtype == torch.int64
    assert ids.tolist() == expected
    assert texts_sha256(texts) == hashlib.sha256("\n".join(texts).encode()).hexdigest()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "empty"),
        ("one string", "one string"),
        (["a", 3, None], "rows 1, 2: not a string but int"),
    ],
)
def test_what_are_no_texts_is_refused(texts, message):
    with pytest.raises(DataError, match=message):
        check_texts(texts)


def varied(n=500, d=16):
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))


def test_rows_that_any_fit_can_use_pass():
    check_not_degenerate(varied())
    check_not_degenerate(torch.cat([varied(), varied()[:400]]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (varied()[:1].expand(500, -1), "x: all 500 rows are the same"),
        (unit(varied()[:1] + 1e-8 * varied()), "x: all 500 rows are the same"),
        (varied()[[0] * 475 + [*range(25)]], "x: only 25 of 500 rows differ"),
        (varied()[[0] * 250 + [1] * 250], "x: only 2 of 500 rows differ"),
        (
            unit(varied()[[0] * 475 + [*range(25)]] + 1e-6 * varied(500)),
            "x: only 25 of 500 rows differ by more than rounding",
        ),
        (
            torch.linspace(1, 2, 50)[:, None] * varied()[:1],
            "x: the rows lie on one line",
        ),
    ],
)
def test_rows_that_hold_too_little_for_a_fit_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        check_not_degenerate(rows, "x")


@given(st.lists(st.integers(0, 4), max_size=12))
def test_repeats_are_those_of_a_loop(values):
    expected = [i for i, v in enumerate(values) if v in values[:i]]
    assert repeats(torch.tensor(values, dtype=torch.int64)) == expected
    if values:
        assert repeats(torch.tensor(values)[:, None] * torch.ones(3)) == expected
