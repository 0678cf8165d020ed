"""Near-repeats found by blocks are those found all at once."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.spaces.texts import drop_near


@given(n=st.integers(1, 40), block=st.integers(1, 50), threshold=st.floats(0.05, 0.999))
@settings(max_examples=60, deadline=None)
def test_blocks_do_not_matter(n, block, threshold):
    x = np.random.default_rng(n).normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosines = np.tril(x @ x.T, -1)
    highest = np.where(np.arange(n) > 0, cosines.max(1), -1.0)
    clear = np.abs(highest - threshold) > 1e-5
    kept = torch.zeros(n, dtype=torch.bool)
    kept[drop_near(torch.tensor(x), threshold, block)] = True
    np.testing.assert_array_equal(kept.numpy()[clear], (highest <= threshold)[clear])


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01])
def test_a_threshold_must_be_a_cosine(threshold):
    with pytest.raises(ValueError, match="a cosine in"):
        drop_near(torch.eye(3), threshold)
