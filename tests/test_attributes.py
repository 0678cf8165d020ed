"""Attribute inference: scores by hand, precision as scikit-learn has it, no peeking."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import rotation, rows

from v2v_lite.align import Procrustes
from v2v_lite.privacy import (
    PROMPTS,
    AdaptConfig,
    adapt,
    attribute_leakage,
    baselines,
    label_vectors,
    recentre_translator,
    scores,
)
from v2v_lite.privacy.attributes import read_described
from v2v_lite.spaces import (
    DataError,
    Label,
    Space,
    document_space,
    load_documents,
    unit,
)

LABELS = (Label("a", "Apples", "Fruit."), Label("b", "Boats", "Things that float."))


# ---- labels


def test_the_vector_of_a_label_is_the_mean_of_its_phrasings():
    asked = []

    def encode(texts):
        asked.extend(texts)
        return unit(rows(len(texts), 5))

    prompts = ("{name}", "On {name}: {description}")
    found = label_vectors(LABELS, encode, prompts)
    assert asked == ["Apples", "On Apples: Fruit.", "Boats",
                     "On Boats: Things that float."]  # fmt: skip
    by_hand = unit(rows(4, 5))
    assert torch.allclose(found[1], unit(by_hand[2] + by_hand[3]), atol=1e-6)


def test_every_prompt_names_the_label():
    assert all("{name}" in p or "{description}" in p for p in PROMPTS)


def test_labels_without_words_are_refused():
    empty = (*LABELS, Label("c", "Cars", "  "))
    with pytest.raises(DataError, match="'c' has no description"):
        label_vectors(empty, lambda texts: rows(len(texts), 4))
    with pytest.raises(DataError, match="1 labels, but at least 2"):
        label_vectors(LABELS[:1], lambda texts: rows(len(texts), 4))


def test_labels_are_read_from_json_and_from_csv(tmp_path):
    words = {"a": {"name": "Apples", "description": "Fruit."}, "b": "Boats."}
    (tmp_path / "labels.json").write_text(json.dumps(words))
    found = read_described(tmp_path / "labels.json")
    assert found == (Label("a", "Apples", "Fruit."), Label("b", "b", "Boats."))
    csv = 'id,label\n1,"Film, TV: Moving, pictures."\n2,Sports: Games.\n'
    (tmp_path / "labels.csv").write_text(csv, encoding="utf-8-sig")  # as Excel does
    film, sports = read_described(tmp_path / "labels.csv")
    assert film == Label("Film, TV", "Film, TV", "Moving, pictures.")
    assert sports == Label("Sports", "Sports", "Games.")


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("x.json", '{"a": "", "b": "Boats."}', "'a' has no description"),
        ("x.json", "[1]", "give {label: description}"),
        ("x.csv", "id,topic\n1,a\n", 'column "label"'),
        ("x.csv", 'id,label\n1,Music\n2,"Art: Art."\n', "'Music' has no description"),
        ("x.csv", "label\ngr\xf6n: x\n", "not a CSV file in UTF-8"),
        ("x.csv", "id,label\n1\n2,Art: Art.\n", "'' has no description"),
        ("x.txt", "a", "from .json or .csv"),
    ],
)
def test_bad_label_files(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=words):
        read_described(tmp_path / name)


# ---- scores


def test_plain_scores_are_cosines_around_both_means():
    z, y = rows(7, 4).double(), rows(3, 4, seed=1).double()
    found = scores(z, y, "none")
    zu, yu = (m / m.norm(dim=1, keepdim=True) for m in (z, y))
    for i in range(7):
        for j in range(3):
            a, b = zu[i] - zu.mean(0), yu[j] - yu.mean(0)
            by_hand = (a @ b / a.norm() / b.norm()).item()
            assert found[i, j].item() == pytest.approx(by_hand, abs=1e-5)


def test_standard_scores_have_the_same_spread_in_every_column():
    found = scores(rows(50, 6), rows(4, 6, seed=1))
    assert torch.allclose(found.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(found.std(0), torch.ones(4), atol=1e-5)


def test_csls_by_hand():
    s = scores(rows(9, 5), rows(4, 5, seed=1), "none")
    found = scores(rows(9, 5), rows(4, 5, seed=1), "csls", k=2)
    r_z, r_l = s.topk(2, 1).values.mean(1), s.topk(2, 0).values.mean(0)
    assert torch.allclose(found, 2 * s - r_z[:, None] - r_l, atol=1e-5)


@pytest.mark.parametrize("correct", ["csls", "standard"])
def test_both_corrections_hold_a_hub_back(correct):
    """Documents vary most along label 0: it is the answer to far too many of them."""
    g = torch.Generator().manual_seed(3)
    labels = torch.eye(5, 40)
    true = torch.arange(5).repeat(40)
    z = labels[true] + 0.3 * torch.randn(200, 40, generator=g)
    z[:, 0] += 1.5 * torch.randn(200, generator=g)
    of_others = z[true != 0]

    def taken(how):
        return (scores(of_others, labels, how).argmax(1) == 0).float().mean()

    assert taken(correct) < taken("none") - 0.02


def test_a_rotation_of_everything_changes_no_score():
    q = rotation(6, seed=5)
    z, y = rows(20, 6), rows(4, 6, seed=1)
    assert torch.allclose(scores(z @ q, y @ q), scores(z, y), atol=1e-4)


def test_bad_rows_are_refused():
    with pytest.raises(DataError, match="translations are 5-d and labels 4-d"):
        scores(rows(3, 5), rows(3, 4))
    with pytest.raises(DataError, match="0 rows"):
        scores(torch.zeros(0, 4), rows(3, 4))
    with pytest.raises(DataError, match="1 translations"):
        scores(rows(1, 4), rows(3, 4))
    with pytest.raises(DataError, match="choose none, csls or standard"):
        scores(rows(3, 4), rows(3, 4), "magic")


# ---- what leaks


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_average_precision_is_that_of_scikit_learn(seed, ties):
    from sklearn.metrics import average_precision_score

    g = torch.Generator().manual_seed(seed)
    s = torch.rand(12, 3, generator=g)
    s = (s * 4).round() / 4 if ties else s
    carried = torch.rand(12, 3, generator=g) < 0.4
    carried[:, 0] |= ~carried.any(1)  # no document without a label
    found = attribute_leakage(s, carried, ["a", "b", "c"], tops=(1,))
    present = [j for j in range(3) if carried[:, j].any()]
    truth = [average_precision_score(carried[:, j], s[:, j]) for j in present]
    assert list(found.per_label.values()) == pytest.approx(truth, abs=1e-5)
    assert found.map.mean == pytest.approx(sum(truth) / len(truth), abs=1e-5)


def test_top_k_by_hand_with_several_labels():
    s = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    carried = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1]]).bool()
    found = attribute_leakage(s, carried, tops=(1, 2, 3)).top
    assert [found[k].mean for k in (1, 2, 3)] == pytest.approx([1 / 3, 2 / 3, 1])


def test_ties_count_against_the_attack():
    found = attribute_leakage(torch.zeros(4, 3), torch.eye(3).bool()[[0, 1, 2, 0]])
    assert found.top[1].mean == 0 and found.top[3].mean == 1
    assert found.map.mean == pytest.approx((0.5 + 0.25 + 0.25) / 3)


def test_share_between_floor_and_ideal():
    carried = torch.eye(4).bool()
    perfect, nothing = (
        attribute_leakage(carried.float(), carried),
        attribute_leakage(-carried.float(), carried),
    )
    half = attribute_leakage(
        carried.float() * torch.tensor([1, 1, -1, -1.0])[:, None], carried
    )
    assert half.share(nothing, perfect) == pytest.approx(0.5)
    assert nothing.share(nothing, perfect) == 0 and perfect.share(nothing, perfect) == 1
    assert half.share(perfect, perfect) != half.share(perfect, perfect)  # NaN


def test_documents_without_labels_and_other_shapes_are_refused():
    with pytest.raises(DataError, match="without a label"):
        attribute_leakage(
            torch.rand(2, 2), torch.tensor([[True, False], [False, False]])
        )
    with pytest.raises(DataError, match="row i of both"):
        attribute_leakage(torch.rand(2, 2), torch.ones(2, 3).bool())


def test_baselines_know_nothing_on_real_documents():
    private = load_documents("posts", "private")
    carried = private.multi_hot()
    labels = document_space(private, "minilm", "labels")
    stolen = document_space(private, "wordllama")
    found = baselines(stolen, labels, carried, labels.mean)
    assert set(found) == {"identity", "mean", "majority", "random"}
    tops = {
        name: attribute_leakage(s, carried).top[1].mean for name, s in found.items()
    }
    commonest = carried.float().mean(0).max().item()
    assert tops["majority"] == pytest.approx(commonest)
    assert all(top < 0.15 for top in tops.values())
    ideal = attribute_leakage(
        scores(document_space(private, "minilm"), labels), carried
    )
    assert ideal.top[1].mean > 0.5


# ---- adapting to the stolen rows


def spaces(n=1500, moved=0.0, seed=0):
    """A toy pair of spaces: y is x turned. `moved` shifts both, not by the same."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, generator=g) * torch.linspace(3, 0.3, 12)
    x[:, 0] = x[:, 0].abs() - 2  # no symmetry left
    turn = rotation(12, seed=99)
    off_x, off_y = moved * unit(rows(2, 12, seed=98))
    return Space.of(x + off_x, "a"), Space.of(x @ turn + off_y, "b")


