"""`check_numerics`: the first layer at fault is named, with its pass, and nothing else changes."""

from __future__ import annotations

import json
import re
import threading

import numpy as np
import pytest
from every_layer import KINDS
from helpers import command, small_mnist, write_idx_folder
from test_planted_faults import LAYERS

import minifbi
from minifbi import check_numerics, fbi, fusion
from minifbi.autograd import Tensor, cross_entropy, no_grad
from minifbi.errors import ConfigError, NonFiniteError
from minifbi.layers import Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential
from minifbi.numerics import checking
from minifbi.training import TrainConfig, Trainer, resume, train

LABELS = np.array([1, 0])


def net(backend, dtype=np.float64):
    options = {"rng": np.random.default_rng(1), "backend": backend, "dtype": dtype}
    return Sequential(
        {
            "conv1": Conv2d(1, 3, 3, padding=1, **options),
            "relu1": ReLU(),
            "pool1": MaxPool2d(2),
            "conv2": Conv2d(3, 2, 3, padding=1, **options),
            "relu2": ReLU(),
            "flatten": Flatten(),
            "dense3": Dense(18, 4, **options),
            "relu3": ReLU(),
            "dense4": Dense(4, 2, **options),
        }
    )


def images(dtype=np.float64):
    return np.random.default_rng(2).random((2, 1, 6, 6)).astype(dtype)


def three_passes(model, x, fused=False, **options):
    """Step 1, 2 and 3."""
    steps = fbi.forward_pass(fusion._rewritten(model) if fused else model, x)
    relevances = fbi.relevance_pass(steps, "target", LABELS, **options)
    terms = fbi.fbi_terms(steps, relevances)
    task = cross_entropy(steps[-1].z, LABELS)
    fbi.objective(task, fbi.fbi_loss(terms), 0.3).backward()


def put(model, name, value):
    """Make one number of a parameter NaN or infinite."""
    p = model.parameters()[name]
    values = p.numpy().copy()
    values.reshape(-1)[-1] = value
    p.data = p.backend.asarray(values)


# ---- weights ---------------------------------------------------------------------------------
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["conv1.weight", "conv2.bias", "dense3.weight", "dense4.bias"])
def test_a_weight(name, value, fused, backend):
    model = net(backend)
    put(model, name, value)
    layer, key = name.split(".")
    kind = "ConvBlock" if fused and "conv" in layer else type(model[layer]).__name__
    said = rf"forward pass, layer '{layer}' \({kind}\): 1 of \d+ numbers of its {key} is NaN or in"
    with check_numerics(), pytest.raises(NonFiniteError, match=said) as caught:
        three_passes(model, images(), fused)
    assert str(caught.value).count("\n") == 0
    assert f"): {value}; it came from a file" in str(caught.value)  # after where the first one is
    with check_numerics(), no_grad(), pytest.raises(NonFiniteError, match=said):
        (fusion._rewritten(model) if fused else model)(images())


def test_the_first_of_several_is_named_with_its_place(backend):
    model = net(backend)
    for name in ("dense4.weight", "conv2.weight", "dense3.bias"):
        put(model, name, np.nan)
    said = r"layer 'conv2'.*1 of 54 numbers of its weight.*first at \(1, 2, 2, 2\): nan"
    with check_numerics(), pytest.raises(NonFiniteError, match=said):
        model(images())


def test_an_input_names_the_layer_that_gets_it(backend):
    x = images()
    x[1, 0, 2, 3] = np.nan
    with pytest.raises(NonFiniteError, match="the input of layer 'conv1' holds 1 values"):
        net(backend)(x)
    with (
        check_numerics(),
        pytest.raises(NonFiniteError, match=r"'relu' \(ReLU\).*its input.*clean"),
    ):
        ReLU()(Tensor(x, backend=backend))


