"""The diagnosis against maps whose worth is known, on rows no fit has seen."""

import pytest
import torch

from v2v_lite.align import Procrustes, RandomRotation, diagnose
from v2v_lite.align.diagnosis import combined_score, label_of, nearest_neighbor_score
from v2v_lite.align.linalg import principal_axes, random_orthogonal
from v2v_lite.align.linear import LinearTranslator
from v2v_lite.spaces import DataError, Space, load, unit, unpaired


@pytest.fixture(scope="module")
def split():
    return unpaired(load("minilm"), load("granite"), seed=3)


@pytest.fixture(scope="module")
def good():
    """A right map, fitted with pairs: the diagnosis must find it right without."""
    rows = slice(0, 8000)
    return Procrustes().fit(load("minilm").take(rows), load("granite").take(rows))


def test_a_right_map_is_aligned_and_a_random_one_failed(split, good):
    random = RandomRotation().fit(split.source, split.target, seed=0)
    right = diagnose(good, *split.unseen())
    wrong = diagnose(random, *split.unseen())
    assert right.verdict == "aligned" and wrong.verdict == "failed"
    assert right.score > wrong.score + 0.3
    for trace in ("density", "anchor", "closeness", "csls"):
        assert getattr(right, trace) > getattr(wrong, trace), trace
    assert right.cycle < wrong.cycle


def test_the_score_falls_as_the_map_is_spoiled(split, good):
    kept, scores = good.weight, []
    noise = torch.randn(384, 384, generator=torch.Generator().manual_seed(0)) / 384**0.5
    for share in (0.0, 0.5, 0.8, 1.0):
        good.weight = (1 - share) * kept + share * noise
        scores.append(diagnose(good, *split.unseen()).score)
    good.weight = kept
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 2 * scores[-1]


def test_agreement_is_the_mean_cosine_of_the_translations(split, good):
    other = Procrustes().fit(
        load("minilm").take(slice(9000, 12_000)),
        load("granite").take(slice(9000, 12_000)),
    )
    source, target = split.unseen()
    found = diagnose(good, source, target, other_seeds=[other])
    cores = [unit(m.translate(source) - target.mean) for m in (good, other)]
    by_hand = (cores[0] * cores[1]).sum(1).mean().item()
    assert found.agreement == pytest.approx(by_hand, abs=1e-4)
    alone = diagnose(good, source, target)
    assert alone.agreement is None
    assert found.score == pytest.approx(alone.score * by_hand**0.5, rel=1e-3)


def test_one_seed_is_one_diagnosis(split, good):
    assert diagnose(good, *split.unseen(), n=500) == diagnose(
        good, *split.unseen(), n=500
    )


def test_closeness_of_the_same_cloud_is_one_and_of_a_turned_one_zero():
    g = torch.Generator().manual_seed(1)
    axes = torch.linspace(1, 0.05, 12)
    cloud = unit(torch.randn(1600, 12, generator=g) * axes + 0.3 * axes)
    turned, _ = torch.linalg.qr(torch.randn(12, 12, generator=g))
    assert nearest_neighbor_score(cloud[:800], cloud[800:], g) == pytest.approx(
        1, abs=0.1
    )
    assert nearest_neighbor_score(cloud[:800] @ turned, cloud[800:], g) < 0.6


def test_scores_are_within_their_range_and_words_follow():
    assert combined_score(2.0, 3.0) == 1
    assert combined_score(-1.0, 0.5) == 0
    assert combined_score(0.49, 0.49, 1.0) == pytest.approx(0.49)
    assert [label_of(s) for s in (0.9, 0.38, 0.1)] == ["aligned", "partial", "failed"]


def test_few_rows_are_refused(good):
    few = Space.of(torch.randn(30, 384))
    with pytest.raises(DataError, match="40 a side"):
        diagnose(good, few, few)


def test_any_function_of_rows_can_be_diagnosed(split, good):
    sides = split.unseen()
    found = diagnose(lambda rows: good.translate(rows), *sides, n=300)
    assert found == diagnose(good, *sides, n=300)


# ---- chance