def right(model, stolen, truth):
    z = model.direction(stolen)
    return (z * unit(truth.vectors - truth.mean)).sum(1).mean().item()


def test_recentring_undoes_a_shift_of_the_mean():
    source, target = spaces()
    model = Procrustes().fit(source, target)
    stolen, truth = spaces(moved=4.0, seed=1)
    own = spaces(moved=4.0, seed=2)[1]
    found = recentre_translator(model, stolen, own)
    assert torch.allclose(found.target_mean, own.mean, atol=1e-6)
    assert torch.allclose(model.source_mean, source.mean)  # the old one is as it was
    assert right(found, stolen, truth) > right(model, stolen, truth) + 0.05


def test_adapting_keeps_a_good_map_and_mends_a_bent_one():
    source, target = spaces()
    stolen, truth = spaces(400, moved=1.0, seed=1)
    own = spaces(400, moved=1.0, seed=2)[1]
    skew = torch.triu(rows(12, 12, seed=7), 1)
    good, bent = (Procrustes().fit(source, target) for _ in range(2))
    bent.weight = bent.weight @ torch.linalg.matrix_exp(0.2 * (skew - skew.T))
    quick = AdaptConfig(n_iter=6, ridge=0.1)
    kept, mended = (
        adapt(one, stolen, own, source, target, quick) for one in (good, bent)
    )
    assert right(kept, stolen, truth) > 0.8
    before = right(recentre_translator(bent, stolen, own), stolen, truth)
    assert right(mended, stolen, truth) > before


def test_adapted_translators_are_saved_like_others(tmp_path):
    source, target = spaces(300)
    model = Procrustes().fit(source, target)
    found = adapt(model, source, target, source, target, AdaptConfig(n_iter=1))
    found.save(tmp_path / "m")
    again = Procrustes.load(tmp_path / "m")
    assert torch.equal(again.translate(source), found.translate(source))


def test_adapting_refuses_other_widths_and_senseless_numbers():
    source, target = spaces(300)
    model = Procrustes().fit(source, target)
    with pytest.raises(DataError, match="the translator goes from 12-d to 12-d"):
        recentre_translator(model, rows(20, 5), rows(20, 12))
    with pytest.raises(DataError, match="n_iter = 0; at least 1"):
        AdaptConfig(n_iter=0)
    with pytest.raises(DataError, match="new_cross_weight = -1; at least 0"):
        AdaptConfig(new_cross_weight=-1)
