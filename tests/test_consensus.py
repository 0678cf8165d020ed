"""Consensus against frames that are known, exact and noisy, wide and narrow."""

from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from v2v_lite.align import (
    METHODS,
    Consensus,
    ConsensusMap,
    Procrustes,
    RandomRotation,
    Translator,
    synchronise,
)
from v2v_lite.align.base import centred
from v2v_lite.align.linalg import polar
from v2v_lite.measure import score
from v2v_lite.spaces import DataError, Space, unit


def frames(widths, rank, g):
    turns = [torch.linalg.qr(torch.randn(rank, rank, generator=g))[0] for _ in widths]
    return [turn[:d] for d, turn in zip(widths, turns, strict=True)]


def noisy(true, sigma, g):
    """Semi-orthogonal maps of all pairs (i < j), each off by noise of its own."""
    maps = {}
    for (i, a), (j, b) in combinations(enumerate(true), 2):
        noise = torch.randn(len(a), len(b), generator=g) / len(a) ** 0.5
        maps[str(i), str(j)] = polar(a @ b.T + sigma * noise)
    return maps


def named(widths):
    return {str(i): d for i, d in enumerate(widths)}


def errors(maps, true):
    """Mean squared distance to the true maps, a dimension."""
    squares = [
        (block - true[int(i)] @ true[int(j)].T).square().sum() / len(block)
        for (i, j), block in maps.items()
    ]
    return torch.stack(squares).mean().item()


def products(found, maps):
    return {(i, j): found[i] @ found[j].T for i, j in maps}


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.integers(2, 12), min_size=3, max_size=6),
    seed=st.integers(0, 999),
)  # fmt: skip
def test_exact_maps_are_recovered_whatever_the_widths(widths, seed):
    g = torch.Generator().manual_seed(seed)
    true = frames(widths, max(widths), g)
    exact = {
        (str(i), str(j)): true[i] @ true[j].T
        for i, j in combinations(range(len(widths)), 2)
    }
    found = synchronise(exact, named(widths))
    for key, block in products(found, exact).items():
        torch.testing.assert_close(block, exact[key], atol=2e-4, rtol=0)


@pytest.mark.parametrize("k", [3, 6, 12])
def test_noise_falls_as_two_over_k(k):
    g = torch.Generator().manual_seed(k)
    true = frames([30] * k, 30, g)
    maps = noisy(true, 0.15, g)
    before = errors(maps, true)
    after = errors(products(synchronise(maps, named([30] * k)), maps), true)
    assert after / before == pytest.approx(2 / k, rel=0.2)


def test_unequal_widths_gain_too():
    widths = [24, 24, 24, 16, 16]
    g = torch.Generator().manual_seed(1)
    true = frames(widths, 24, g)
    maps = noisy(true, 0.15, g)
    found = products(synchronise(maps, named(widths)), maps)
    assert errors(found, true) < 0.7 * errors(maps, true)


def test_every_cycle_closes_to_float_precision():
    g = torch.Generator().manual_seed(2)
    maps = noisy(frames([20] * 5, 20, g), 0.5, g)
    both = maps | {(j, i): block.T for (i, j), block in maps.items()}
    found = synchronise(maps, named([20] * 5))
    for i, j, k in permutations("01234", 3):
        round_trip = both[i, j] @ both[j, k] @ both[k, i]
        assert (round_trip - torch.eye(20)).norm() > 1  # the pairwise maps do not close
        turns = [found[a] @ found[b].T for a, b in ((i, j), (j, k), (k, i))]
        torch.testing.assert_close(
            turns[0] @ turns[1] @ turns[2], torch.eye(20), atol=1e-5, rtol=0
        )


def test_a_chain_of_maps_is_enough_and_both_directions_are_one():
    g = torch.Generator().manual_seed(3)
    true = frames([7] * 4, 7, g)
    chain = {(str(i), str(i + 1)): true[i] @ true[i + 1].T for i in range(3)}
    back = {(j, i): block.T for (i, j), block in chain.items()}
    for maps in (chain, back, chain | back):
        found = synchronise(maps, named([7] * 4))
        want = true[0] @ true[3].T
        torch.testing.assert_close(found["0"] @ found["3"].T, want, atol=1e-5, rtol=0)


# Spaces of one latent cloud, each with its own linear map: whitened, they are turned.


