"""Many small networks at once: each as if alone, and the symmetries of chapter 2."""

import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from torch import nn

from v2v_lite.spaces import DataError
from v2v_lite.teaching.digits import (
    KINDS,
    Recipe,
    accuracy,
    digits,
    initialise,
    probe,
    run,
    shuffled,
    train,
)  # fmt: skip


def some(n=96, many=2):
    x, y = digits()
    return x[:n].expand(many, -1, -1).double(), y[:n].expand(many, -1)


def test_digits_and_what_shuffling_keeps(generator):
    x, y = digits()
    assert x.shape == (1797, 64) and set(y.tolist()) == set(range(10))
    assert 0 <= x.min() and x.max() == 1
    one, each = (shuffled(x[:50], generator(), each) for each in (False, True))
    assert torch.equal(one.sort(1).values, x[:50].sort(1).values)
    assert torch.equal(each.sort(1).values, x[:50].sort(1).values)
    assert torch.allclose(one @ one.T, x[:50] @ x[:50].T)  # one permutation: isometry
    assert not torch.allclose(each @ each.T, x[:50] @ x[:50].T)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_among_others_is_as_if_alone(kind):
    recipe = Recipe(kind, width=8, epochs=2, batch=32)
    x, y = some(many=3)
    many = train(recipe, initialise(recipe, (3, 4, 5), torch.float64), x, y, (3, 4, 5))
    one = train(recipe, initialise(recipe, (4,), torch.float64), x[:1], y[:1], (4,))
    for p, q in zip(many, one, strict=True):
        torch.testing.assert_close(p[1:2], q)


def test_a_cnn_is_pytorchs_own():
    recipe = Recipe("cnn", width=16)
    parameters = initialise(recipe, (1, 2))
    parameters[1] += 0.1  # biases count, too
    x, _ = some()
    code, out = run(recipe, parameters, x.float())
    w1, b1, w2, b2, w3, b3 = (p[1] for p in parameters)
    one, two = (nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (1, 2))
    with torch.no_grad():
        one.weight.copy_(w1.T.reshape(2, 1, 3, 3)), one.bias.copy_(b1[0])
        two.weight.copy_(w2.T.reshape(4, 2, 3, 3)), two.bias.copy_(b2[0])
        h = two(one(x[1].float().view(-1, 1, 8, 8)).relu()).relu().flatten(1)
    torch.testing.assert_close(code[1], h)
    torch.testing.assert_close(out[1], h @ w3 + b3)
    assert code.shape == (2, 96, 16)


def test_other_images_fit_a_cnn():
    recipe = Recipe("cnn", width=16, side=13, colours=3)
    x = torch.rand(2, 5, 3 * 13 * 13)
    assert run(recipe, initialise(recipe, (0, 1)), x)[1].shape == (2, 5, 10)


def test_permuted_pixels_and_permuted_start_give_the_same_answers(generator):
    recipe = Recipe("mlp", width=12, epochs=2, batch=32)
    x, y = some(many=1)
    order = torch.randperm(64, generator=generator())
    first = initialise(recipe, (0,), torch.float64)
    moved = [first[0][:, order], *first[1:]]
    plain = run(recipe, train(recipe, first, x, y, (0,)), x)[1]
    seen = x[:, :, order]
    other = run(recipe, train(recipe, moved, seen, y, (0,)), seen)[1]
    torch.testing.assert_close(plain, other)


def test_training_learns_and_none_leaves_the_start():
    x, y = digits()
    x, y = x[None, :640], y[None, :640]
    learner = Recipe("mlp", width=32, epochs=6)
    first = initialise(learner, (0,))
    trained = train(learner, first, x, y, (0,))
    assert accuracy(run(learner, trained, x)[1], y) > 0.8
    lazy = train(Recipe("mlp", width=32, epochs=0), first, x, y, (0,))
    assert all(torch.equal(p, q) for p, q in zip(first, lazy, strict=True))


def test_the_probe_is_ridge_regression():
    x, y = digits()
    code, rest = x[None, :300], x[None, 300:600]
    centred = (code[0] - code[0].mean(0)).double()
    alpha = 1e-3 * centred.square().sum(0).mean().item()
    model = RidgeClassifier(alpha=alpha).fit(code[0].double(), y[:300])
    want = model.score(rest[0].double(), y[300:600])
    found = probe(code, y[None, :300], rest, y[None, 300:600]).item()
    assert found == pytest.approx(want, abs=0.01)


def test_bad_recipes():
    with pytest.raises(DataError, match="kind = 'rnn'"):
        Recipe("rnn")
    with pytest.raises(DataError, match="multiple of 8"):
        Recipe("cnn", width=12)
    with pytest.raises(DataError, match="epochs = -1"):
        Recipe(epochs=-1)
    x, y = some(n=20)
    with pytest.raises(DataError, match="a batch has 64"):
        train(Recipe(), initialise(Recipe(), (0, 1)), x, y, (0, 1))
