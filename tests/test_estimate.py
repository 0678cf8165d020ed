"""The one estimate against NumPy and SciPy, and its edges."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import sem

from v2v_lite.measure import Estimate
from v2v_lite.spaces import DataError


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
def test_it_is_the_mean_and_scipys_standard_error(values):
    found = Estimate.of(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.se == pytest.approx(sem(values), rel=1e-9, abs=1e-9)


def test_shares_and_whole_numbers():
    found = Estimate.of(torch.tensor([True, False, False, True]))
    assert (found.mean, found.n) == (0.5, 4)
    assert found.se == pytest.approx((1 / 3) ** 0.5 / 2)
    assert Estimate.of(torch.tensor([1, 2, 3])).mean == 2
    assert str(found) == "0.500 ± 0.289"


def test_one_value_has_no_known_error_and_none_is_refused():
    assert Estimate.of([3.0]) == Estimate(3.0, 0.0, 1)
    with pytest.raises(DataError, match="no values"):
        Estimate.of([])
