"""Eq. (2), (3), (4) against closed forms, conservation laws, published cases and plain NumPy."""

from __future__ import annotations

import numpy as np
import plain
import pytest
from small_nets import BATCH, CLASSES, NETS, build, inputs

from minifbi import fbi
from minifbi.autograd import Tensor, cross_entropy
from minifbi.errors import ConfigError, NonFiniteError, ShapeError
from minifbi.layers import (
    AvgPool2d,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minifbi.rules.linear import divide

starts = pytest.mark.parametrize("start", fbi.STARTS)
nets = pytest.mark.parametrize("name", NETS)
biases = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])


def two_passes(name, backend, start="target", bias=True, seed=0, rule="zero"):
    model = build(name, backend, bias, seed)
    x, labels = inputs(name, seed)
    steps = fbi.forward_pass(model, x)
    return steps, labels, fbi.relevance_pass(steps, start, labels, rule)


def start_by_hand(logits, start, labels):
    if start == "logits":
        return np.ones_like(logits)
    chosen = labels if start == "target" else logits.argmax(axis=1)
    return np.eye(logits.shape[1])[chosen]


def per_sample(array):
    return array.reshape(len(array), -1).sum(axis=1)


# ---- Eq. (2) ---------------------------------------------------------------------------------
@starts
@biases
@pytest.mark.parametrize("name", [n for n in NETS if n != "dropout"])
@pytest.mark.parametrize("seed", [0, 1])
def test_closed_form(name, bias, start, seed, backend):
    """a_i^- = a_{i-1}^+ * gradient of (start ratio . logits) (docs/three-steps.md)."""
    steps, labels, relevances = two_passes(name, backend, start, bias, seed)
    chosen = start_by_hand(steps[-1].z.numpy(), start, labels)
    l1 = []
    for i, step in enumerate(steps):
        if step.name not in relevances:
            continue
        x = Tensor(step.x.data, True, backend)
        out = x
        for later in steps[i:]:
            out = later.layer(out)
        (out * chosen).sum().backward()
        gradient = x.backend.to_numpy(x.grad)
        expected = x.numpy() * gradient
        np.testing.assert_allclose(relevances[step.name].numpy(), expected, rtol=1e-9, atol=1e-12)
        l1.append(np.abs(x.numpy() * (1 - gradient)).sum() / BATCH)
    assert len(l1) == len(relevances) >= 3
    loss = fbi.fbi_loss(fbi.fbi_terms(steps, relevances))
    assert loss.item() == pytest.approx(np.mean(l1), rel=1e-10)


@starts
@nets
def test_conservation_without_biases(name, start, backend):
    steps, labels, relevances = two_passes(name, backend, start, bias=False)
    logits = steps[-1].z.numpy()
    explained = (start_by_hand(logits, start, labels) * logits).sum(axis=1)
    for relevance in relevances.values():
        np.testing.assert_allclose(per_sample(relevance.numpy()), explained, rtol=1e-9, atol=1e-12)


@starts
@nets
def test_biases_absorb_the_rest(name, start, backend):
    steps, labels, relevances = two_passes(name, backend, start, bias=True)
    logits = steps[-1].z.numpy()
    chosen = start_by_hand(logits, start, labels)
    total, lost = (chosen * logits).sum(axis=1), 0.0
    ratio = Tensor(chosen, backend=backend)
    for step in reversed(steps):
        if step.name in relevances:
            bias = step.layer.bias.numpy()
            share = ratio.numpy().reshape(BATCH, len(bias), -1) * bias[:, None]
            absorbed = per_sample(share)
            total, lost = total - absorbed, lost + np.abs(absorbed)
            ours = per_sample(relevances[step.name].numpy())
            np.testing.assert_allclose(ours, total, rtol=1e-9, atol=1e-10)
        ratio = step.relevance(ratio)
    assert (lost > 0.01).all()  # there was something to absorb