def world(widths=(8, 8, 8, 8), n=1500, seed=0):
    g = torch.Generator().manual_seed(seed)
    latent = torch.randn(n, max(widths), generator=g) ** 3
    spaces = {}
    for name, d in zip("abcdef", widths, strict=False):
        mix = torch.linalg.qr(torch.randn(max(widths), max(widths), generator=g))[0]
        rows = latent @ mix[:, :d] * torch.linspace(1, 3, d)
        spaces[name] = Space.of(rows, encoder=name)
    return spaces


def white(space):
    x, _ = centred(space)
    values, vectors = torch.linalg.eigh((x.T @ x / len(x)).double())
    root = (vectors * values.sqrt()) @ vectors.T
    return x, root.float(), torch.linalg.inv(root).float()


def ready(spaces, i, j, sigma, g):
    """A map of whitened rows, x C^{-1/2} R, learned from pairs and then spoiled."""
    (x, _, white_x), (y, _, white_y) = white(spaces[i]), white(spaces[j])
    turn = polar((x @ white_x).T @ (y @ white_y))
    noise = torch.randn(turn.shape, generator=g) / len(turn) ** 0.5
    model = ConsensusMap()
    model.weight = white_x @ polar(turn + sigma * noise)
    model.source_mean, model.target_mean, model.scale = (
        spaces[i].mean, spaces[j].mean, 1.0,
    )  # fmt: skip
    model.widths = (spaces[i].d, spaces[j].d)
    return model, turn


def test_whitened_maps_are_synchronised_where_they_are_rotations():
    spaces, g = world(), torch.Generator().manual_seed(4)
    made = {(i, j): ready(spaces, i, j, 0.4, g) for i, j in combinations(spaces, 2)}
    maps = {key: model for key, (model, _) in made.items()}
    found = Consensus(shrinkage_rows=1e-3).fit(spaces, maps)
    before, after = [], []
    for (i, j), (model, turn) in made.items():
        _, root, _ = white(spaces[i])
        before.append((root @ model.weight - turn).square().sum())
        after.append((found.rotation(i, j) - turn).square().sum())
    assert sum(after) < 0.75 * sum(before)
    foscttm = [
        sum(
            score(model.translate(spaces[i]), spaces[j]).foscttm.mean
            for (i, j), model in models.items()
        )
        for models in (maps, {key: found.translator(*key) for key in maps})
    ]
    assert foscttm[1] < foscttm[0]


def test_a_translator_is_its_formula_and_survives_saving(tmp_path):
    spaces, g = world((8, 6, 8)), torch.Generator().manual_seed(5)
    maps = {(i, j): ready(spaces, i, j, 0, g)[0] for i, j in combinations(spaces, 2)}
    found = Consensus(shrinkage_rows=1e-3).fit(spaces, maps)
    model = found.translator("b", "c")
    x, _, white_x = white(spaces["b"])
    frame_b, frame_c = (found.members[name].frame for name in "bc")
    want = unit(x @ white_x @ frame_b @ found.strengths @ frame_c.T)
    torch.testing.assert_close(model.direction(spaces["b"]), want, atol=1e-4, rtol=0)
    assert (model.source_name, model.target_name, model.widths) == ("b", "c", (6, 8))
    model.save(tmp_path)
    again = Translator.load(tmp_path)
    assert isinstance(again, METHODS["consensus"])
    assert torch.equal(again.translate(spaces["b"]), model.translate(spaces["b"]))


def test_strength_tells_shared_directions_from_others():
    # Maps that agree in 5 directions of 8 and are noise in the other 3.
    g = torch.Generator().manual_seed(6)
    spaces = {name: Space.of(torch.randn(50, 8, generator=g)) for name in "abcd"}
    maps = {}
    for key in combinations("abcd", 2):
        rest = torch.linalg.qr(torch.randn(3, 3, generator=g))[0] * 0.3
        model = ready(spaces, *key, 0, g)[0]
        model.weight = torch.block_diag(torch.eye(5), rest)
        maps[key] = model
    found = Consensus(shrinkage_rows=None).fit(spaces, maps)
    values = torch.linalg.eigvalsh(found.strengths).flip(0)
    assert values[:5].min() > 0.95 and values[5:].max() < 0.3
    assert values[0] == pytest.approx(1, abs=1e-5)


