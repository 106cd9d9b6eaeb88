"""What is read is what runs: methods are called, rules obeyed, by every reader alike."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import pytest
from helpers import small_mnist

import minifbi
from minifbi import fbi, regularizers
from minifbi.explain import LRP
from minifbi.layers import AvgPool2d, Conv2d, Dense, MaxPool2d, ReLU
from minifbi.regularizers import FBI
from minifbi.rules import Flow, Zero
from minifbi.training import TrainConfig, Trainer, three_step

KINDS = (Conv2d, Dense, MaxPool2d, AvgPool2d, ReLU)


@pytest.mark.parametrize("model", ["alexnet", "lenet"])
def test_training_on_numpy_calls_the_layers_own_methods(model, monkeypatch):
    calls = collections.Counter()
    for kind in KINDS:
        for method in ("forward", "backward", "relevance"):
            true = getattr(kind, method)

            def counted(*args, _true=true, _key=(kind, method), **options):
                calls[_key] += 1
                return _true(*args, **options)

            monkeypatch.setattr(kind, method, counted)
    config = TrainConfig(
        model=model, backend="numpy", epochs=1, batch_size=32, fbi_gate=0.0, gate_interval=2
    )
    Trainer(config, small_mnist(64, 32, 10)).run_epoch()
    pooling = AvgPool2d if model == "lenet" else MaxPool2d
    for kind in (Conv2d, Dense, ReLU, pooling):
        for method in ("forward", "backward", "relevance"):
            assert calls[kind, method] > 0, (kind, method)


class Halved(Zero):
    """LRP-0 that hands down half."""

    name = "halved"

    def __call__(self, step, flow, book=None):
        below = super().__call__(step, flow, book)
        return Flow(below.values * 0.5, below.is_ratio)


def test_a_rule_that_subclasses_zero_is_obeyed_by_all(backend, monkeypatch):
    data = small_mnist(64, 32, 10)
    x, labels = data.train.batch(slice(0, 16))
    model = minifbi.alexnet(backend=backend, seed=0)
    plain = {k: t.item() for k, t in three_step(model, x, labels).penalty_terms.items()}
    gradients = {k: p.backend.to_numpy(p.grad).copy() for k, p in model.parameters().items()}
    own = three_step(model, x, labels, FBI(rule=Halved())).penalty_terms
    assert all(own[name].item() != plain[name] for name in plain)
    changed = [
        k
        for k, p in model.parameters().items()
        if not np.array_equal(p.backend.to_numpy(p.grad), gradients[k])
    ]
    assert set(changed) == set(gradients) - {"dense8.bias"}  # which no relevance sees
    # by the same walk in explaining: each of the eight layers hands down half
    whole, halved = (LRP(rule)(model, x, labels) for rule in ("zero", Halved()))
    np.testing.assert_allclose(halved * 2**8, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max())
    # and by the trainer, whose compiled backends rewrite the model for LRP-0 itself
    monkeypatch.setitem(regularizers.REGULARIZERS, "halved", lambda: FBI(rule=Halved()))
    config = TrainConfig(
        model="alexnet", backend=backend, epochs=1, batch_size=64, fbi_gate=0.0, seed=3
    )
    import dataclasses

    ours = Trainer(dataclasses.replace(config, regularizer="halved"), data)
    assert ours.run_epoch()["penalty"] != Trainer(config, data).run_epoch()["penalty"]


def test_one_update_makes_few_calls():
    """The overhead of Python: calls inside the package for one update of the paper's net."""
    import sys

    from minifbi.optim import Adam

    root = str(Path(minifbi.__file__).parent)
    rng = np.random.default_rng(0)
    x, labels = rng.random((16, 1, 28, 28), np.float32), rng.integers(0, 10, 16)
    for backend, most in (("numpy", 700), ("numba", 1200)):
        model = minifbi.alexnet(backend=backend)
        fast, optimizer = minifbi.fusion.fuse(model), Adam(model.parameters())

        def update(fast=fast, optimizer=optimizer):
            three_step(fast, x, labels)
            optimizer.step()

        update()
        calls = 0

        def count(frame, event, _):
            nonlocal calls
            calls += event == "call" and frame.f_code.co_filename.startswith(root)

        sys.setprofile(count)
        try:
            update()
        finally:
            sys.setprofile(None)
        assert calls <= most, (backend, calls)


def test_the_readme_of_the_equations(backend):
    """Eq. (2) by hand for one dense layer: a^- = a^+ * W^T (a^-_next / a^+_next)."""
    layer = Dense(3, 2, bias=False, backend=backend, dtype=np.float64)
    x = np.array([[1.0, 2.0, 3.0]])
    steps = fbi.forward_pass(layer, x)
    z, weight = steps[-1].z.numpy(), layer.weight.numpy()
    a_next = np.array([[z[0, 0], 0.0]])  # the relevance of the first logit
    by_hand = x * ((a_next / z) @ weight)
    found = fbi.relevance_pass(steps, "target", [0])["dense"].numpy()
    np.testing.assert_allclose(found, by_hand)