def divided_form(steps, relevance, eps):
    """R = x * W^T( R / (z + eps sign z) ), layer by layer, with matrices from plain loops."""
    found = {}
    for step in reversed(steps):
        layer, x, z = step.layer, step.x.numpy(), step.z.numpy()
        if isinstance(layer, MaxPool2d):
            window = layer.kernel_size, layer.stride, layer.padding
            rows = [
                plain.max_pool_matrix(a, *window).T @ r.ravel()
                for a, r in zip(x, relevance, strict=True)
            ]
            relevance = np.array(rows).reshape(x.shape)
        elif isinstance(layer, Flatten):
            relevance = relevance.reshape(x.shape)
        elif not isinstance(layer, (ReLU, Dropout)):  # these pass relevance on as it is
            if isinstance(layer, Dense):
                matrix = layer.weight.numpy()
            else:
                window = layer.stride, layer.padding
                if isinstance(layer, Conv2d):
                    weight = layer.weight.numpy()
                    matrix = plain.matrix_of(
                        lambda u, w=weight, o=window: plain.conv2d(u, w, None, *o), x.shape[1:]
                    )
                else:
                    assert isinstance(layer, AvgPool2d)
                    matrix = plain.matrix_of(
                        lambda u, k=layer.kernel_size, o=window: plain.avg_pool2d(u, k, *o),
                        x.shape[1:],
                    )
            below = z + eps * np.where(z >= 0, 1, -1)
            s = np.divide(relevance, below, out=np.zeros_like(z), where=below != 0)
            relevance = x * (s.reshape(len(x), -1) @ matrix).reshape(x.shape)
            if layer.functional:
                found[step.name] = relevance
    return found


@starts
@nets
@biases
@pytest.mark.parametrize("stabilizer", [0.0, 0.01, 0.5])
def test_literal_divided_form(name, start, bias, stabilizer, backend):
    steps, labels, relevances = two_passes(name, backend, start, bias, rule=f"epsilon:{stabilizer}")
    logits = steps[-1].z.numpy()
    first = start_by_hand(logits, start, labels) * logits
    expected = divided_form(steps, first, stabilizer)
    assert set(expected) == set(relevances)
    for key, ours in relevances.items():
        np.testing.assert_allclose(ours.numpy(), expected[key], rtol=1e-8, atol=1e-11)


def test_order_and_shapes(backend):
    steps, _, relevances = two_passes("max", backend)
    assert list(relevances) == ["0", "3", "6", "8"]  # conv, conv, dense, dense: first layer first
    by_name = {s.name: s for s in steps}
    assert all(r.shape == by_name[n].x.shape for n, r in relevances.items())


@nets
def test_relevance_is_linear_in_its_start(name, backend):
    model, (x, _) = build(name, backend), inputs(name)
    steps = fbi.forward_pass(model, x)
    everything = fbi.relevance_pass(steps, "logits")
    classes = [fbi.relevance_pass(steps, "target", [c] * BATCH) for c in range(CLASSES)]
    for key, ours in everything.items():
        parts = sum(r[key].numpy() for r in classes)
        np.testing.assert_allclose(ours.numpy(), parts, rtol=1e-9, atol=1e-11)
    winners = steps[-1].z.numpy().argmax(axis=1)
    predicted, target = (
        fbi.relevance_pass(steps, *how) for how in (("predicted",), ("target", winners))
    )
    for key, ours in predicted.items():
        np.testing.assert_array_equal(ours.numpy(), target[key].numpy())


def test_nothing_is_divided_in_the_exact_form(backend):
    """Preactivations of 1e-30 would overflow 1/z^2 in float32."""
    model = build("max", backend, bias=False, dtype=np.float32)
    steps = fbi.forward_pass(model, 1e-30 * inputs("max")[0])
    relevances = fbi.relevance_pass(steps, "logits")
    fbi.fbi_loss(fbi.fbi_terms(steps, relevances)).backward()
    for p in model.parameters().values():
        assert np.isfinite(p.backend.to_numpy(p.grad)).all()
        assert p.grad.dtype == np.float32
    assert all(np.abs(r.numpy()).max() > 0 for r in relevances.values())