def test_words_need_more_than_chance():
    aligned, undecided = (0.9, 0.8), [(0.5, 0.6), (0.2, 0.6), (0.36, 0.38)]
    assert label_of(*aligned) == "aligned" and label_of(0.2, 0.3) == "failed"
    assert {label_of(*pair) for pair in undecided} == {"undecided"}
    assert label_of(0.4, 0.2) == "partial"


def unrelated(n, d, seed, clusters):
    """An elliptical cloud, or clusters of such, with nothing to do with any other."""
    g = torch.Generator().manual_seed(seed)
    spectrum = (1 + torch.arange(d)) ** -(1.2 * torch.rand(1, generator=g))
    rows = torch.randn(n, d, generator=g)
    if clusters:
        centres = 2 * torch.randn(clusters, d, generator=g)
        rows += centres[torch.randint(clusters, (n,), generator=g)]
    turn = torch.linalg.qr(torch.randn(d, d, generator=g))[0] if d < 400 else None
    rows = rows * spectrum
    return Space.of(rows if turn is None else rows @ turn)


def spectral_map(source, target):
    """Axis to axis by variance, signs by skewness: what the spectra alone allow."""
    axes = []
    for space in (source, target):
        x = unit(space.vectors - space.mean)
        a = principal_axes(x.T @ x)[:, : min(source.d, target.d)]
        axes.append(a * ((x @ a) ** 3).mean(0).sign())
    return LinearTranslator.from_map(axes[0] @ axes[1].T, source, target)


def test_unrelated_rows_are_not_called_aligned():
    """The held-out tenth of 400 to 1,200 rows; the score alone is fooled."""
    fooled, wrong, sizes = 0, 0, [(8, 16), (31, 64), (64, 24), (12, 100)]
    for seed in range(16):
        n, (d_s, d_t) = (40, 80, 120)[seed % 3], sizes[seed % len(sizes)]
        clusters = 0 if seed % 3 else 5 + seed
        a = unrelated(2 * n, d_s, 2 * seed, clusters)
        b = unrelated(2 * n, d_t, 2 * seed + 1, clusters)
        first, last = slice(n), slice(n, None)
        model = spectral_map(a.take(first).with_mean(), b.take(first).with_mean())
        found = diagnose(model, a.take(last), b.take(last))
        fooled += label_of(found.score) == "aligned"
        wrong += found.verdict == "aligned"
        assert -1 <= found.closeness <= 2
    assert fooled >= 2 and wrong == 0, (fooled, wrong)


def test_a_right_map_is_still_found_on_few_hundred_rows(split, good):
    source, target = (side.take(slice(600)) for side in split.unseen())
    found = diagnose(good, source, target)
    assert found.verdict == "aligned" and 0.2 < found.chance < 0.42
    few = diagnose(good, source.take(slice(60)), target.take(slice(60)))
    assert few.verdict == "undecided" and "60 rows a side are too few" in few.line()
    same = diagnose(good, source, target, chance=False)
    assert (same.score, same.density, same.anchor) == (
        found.score, found.density, found.anchor)  # fmt: skip
    assert same.chance == 0


def test_a_map_to_one_place_has_failed(split):
    source, target = split.unseen()
    for place in (target.vectors[0], target.mean, torch.zeros(target.d)):
        found = diagnose(lambda rows, y=place: y.expand(rows.n, -1), source, target)
        assert found.verdict == "failed" and found.score == 0


def test_wide_rows_are_judged_in_their_leading_axes():
    g = torch.Generator().manual_seed(0)
    scale = 0.98 ** torch.arange(512.0)
    x, y = (unit(torch.randn(300, 512, generator=g) * scale) for _ in range(2))
    into = random_orthogonal(512, 600, generator=g)

    def found(a, b):
        model = LinearTranslator.from_map(torch.eye(a.shape[1]), a, b)
        return diagnose(model, a, b, chance=False)

    narrow, wide = found(x, y), found(x @ into, y @ into)
    for key in ("score", "density", "anchor", "cycle", "csls"):
        assert getattr(wide, key) == pytest.approx(getattr(narrow, key), abs=2e-3), key
