"""The fingerprint: Mahalanobis by SciPy, who is named, who is unknown, the command."""

import json

import numpy as np
import pytest
import torch
from problems import rotation, rows
from scipy.spatial.distance import mahalanobis
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from v2v_lite.cli import main
from v2v_lite.privacy import UNKNOWN, Fingerprint, name_encoder, traits
from v2v_lite.spaces import DataError, load, unit


def skewed(n, seed=0, d=20):
    """Unit rows of a falling spectrum around a mean."""
    scales = torch.linspace(2, 0.1, d)
    return unit(rows(n, d, seed=seed) * scales + 0.2)


def test_the_distance_is_the_mean_squared_mahalanobis():
    known, some = skewed(300), skewed(50, 4)
    found = Fingerprint.of(known, ridge=0.1)
    x = known.double().numpy()
    covariance = np.cov(x.T, bias=True)
    ridge = (0.1 + 20 / 300) * np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    far = [mahalanobis(row, x.mean(0), inverse) ** 2 for row in some.double().numpy()]
    expected = np.mean(far) / np.trace(inverse @ covariance)
    gram = (some.double() - found.mean) @ (some.double() - found.mean).T
    off = gram[~torch.eye(50, dtype=torch.bool)].square().mean().item()
    crowd = (off / np.square(covariance).sum()) ** 0.5 / 2
    distance, likelihood = found.compare(some)
    assert crowd < distance == pytest.approx(expected, rel=1e-3)
    normal = multivariate_normal(x.mean(0), np.linalg.inv(inverse))
    constant = 20 / 2 * np.log(2 * np.pi)
    told = normal.logpdf(some.double().numpy()).mean() + constant
    assert likelihood == pytest.approx(told, rel=1e-3)
    assert found.compare(known)[0] == pytest.approx(1, abs=1e-3)


def test_rows_that_crowd_are_far_from_an_encoder_that_spreads():
    even = Fingerprint.of(unit(rows(2000, 20)))
    crowded = unit(rows(50, 20, seed=1) * 0.02 + torch.eye(20)[0])
    assert even.compare(unit(rows(50, 20, seed=2)))[0] < 1.2
    assert even.compare(crowded)[0] > 2


def test_rows_without_the_mean_are_far_by_the_discriminant_of_scikit_learn():
    scales = torch.linspace(1.5, 0.5, 20)
    known = unit(rows(4000, 20, seed=1) * scales + 0.5)
    mark, some = Fingerprint.of(known, ridge=0.0), unit(rows(50, 20, seed=2) * scales)
    assert mark.compare(some)[0] > 2 > mark.compare(known[:50])[0]
    around = known - known.mean(0)  # two clouds of one covariance, around mu and 0
    lda = LinearDiscriminantAnalysis(solver="lsqr").fit(
        torch.cat([around, known]).numpy(), np.repeat([0, 1], len(known))
    )
    w = torch.tensor(lda.coef_[0]).float()
    share = (some.mean(0) @ w / (mark.mean @ w)).item()
    q = mark.mean @ torch.linalg.pinv(around.T @ around / len(around)) @ mark.mean
    expected = 3 * (1 - share - 2 / (50 * q.item()) ** 0.5)
    assert mark.compare(some)[0] == pytest.approx(expected, rel=0.02)


def test_an_encoder_without_a_mean_asks_for_none():
    known = torch.cat([half := unit(rows(2000, 20)), -half])
    assert Fingerprint.of(known).mean.norm() < 1e-6
    assert Fingerprint.of(known).compare(unit(rows(50, 20, seed=5)))[0] < 1.2
    assert Fingerprint.of(known).compare(known[:1])[0] < 2


def test_a_rotated_encoder_is_unknown_and_another_width_infinitely_far():
    known = {"mine": Fingerprint.of(skewed(500))}
    assert name_encoder(skewed(50, 2), known).name == "mine"
    assert name_encoder(skewed(50, 2) @ rotation(20, 3), known).name == UNKNOWN
    assert name_encoder(rows(50, 7), known).distances["mine"] == float("inf")


def test_bundled_encoders_are_told_apart_and_held_out():
    marks = {n: Fingerprint.of(load(n, "train").take(slice(0, 4000)).vectors)
             for n in ("granite", "arctic")}  # fmt: skip
    for name in marks:
        fifty = load(name, "eval").vectors[:50]
        assert name_encoder(fifty, marks).name == name
        others = {k: v for k, v in marks.items() if k != name}
        assert name_encoder(fifty, others).name == UNKNOWN


def test_traits_of_rows():
    x = rows(60, 9)
    x[:, 3] = 0
    x[:, 5] += 50
    found = traits(x.half().float())
    assert found["constant"] == [3] and found["outlying"] == [5]
    assert found["stored"] == "float16" and not found["unit"] and found["d"] == 9
    flat = traits(unit(torch.eye(8).repeat(4, 1)))
    assert flat["effective"] == pytest.approx(7, abs=0.01) and flat["unit"]
    assert flat["stored"] == "codes"


def test_bad_input():
    with pytest.raises(DataError, match="no known encoder"):
        name_encoder(rows(5, 3), {})
    with pytest.raises(DataError, match="at least 2"):
        Fingerprint.of(rows(1, 3))
    with pytest.raises(DataError, match="shape"):
        traits(torch.zeros(1, 3))


def test_the_command_names_the_encoder(tmp_path, capsys):
    load("arctic", "eval").take(slice(0, 50)).save(tmp_path / "stolen.safetensors")
    stolen = str(tmp_path / "stolen.safetensors")
    assert main(["attack", "fingerprint", stolen, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["encoder"] == "arctic" and found["traits"]["d"] == 384
    assert found["distances"]["wordllama"] is None  # another width
    assert main(["attack", "fingerprint", stolen, "--known", "nameless"]) == 2
    assert "NAME=FILE" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(["attack", "fingerprint", str(tmp_path / "none.npy")]) == 2