class Turned(Translator):
    """A translator that is linear, but does not say so."""

    name = "turned"

    def _fit(self, source, target, seed, progress):
        self.turn = Procrustes().fit(source, target)
        return ()

    def _translate(self, rows):
        return self.turn.translate(rows)

    def _state(self):
        return {}

    def _restore(self, tensors): ...


def test_any_translator_can_be_a_ready_map():
    g = torch.Generator().manual_seed(7)
    rows = torch.randn(400, 6, generator=g)
    turns = [torch.linalg.qr(torch.randn(6, 6, generator=g))[0] for _ in range(3)]
    spaces = {name: Space.of(rows @ q) for name, q in zip("abc", turns, strict=True)}
    maps = {
        (i, j): Turned().fit(spaces[i], spaces[j]) for i, j in combinations("abc", 2)
    }
    found = Consensus(shrinkage_rows=None).fit(spaces, maps)
    want = turns[0].T @ turns[2]
    torch.testing.assert_close(found.rotation("a", "c"), want, atol=5e-3, rtol=0)
    hit = score(found.translator("c", "a").translate(spaces["c"]), spaces["a"])
    assert hit.top1.mean == 1


def test_a_new_space_joins_with_one_map_and_moves_nobody():
    spaces, g = world((8, 8, 8, 6)), torch.Generator().manual_seed(8)
    late = spaces.pop("d")
    maps = {(i, j): ready(spaces, i, j, 0, g)[0] for i, j in combinations(spaces, 2)}
    found = Consensus(shrinkage_rows=1e-3).fit(spaces, maps)
    before = found.translator("a", "b").weight
    model, _ = ready(spaces | {"d": late}, "d", "a", 0, g)
    found.join("d", late, via="a", map_=model)
    assert torch.equal(found.translator("a", "b").weight, before)
    # d has never been seen beside b.
    _, turn = ready(spaces | {"d": late}, "d", "b", 0, g)
    off = (found.rotation("d", "b") - turn).norm() / turn.norm()
    assert off < 0.1
    back = found.rotation("b", "d")
    torch.testing.assert_close(back, found.rotation("d", "b").T)


def test_every_pair_is_fitted_once_and_a_joining_space_once():
    made = []

    def make():
        made.append(RandomRotation())
        return made[-1]

    spaces = world((5, 6, 5, 4), n=60)
    late = spaces.pop("d")
    found = Consensus(make, shrinkage_rows=None).fit(spaces, seed=3)
    fitted = [model for model in made if model.widths]
    assert [m.widths for m in fitted] == [(5, 6), (5, 5), (6, 5)]
    assert {m.seed for m in fitted} == {3}
    found.join("d", late, via="b")
    assert made[-1].widths == (4, 6) and len([m for m in made if m.widths]) == 4
    assert found.translator("d", "c").translate(late).shape == (60, 5)


def test_bad_input():
    g = torch.Generator().manual_seed(9)
    spaces = world((5, 6, 5), n=40)
    maps = {(i, j): ready(spaces, i, j, 0, g)[0] for i, j in combinations(spaces, 2)}
    consensus = Consensus(shrinkage_rows=1e-3)
    with pytest.raises(DataError, match="call fit first"):
        consensus.rotation("a", "b")
    with pytest.raises(DataError, match="2 spaces"):
        consensus.fit({name: spaces[name] for name in "ab"})
    with pytest.raises(DataError, match="names 'z'"):
        consensus.fit(spaces, maps | {("a", "z"): maps["a", "b"]})
    with pytest.raises(DataError, match="widths"):
        consensus.fit(spaces, maps | {("b", "a"): maps["a", "b"]})
    with pytest.raises(DataError, match="no chain of maps leads from a to b, c"):
        consensus.fit(spaces, {("b", "c"): maps["b", "c"]})
    with pytest.raises(DataError, match="learns from pairs"):
        Consensus(Procrustes).fit(spaces)
    with pytest.raises(DataError, match="shrinkage_rows = 0"):
        Consensus(shrinkage_rows=0)
    with pytest.raises(DataError, match="several spaces"):
        ConsensusMap().fit(spaces["a"], spaces["b"])
    with pytest.raises(DataError, match="must be"):
        synchronise({("0", "1"): torch.eye(3)}, {"0": 3, "1": 4})
    fitted = consensus.fit(spaces, maps)
    with pytest.raises(DataError, match="member already"):
        fitted.join("a", spaces["a"], via="b")
    with pytest.raises(DataError, match="no space 'z'.*a, b, c"):
        fitted.translator("a", "z")
