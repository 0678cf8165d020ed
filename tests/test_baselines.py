"""The baselines that learn nothing."""

import pytest
import torch

from v2v_lite.align import Identity, MeanVector, RandomRotation
from v2v_lite.measure import score
from v2v_lite.spaces.space import Space


def space(n, d, seed=0, shift=0.5):
    generator = torch.Generator().manual_seed(seed)
    return Space.of(torch.randn(n, d, generator=generator) + shift)


def test_identity_pads_and_cuts():
    narrow, wide = space(20, 4), space(20, 6)
    padded = Identity().fit(narrow, wide).translate(narrow)
    torch.testing.assert_close(padded[:, :4], narrow.vectors)
    assert (padded[:, 4:] == 0).all()
    cut = Identity().fit(wide, narrow).translate(wide)
    want = torch.nn.functional.normalize(wide.vectors[:, :4])
    torch.testing.assert_close(cut, want)


def test_identity_is_exact_within_one_space():
    x = space(50, 6)
    torch.testing.assert_close(Identity().fit(x, x).translate(x), x.vectors)


def test_mean_vector_answers_the_mean_and_finds_nothing():
    source, target = space(200, 6), space(200, 4, seed=1, shift=2.0)
    answer = MeanVector().fit(source, target).translate(source)
    want = torch.nn.functional.normalize(target.mean, dim=0).expand(200, 4)
    torch.testing.assert_close(answer, want)
    found = score(answer, target)
    assert found.cosine.mean > 0.85 and found.top1.mean < 0.02


@pytest.mark.parametrize("widths", [(4, 6), (6, 4), (5, 5)])
def test_random_rotation_is_semi_orthogonal_and_seeded(widths):
    source, target = space(30, widths[0]), space(30, widths[1], seed=1)
    one, same, other = (
        RandomRotation().fit(source, target, seed=s).weight for s in (3, 3, 4)
    )
    small = one @ one.T if widths[0] <= widths[1] else one.T @ one
    torch.testing.assert_close(small, torch.eye(min(widths)), atol=1e-5, rtol=0)
    assert torch.equal(one, same) and not torch.allclose(one, other)


def test_random_rotation_is_chance():
    source, target = space(2000, 32), space(2000, 24, seed=1)
    found = score(RandomRotation().fit(source, target).translate(source), target)
    assert found.foscttm.mean == pytest.approx(0.5, abs=0.05)
