"""mini-vec2vec on small sets: it aligns, is seeded, and its stages have objectives."""

import itertools

import pytest
import torch

from v2v_lite.align import METHODS, MiniConfig, MiniVec2Vec, Translator
from v2v_lite.align.mini_vec2vec import match_two_opt
from v2v_lite.measure import score
from v2v_lite.spaces.files import DataError
from v2v_lite.spaces.space import Space

SMALL = MiniConfig(
    n_runs=10,
    n_clusters=12,
    n_init=20,
    n_neighbors=15,
    refine_iters=20,
    batch_size=400,
    fine_clusters=60,
)


def two_views(n=3000, d_source=20, d_target=16, seed=0, noise=0.02):
    """Views of one lopsided cloud: rows 0..n train the source, n..2n the target."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(12, 14, generator=generator) * torch.linspace(1.5, 0.4, 14)
    pick = torch.rand(2 * n + 300, generator=generator).pow(2).mul(12).long()
    latent = centres[pick] + 0.35 * torch.randn(len(pick), 14, generator=generator)
    views = []
    for d in (d_source, d_target):
        turn = torch.linalg.qr(torch.randn(d, 14, generator=generator))[0]
        view = latent @ turn.T
        view += noise * torch.randn(view.shape, generator=generator)
        views.append(view)
    a, b = views
    return Space.of(a[:n], "a"), Space.of(b[n : 2 * n], "b"), a[2 * n :], b[2 * n :]


def test_it_aligns_without_a_pair(tmp_path):
    source, target, held_a, held_b = two_views()
    model = MiniVec2Vec(SMALL).fit(source, target, seed=0, progress=True)
    found = score(model.translate(held_a), held_b)
    assert not model.paired and found.pool == 300
    assert found.rank.mean < 15 and found.centred_cosine.mean > 0.8
    names = [stage.name for stage in model.history]
    assert names == ["anchors", "initial map", "refine 1", "refine 2"]
    assert all(0 < s.objective <= 1.001 and s.seconds > 0 for s in model.history)
    model.save(tmp_path)
    again = Translator.load(tmp_path)
    assert isinstance(again, METHODS["mini"])
    assert torch.equal(again.translate(held_a), model.translate(held_a))


def test_it_is_seeded():
    source, target, held, _ = two_views(n=400)
    quick = MiniConfig(2, 300, 6, 3, 10, 2, 100, 20)
    one, same, other = (
        MiniVec2Vec(quick).fit(source, target, seed=s).translate(held)
        for s in (1, 1, 2)
    )
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_two_opt_finds_the_best_of_all_orders():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(6, 4, generator=generator)
    b = torch.randn(6, 4, generator=generator)
    kernel_a, kernel_b = a @ a.T, b @ b.T
    best = max(
        (kernel_a * kernel_b[list(p)][:, list(p)]).sum().item()
        for p in itertools.permutations(range(6))
    )
    order, reached = match_two_opt(kernel_a, kernel_b, 30, generator)
    assert reached == pytest.approx(best, rel=1e-5)
    assert (kernel_a * kernel_b[order][:, order]).sum().item() == pytest.approx(best)


def test_fewer_rows_than_sizes_are_enough_but_not_than_clusters():
    source, target, held, _ = two_views(n=60)
    model = MiniVec2Vec(MiniConfig(n_runs=2, n_init=2, refine_iters=0)).fit(
        source, target
    )
    assert model.translate(held).shape == (300, 16)
    assert [s.name for s in model.history] == ["anchors", "initial map", "refine 2"]
    with pytest.raises(DataError, match="19 rows cannot make 20 clusters"):
        MiniVec2Vec().fit(source.take(slice(0, 19)), target)


@pytest.mark.parametrize(
    "key", ["n_runs", "sample_size", "n_clusters", "n_init", "n_neighbors"]
)
def test_sizes_are_checked(key):
    with pytest.raises(DataError, match=f"{key} = 0"):
        MiniConfig(**{key: 0})
    with pytest.raises(DataError, match="blend = 1"):
        MiniConfig(blend=1)


def test_the_papers_sizes_are_the_defaults():
    c = MiniConfig()
    assert (c.n_runs, c.n_clusters, c.n_init, c.n_neighbors) == (30, 20, 30, 50)
    assert (c.sample_size, c.refine_iters) == (10_000, 100)
    assert (c.fine_clusters, c.blend) == (500, 0.5)