# ---- each pass of each kind of layer ---------------------------------------------------------
def spoil(layer, method, place):
    """Make the last number of what a method returns NaN; `place` in a tuple."""
    true = getattr(layer, method)

    def wrong(backend, *arguments, **options):
        out = true(backend, *arguments, **options)
        if method != "relevance" and (place >= len(out) or out[place] is None):
            return out  # called by the adjoint of the relevance pass
        array = np.array(out if method == "relevance" else out[place])
        array.flat[-1] = np.nan
        if method == "relevance":
            return array
        return (*out[:place], array, *out[place + 1 :])

    setattr(layer, method, wrong)


PASSES = {
    "forward": (r"forward pass, layer '(.*)' .* of its output .*its input and its weights are", 0),
    "relevance": (r"relevance pass, layer '(.*)' .* of the ratio at its input .*output is", 0),
    "backward": (r"backward pass, layer '(.*)' .* the gradient of its input .*reached it is", 0),
    "relevance_backward": (
        r"backward pass \(adjoint of the relevance pass\), layer '(.*)' .* "
        r"the gradient of the ratio at its output .*reached it is",
        0,
    ),
}


def once_through(layer, shape):
    """All passes of one layer called "it", between others that are innocent."""
    x = Tensor(np.random.default_rng(0).standard_normal(shape), True)
    before = ReLU().trace(x, "before")[0]
    step = layer.trace(before.z, "it")[0]
    after = ReLU().trace(step.z, "after")[0]
    ratio = Tensor(np.ones(step.z.shape), True)
    for one in (after, step, before):
        ratio = one.relevance(ratio)
    (after.z.sum() + ratio.sum()).backward()


@pytest.mark.parametrize("method", PASSES)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_fault_in_any_pass_of_any_layer(kind, method):
    build, shape = LAYERS[kind]
    layer, (said, place) = build(), PASSES[method]
    with check_numerics():
        once_through(layer, shape)  # nothing to complain of
    spoil(layer, method, place)
    with np.errstate(all="ignore"):
        once_through(layer, shape)  # nobody looks
    with check_numerics(), pytest.raises(NonFiniteError, match=said) as caught:
        once_through(layer, shape)
    assert re.match(said, str(caught.value))[1] == "it"
    assert f"({type(layer).__name__})" in str(caught.value)
    assert "try a smaller learning rate" in str(caught.value)


@pytest.mark.parametrize(
    ("place", "method"), [(1, "backward"), (2, "backward"), (1, "relevance_backward")]
)
@pytest.mark.parametrize("kind", ["Conv2d", "Dense", "ConvBlock"])
def test_a_fault_in_the_gradient_of_a_weight(kind, place, method):
    build, shape = LAYERS[kind]
    layer = build()
    spoil(layer, method, place)
    said = rf"layer 'it'.*gradient of its {('weight', 'bias')[place - 1]} is NaN"
    with check_numerics(), pytest.raises(NonFiniteError, match=said):
        once_through(layer, shape)


def test_all_kinds_are_here():
    assert {*LAYERS, "Residual", "Sequential"} == set(KINDS)


# ---- overflows, as they happen in training ---------------------------------------------------
def dense_chain(backend, *weights, bias=0.0):
    """Dense layers "a", "b", ... of one unit with ReLU between, in float32."""
    layers = {}
    for name, weight in zip("abcd", weights, strict=False):
        layer = Dense(1, 1 if name != "abcd"[len(weights) - 1] else 2, backend=backend)
        layer.weight.data = layer.backend.asarray(np.full(layer.weight.shape, weight, np.float32))
        layer.bias.data = layer.backend.asarray(np.full(layer.bias.shape, bias, np.float32))
        layers[name] = layer
        layers[f"relu_{name}"] = ReLU()
    layers.popitem()
    return Sequential(layers)


def test_overflow_in_the_forward_pass(backend):
    model = dense_chain(backend, 1e30, 1.0, 1e20, 1.0)
    said = r"forward pass, layer 'c' .* 2 of 2 numbers of its output are .*first at \(0, 0\): inf"
    with check_numerics(), np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=said):
        model(np.ones((2, 1)))


