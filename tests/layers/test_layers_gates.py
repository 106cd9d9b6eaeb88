"""ReLU, Flatten and Dropout: layers without weights that pass relevance through a gate."""

from __future__ import annotations

import numpy as np
import pytest

from minifbi.autograd import Tensor, check_gradients
from minifbi.errors import ConfigError, ShapeError
from minifbi.layers import Dropout, Flatten, ReLU


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# ---- ReLU and Flatten ------------------------------------------------------------------------
def test_relu(backend):
    x = Tensor([[-1.0, 0.0, 2.0, np.nan]], True, backend)
    step = ReLU().trace(x)[0]
    assert step.z.numpy()[0, :3].tolist() == [0, 0, 2]
    assert np.isnan(step.z.numpy()[0, 3])
    ratio = Tensor([[5.0, 6.0, 7.0, 8.0]], backend=backend)
    assert step.relevance(ratio).numpy().tolist() == [[0, 0, 7, 0]]  # 0/0 = 0 where inactive
    step.z.backward(np.ones((1, 4)))
    assert x.backend.to_numpy(x.grad).tolist() == [[0, 0, 1, 0]]


def test_flatten(backend):
    x = Tensor(random(2, 3, 4, 5), True, backend)
    step = Flatten().trace(x)[0]
    assert step.z.numpy().tolist() == [sample.ravel().tolist() for sample in x.numpy()]
    ratio = random(2, 60, seed=1)
    carried = step.relevance(Tensor(ratio, backend=backend))
    np.testing.assert_array_equal(carried.numpy(), ratio.reshape(2, 3, 4, 5))
    with pytest.raises(ShapeError, match=r"\(3,\).*\(N, \.\.\.\)"):
        Flatten()(Tensor(np.zeros(3), backend=backend))


@pytest.mark.parametrize("layer", [ReLU(), Flatten(), Dropout(0.4)], ids=repr)
def test_gradients_of_layers_without_weights(layer, backend):
    states = layer.random_states()

    def step():
        layer.load_random_states(states)  # the same mask each time
        return layer.trace(x)[0]

    x = Tensor(random(2, 3, 4, 5), True, backend)
    ratio = Tensor(random(*step().z.shape, seed=1), True, backend)
    weights, back = random(*ratio.shape, seed=2), random(*x.shape, seed=3)
    check_gradients(lambda: (step().z * weights).sum(), {"x": x})
    check_gradients(lambda: (step().relevance(ratio) * x * back).sum(), {"x": x, "ratio": ratio})


# ---- Dropout ---------------------------------------------------------------------------------
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_statistics(p, backend):
    n = 40_000
    out = Dropout(p, rng=3)(Tensor(np.ones((4, n // 4)), backend=backend)).numpy()
    assert np.unique(out).tolist() == pytest.approx([0, 1 / (1 - p)])
    # five standard deviations of a binomial share
    assert abs((out == 0).mean() - p) < 5 * np.sqrt(p * (1 - p) / n)
    assert abs(out.mean() - 1) < 5 * np.sqrt(p / (1 - p) / n)


def test_dropout_uses_one_mask_for_all_four(backend):
    x = Tensor(np.ones((5, 40)), True, backend)
    step = Dropout(0.5, rng=1).trace(x)[0]
    mask = step.z.numpy()
    ratio = Tensor(np.ones((5, 40)), True, backend)
    carried = step.relevance(ratio)
    np.testing.assert_array_equal(carried.numpy(), mask)
    step.z.backward(np.ones((5, 40)))
    carried.backward(np.ones((5, 40)))
    np.testing.assert_array_equal(x.backend.to_numpy(x.grad), mask)
    np.testing.assert_array_equal(x.backend.to_numpy(ratio.grad), mask)


def test_dropout_draws_anew_and_rests_in_evaluation(backend):
    layer, x = Dropout(0.5, rng=1), Tensor(random(5, 40), backend=backend)
    first, second = layer(x).numpy(), layer(x).numpy()
    assert (first != second).any()
    state = layer.random_states()[""]
    assert layer.eval() is layer
    step = layer.trace(x)[0]
    np.testing.assert_array_equal(step.z.numpy(), x.numpy())
    np.testing.assert_array_equal(step.relevance(x).numpy(), x.numpy())
    assert layer.random_states()[""] == state  # evaluation draws nothing
    assert (layer.train()(x).numpy() == 0).any()
    np.testing.assert_array_equal(Dropout(0.0)(x).numpy(), x.numpy())


@pytest.mark.parametrize("p", [1, -0.1, 1.5, np.nan])
def test_dropout_probabilities(p):
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        Dropout(p)