def test_the_stabiliser_at_zero_and_by_hand(backend):
    ratio = Tensor([2.0, 2.0, 2.0], True, backend)
    z = Tensor([0.0, 1.5, -1.5], True, backend)
    out = ratio * divide(z, z, 0.5)  # as the rule epsilon does
    assert out.numpy().tolist() == [0.0, 1.5, 1.5]  # 2 z / (z + 0.5 sign z)
    out.backward(np.ones(3))
    # d/dz of z / (z + eps) is eps / (z + eps)^2; sign(0) = +1
    assert z.backend.to_numpy(z.grad).tolist() == [4.0, 0.25, -0.25]
    assert z.backend.to_numpy(ratio.grad).tolist() == [0.0, 0.75, 0.75]
    single = Tensor(np.ones(1, np.float32), True, backend)
    assert divide(single, single, np.float64(0.1)).dtype == np.float32


# ---- published toy cases ---------------------------------------------------------------------
def set_weights(model, **arrays):
    model.load_state_dict({k.replace("_", "."): np.array(v, float) for k, v in arrays.items()})
    return model


def dense(backend, i, o, bias=False):
    return Dense(i, o, bias=bias, backend=backend, dtype=np.float64)


def test_toy_18_36_54(backend):
    model = Sequential({"a": dense(backend, 3, 3), "relu": ReLU(), "b": dense(backend, 3, 1)})
    set_weights(model, a_weight=2 * np.ones((3, 3)), b_weight=3 * np.ones((1, 3)))
    steps = fbi.forward_pass(model, np.array([[1.0, 2.0, 3.0]]))
    relevances = fbi.relevance_pass(steps, "logits")
    assert relevances["a"].numpy().tolist() == [[18, 36, 54]]
    assert relevances["b"].numpy().tolist() == [[36, 36, 36]]
    assert steps[-1].z.numpy().tolist() == [[108]]


def test_toy_bias_absorbs(backend):
    layers = {"a": dense(backend, 2, 2, True), "r": ReLU(), "b": dense(backend, 2, 1), "s": ReLU()}
    model = set_weights(
        Sequential(layers), a_weight=np.eye(2), a_bias=[-1.0, 0.0], b_weight=[[1.0, -1.0]]
    )
    steps = fbi.forward_pass(model, np.array([[3.0, 1.0]]))
    relevance = fbi.relevance_pass(steps, "logits")["a"].numpy()
    assert relevance.tolist() == [[3, -1]]
    assert relevance.sum() == 2
    assert steps[-1].z.numpy().tolist() == [[1]]


def test_toy_max_pool(backend):
    conv = Conv2d(1, 1, 1, bias=False, backend=backend, dtype=np.float64)
    layers = {"a": conv, "pool": MaxPool2d(2), "flat": Flatten(), "b": dense(backend, 1, 1)}
    model = set_weights(Sequential(layers), a_weight=np.ones((1, 1, 1, 1)), b_weight=[[1.0]])
    steps = fbi.forward_pass(model, np.array([[[[1.0, 2.0], [5.0, 6.0]]]]))
    assert fbi.relevance_pass(steps, "logits")["a"].numpy().tolist() == [[[[0, 0], [0, 6]]]]


# ---- Eq. (3) and (4) -------------------------------------------------------------------------
@nets
@pytest.mark.parametrize("reduction", fbi.REDUCTIONS)
def test_terms_by_hand(name, reduction, backend):
    steps, _, relevances = two_passes(name, backend)
    terms = fbi.fbi_terms(steps, relevances, reduction)
    expected = {}
    for step in steps:
        if step.name in relevances:
            difference = np.abs(step.x.numpy() - relevances[step.name].numpy())
            expected[step.name] = (
                difference.mean() if reduction == "mean" else per_sample(difference).mean()
            )
    assert list(terms) == list(expected)
    assert {k: t.item() for k, t in terms.items()} == pytest.approx(expected, rel=1e-12)
    loss = fbi.fbi_loss(terms)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(sum(expected.values()) / len(expected), rel=1e-12)