def test_overflow_in_the_relevance_pass(backend):
    """All activations are 1 and finite; only the ratio, a product of weights, is not."""
    model = dense_chain(backend, 1e25, 1e-5, 1e25, 1.0, bias=1.0)
    x = np.zeros((2, 1), np.float32)
    with check_numerics(), np.errstate(all="ignore"):
        steps = fbi.forward_pass(model, x)
        with pytest.raises(NonFiniteError, match=r"relevance pass, layer 'a' .*ratio at its input"):
            fbi.relevance_pass(steps, "target", LABELS)


def test_overflow_in_the_backward_pass(backend):
    model = dense_chain(backend, 1.0, 1e20, bias=1.0)
    x = Tensor(np.zeros((2, 1), np.float32), True, backend)
    with check_numerics():
        out = model(x)
    said = "backward pass, layer 'b' .*the gradient of its input .*reached it is finite"
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=said):
        out.backward(np.full(out.shape, 1e25, np.float32))  # outside of the block


def test_overflow_in_a_term_of_the_loss(backend):
    """x and the ratio are numbers, their product is none."""
    model = dense_chain(backend, 1e20, bias=0.0)
    with check_numerics(), np.errstate(all="ignore"):
        steps = fbi.forward_pass(model, np.full((2, 1), 1e18, np.float32))
        relevances = fbi.relevance_pass(steps, "target", LABELS)
        a_plus = steps[0].x
        a_plus.data = a_plus.data * np.float32(10)
        with pytest.raises(NonFiniteError, match=r"'a' .*: 1 of 1 number of its term of"):
            fbi.fbi_terms(steps, relevances)


def test_what_arrives_broken_is_not_the_layers_fault(backend):
    model = net(backend)
    with check_numerics():
        out, said = model(Tensor(images(), True, backend)), "'dense4'.*the gradient that reached it"
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=said):
            out.backward(np.full(out.shape, np.nan))
        step = fbi.forward_pass(model, images())[-1]
        said = "'dense4'.*the ratio at its output"
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=said):
            step.relevance(Tensor(np.full(out.shape, np.inf), backend=backend))


@pytest.mark.parametrize("rule", ["epsilon:0.1", "gamma", "w-square"])
def test_other_rules_of_relevance(rule, backend):
    model = net(backend)
    with check_numerics():
        three_passes(model, images(), rule=rule)
        steps = fbi.forward_pass(model, images())
        steps[6].layer.weight.data = steps[6].layer.weight.data * np.nan  # after its forward pass
        steps[6].saved = (steps[6].saved[0], steps[6].layer.weight.data, True)
        with pytest.raises(NonFiniteError, match="relevance pass, layer 'dense3'"):
            fbi.relevance_pass(steps, "target", LABELS, rule=rule)


# ---- manners ---------------------------------------------------------------------------------
def test_the_block_ends_where_it_ends(backend):
    model = net(backend)
    put(model, "conv1.weight", np.nan)
    assert not checking()
    with check_numerics():
        with check_numerics(False):
            assert not checking()
            model(images())
        assert checking()
        seen = []
        thread = threading.Thread(target=lambda: seen.append(checking()))
        thread.start()
        thread.join()
        assert seen == [False]  # every thread for itself
    assert not checking()
    with pytest.raises(KeyError), check_numerics():
        raise KeyError
    assert not checking()
    model(images())


def test_it_is_offered_at_the_top():
    assert minifbi.check_numerics is check_numerics


@pytest.mark.parametrize("regularizer", ["fbi", "l1"])
def test_looking_changes_no_number(regularizer, backend):
    """A whole epoch with the FBI loss from the start, bit for bit."""
    records, weights = [], []
    for check in (False, True):
        config = TrainConfig(
            model="alexnet" if backend == "numba" else "mlp",
            backend=backend,
            epochs=1,
            batch_size=32,
            fbi_gate=0,
            regularizer=regularizer,
            check_numerics=check,
        )
        trainer = Trainer(config, small_mnist(96, 32, 32))
        records.append({k: v for k, v in trainer.run_epoch().items() if k != "seconds"})
        weights.append(trainer.model.state_dict())
    assert records[0] == records[1]
    for name, array in weights[0].items():
        np.testing.assert_array_equal(weights[1][name], array)


