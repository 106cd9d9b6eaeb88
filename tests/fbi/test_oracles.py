"""Reference values of three small nets, computed by an implementation that shares nothing."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import load_oracles

from minifbi import fbi
from minifbi.autograd import cross_entropy

ORACLES = load_oracles()
CASES = [(name, variant["key"]) for name, o in ORACLES.items() for variant in o.variants]


def relative(ours, reference):
    """Norm of the difference over the norm of the reference."""
    scale = np.linalg.norm(reference)
    difference = np.linalg.norm(np.asarray(ours, np.float64) - reference)
    return difference / scale if scale else difference


def rule_of(variant):
    """LRP-0, or its stabilised form: the rule epsilon."""
    return f"epsilon:{variant['stabilizer']}" if variant["stabilizer"] else "zero"


def three_passes(oracle, variant, backend, dtype):
    model = oracle.build(backend, dtype)
    steps = fbi.forward_pass(model, oracle.arrays["x"])
    labels = oracle.arrays["labels"]
    task = cross_entropy(steps[-1].z, labels)
    relevances = fbi.relevance_pass(steps, variant["start"], labels, rule_of(variant))
    terms = fbi.fbi_terms(steps, relevances, variant["reduction"])
    loss = fbi.fbi_loss(terms)
    total = fbi.objective(task, loss, variant["fbi_weight"])
    total.backward()
    return model, steps, task, relevances, terms, loss, total


@pytest.mark.parametrize(("name", "key"), CASES, ids=["-".join(case) for case in CASES])
def test_every_number_in_float64(name, key, backend):
    oracle = ORACLES[name]
    variant = next(v for v in oracle.variants if v["key"] == key)
    model, steps, task, relevances, terms, loss, total = three_passes(
        oracle, variant, backend, np.float64
    )
    arrays = oracle.arrays
    for array_name in ("logits", f"{key}.logits"):
        if array_name in arrays:
            assert relative(steps[-1].z.numpy(), arrays[array_name]) < 1e-10
    compared = 0
    for step in steps:
        # arrays that depend only on start and stabiliser are stored once, with the first variant
        for what, ours in (
            ("forward_input", step.x),
            ("relevance", relevances.get(step.name)),
        ):
            if f"{key}.{what}.{step.name}" in arrays:
                reference = arrays[f"{key}.{what}.{step.name}"]
                assert relative(ours.numpy(), reference) < 1e-10, (what, step.name)
                compared += 1
    if variant["reduction"] == "sum":
        assert compared == 2 * len(terms)
    assert task.item() == pytest.approx(variant["task_loss"], rel=1e-10)
    assert [t.item() for t in terms.values()] == pytest.approx(variant["fbi_terms"], rel=1e-10)
    assert loss.item() == pytest.approx(variant["fbi_loss"], rel=1e-10)
    assert total.item() == pytest.approx(variant["objective"], rel=1e-10)
    for parameter, tensor in model.parameters().items():
        reference = arrays[f"{key}.grad.{parameter}"]
        assert relative(tensor.backend.to_numpy(tensor.grad), reference) < 1e-8, parameter


@pytest.mark.parametrize("name", ORACLES)
def test_default_settings_in_float32(name, backend):
    oracle = ORACLES[name]
    for variant in oracle.variants:
        if (variant["start"], variant["stabilizer"]) != ("target", 0.0):
            continue
        model, steps, *_ = three_passes(oracle, variant, backend, np.float32)
        assert steps[-1].z.dtype == np.float32
        for parameter, tensor in model.parameters().items():
            assert tensor.grad.dtype == np.float32
            reference = oracle.arrays[f"{variant['key']}.grad.{parameter}"]
            assert relative(tensor.backend.to_numpy(tensor.grad), reference) < 1e-4, parameter