@pytest.mark.parametrize("fbi_weight", [0.0, 0.001, 0.3, 1.0])
def test_objective_and_its_gradients_are_the_weighted_sum(fbi_weight, backend):
    def gradients(choose):
        model, (x, labels) = build("max", backend), inputs("max")
        steps = fbi.forward_pass(model, x)
        relevances = fbi.relevance_pass(steps, "target", labels)
        task = cross_entropy(steps[-1].z, labels)
        loss = choose(task, fbi.fbi_loss(fbi.fbi_terms(steps, relevances)))
        loss.backward()
        return loss.item(), {
            k: np.zeros(p.shape) if p.grad is None else p.backend.to_numpy(p.grad)
            for k, p in model.parameters().items()
        }

    (task, task_grads), (own, own_grads) = (
        gradients(lambda t, _: t),
        gradients(lambda _, f: f * 1.0),
    )
    total, grads = gradients(lambda t, f: fbi.objective(t, f, fbi_weight))
    assert total == pytest.approx((1 - fbi_weight) * task + fbi_weight * own, rel=1e-12)
    for key, ours in grads.items():
        expected = (1 - fbi_weight) * task_grads[key] + fbi_weight * own_grads[key]
        np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["dense", "max", "avg"])
def test_logits_start_bounds_each_term(name, backend):
    """Without biases each term is at least |sum a_{i-1} - sum y|."""
    steps, _, relevances = two_passes(name, backend, "logits", bias=False)
    outputs = per_sample(steps[-1].z.numpy())
    for key, term in fbi.fbi_terms(steps, relevances).items():
        x = next(s.x.numpy() for s in steps if s.name == key)
        assert term.item() >= np.abs(per_sample(x) - outputs).mean() - 1e-12
        each = per_sample(np.abs(x - relevances[key].numpy()))
        assert (each >= np.abs(per_sample(x) - outputs) - 1e-12).all()


# ---- what is refused -------------------------------------------------------------------------
def test_errors(backend):
    model, (x, labels) = build("max", backend), inputs("max")
    steps = fbi.forward_pass(model, x)
    relevances = fbi.relevance_pass(steps, "logits")
    loss = fbi.fbi_loss(fbi.fbi_terms(steps, relevances))
    out_of_range = np.array([0, 1, CLASSES])
    for error, message, wrong in (
        (
            ConfigError,
            r"fbi_weight=2.*at least 0 and at most 1",
            lambda: fbi.objective(loss, loss, 2),
        ),
        (ConfigError, r"fbi_weight=-0\.1", lambda: fbi.objective(loss, loss, -0.1)),
        (ConfigError, "fbi_weight=nan", lambda: fbi.objective(loss, loss, float("nan"))),
        (ConfigError, r"start='all'.*target", lambda: fbi.relevance_pass(steps, "all", labels)),
        (ConfigError, "needs the labels", lambda: fbi.relevance_pass(steps)),
        (ShapeError, r"label 4.*0\.\.3", lambda: fbi.relevance_pass(steps, "target", out_of_range)),
        (ShapeError, r"\(2,\).*\(3,\)", lambda: fbi.relevance_pass(steps, "target", labels[:2])),
        (
            ConfigError,
            r"epsilon=-1",
            lambda: fbi.relevance_pass(steps, start="logits", rule="epsilon:-1"),
        ),
        (
            ConfigError,
            r"epsilon=nan",
            lambda: fbi.relevance_pass(steps, start="logits", rule="epsilon:nan"),
        ),
        (
            ConfigError,
            r"epsilon=inf",
            lambda: fbi.relevance_pass(steps, start="logits", rule="epsilon:inf"),
        ),
        (ConfigError, r"reduction='l1'.*sum", lambda: fbi.fbi_terms(steps, relevances, "l1")),
        (ConfigError, "at least one functional layer", lambda: fbi.fbi_loss({})),
        (ConfigError, "needs at least one", lambda: fbi.relevance_pass([])),
        (ShapeError, r"\(N, F\).*\(3, 3, 7, 6\)", lambda: fbi.relevance_pass(steps[:1], "logits")),
    ):
        with pytest.raises(error, match=message):
            wrong()
    x[0, 0, 1, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"1 values.*NaN"):
        fbi.forward_pass(model, x)