# ---- training --------------------------------------------------------------------------------
def broken(method, check, name="dense2", at=3):
    """A trainer one of whose layers makes a NaN at its call number `at`."""
    config = TrainConfig(
        model="mlp", backend="numpy", epochs=1, fbi_gate=0, batch_size=32, check_numerics=check
    )
    trainer = Trainer(config, small_mnist(192, 64, 32))
    layer, calls = trainer.model[name], []
    true = getattr(layer, method)

    def wrong(*arguments, **options):
        out = true(*arguments, **options)
        # the adjoint of the relevance pass calls forward and backward too, without the bias
        whole = {"forward": len(arguments) == 4, "backward": len(out) == 3}.get(method, True)
        calls.extend([1] * whole)
        if whole and len(calls) == at:
            (out if method == "relevance" else out[0])[0, 0] = np.nan
        return out

    setattr(layer, method, wrong)
    return trainer


@pytest.mark.parametrize("method", PASSES)
def test_the_trainer_names_step_pass_and_layer(method):
    trainer = broken(method, True)
    said, _ = PASSES[method]
    with pytest.raises(NonFiniteError, match=f"^step 3 of epoch 1: {said}") as caught:
        trainer.run_epoch()
    assert "layer 'dense2' (Dense)" in str(caught.value)
    assert trainer.step == 2  # nothing was updated with it


@pytest.mark.parametrize("method", PASSES)
def test_without_the_flag_training_stops_all_the_same(method):
    """At once if the loss shows it, else when the weights, which the gradient has spoilt, do."""
    trainer = broken(method, False)
    with pytest.raises(
        NonFiniteError, match=r"(loss became nan|parameter .* is not finite)"
    ) as caught:
        trainer.run_epoch()
    assert "--check-numerics names the first layer at fault" in str(caught.value)
    assert trainer.step <= 3


def test_without_the_flag_in_the_last_step():
    trainer = broken("backward", False, at=6)
    with pytest.raises(NonFiniteError, match=r"parameter dense1.weight is not .* after step 6"):
        trainer.run_epoch()


def test_an_update_that_is_too_large(tmp_path):
    data = write_idx_folder(tmp_path / "data")
    options = ["--data-dir", data, "--model", "mlp", "--backend", "numpy", "--epochs", "1"]
    options += ["--optimizer", "sgd", "--lr", "1e30"]
    plain = command("train", *options, "--out", tmp_path / "plain")
    assert plain.returncode == 1
    assert "the loss became nan at step" in plain.stderr
    assert "--check-numerics names the first layer at fault" in plain.stderr
    named = command("train", *options, "--out", tmp_path / "named", "--check-numerics")
    assert named.returncode == 1
    last = named.stderr.strip().splitlines()[-1]
    assert re.match(r"minifbi.train: error: step 2 of epoch 1: forward pass, layer 'dense", last)
    assert "Traceback" not in named.stderr
    assert json.loads((tmp_path / "named" / "config.json").read_text())["check_numerics"] is True


def test_resume_may_look(tmp_path):
    data = small_mnist(192, 64, 32)
    config = TrainConfig(model="mlp", backend="numpy", epochs=1)
    results = []
    for check in (None, True):
        folder = tmp_path / str(check)
        train(config, folder, dataset=data, quiet=True, figures=False)
        result = resume(
            folder, epochs=2, check_numerics=check, dataset=data, quiet=True, figures=False
        )
        results.append({k: v for k, v in result.items() if k != "seconds"})
        stored = json.loads((folder / "config.json").read_text())
        assert stored["check_numerics"] is bool(check)
        assert resume(folder, dataset=data, quiet=True, figures=False)["epochs"] == 2
    assert results[0] == results[1]


def test_the_option_is_a_truth_value():
    with pytest.raises(ConfigError, match="check_numerics='yes': expected True or False"):
        TrainConfig(check_numerics="yes")
