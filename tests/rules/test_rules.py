"""Every relevance rule against plain matrices, published cases, and the tape's own gradients."""

from __future__ import annotations

from functools import partial

import numpy as np
import plain_rules
import pytest
from small_nets import BATCH, CLASSES, build, inputs

from minifbi import fbi
from minifbi.autograd import Tensor, check_gradients, cross_entropy, no_grad
from minifbi.errors import ConfigError, DataError
from minifbi.layers import AvgPool2d, Conv2d, Dense, Flatten, MaxPool2d, ReLU, Sequential
from minifbi.regularizers import FBI
from minifbi.rules import (
    RULES,
    AlphaBeta,
    Composite,
    Epsilon,
    Flat,
    Gamma,
    WSquare,
    ZBox,
    Zero,
    ZPlus,
    get_rule,
    walk,
)
from minifbi.train import build_parser
from minifbi.training import TrainConfig, three_step

PLAIN = {
    "zero": (Zero(), plain_rules.zero),
    "epsilon": (Epsilon(0.3), partial(plain_rules.epsilon, eps=0.3)),
    "gamma": (Gamma(0.7), partial(plain_rules.gamma, g=0.7)),
    "alpha-beta": (AlphaBeta(2, 1), partial(plain_rules.alpha_beta, alpha=2, beta=1)),
    "z-plus": (ZPlus(), partial(plain_rules.alpha_beta, alpha=1, beta=0)),
    "w-square": (WSquare(), plain_rules.w_square),
    "flat": (Flat(), plain_rules.flat),
}
rules = pytest.mark.parametrize("rule", PLAIN)


def passes(name, backend, rule, bias=True, dtype=np.float64, start="target"):
    model, (x, _) = build(name, backend, bias, dtype=dtype), inputs(name)
    steps = fbi.forward_pass(model, x)
    logits = steps[-1].z.numpy()
    labels = np.array([*logits[:-1].argmax(axis=1), logits[-1].argmin()])  # logits of both signs
    return steps, labels, fbi.relevance_pass(steps, start, labels, rule=rule)


def start_of(steps, labels):
    return np.eye(CLASSES)[labels] * steps[-1].z.numpy()


def agree(ours, reference):
    assert list(ours) == list(reversed(reference))
    for name, relevance in reference.items():
        scale = np.abs(relevance).max()
        np.testing.assert_allclose(ours[name].numpy(), relevance, rtol=1e-9, atol=1e-11 * scale)


# ---- one rule in all layers ------------------------------------------------------------------
@rules
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("name", ["dense", "max", "overlapping", "avg", "strided", "dropout"])
def test_plain_matrices(name, bias, rule, backend):
    """Images of both signs, logits of both signs, biases of both signs."""
    ours, reference = PLAIN[rule]
    steps, labels, relevances = passes(name, backend, ours, bias)
    start = start_of(steps, labels)
    assert steps[0].x.numpy().min() < 0
    assert start.max() > 0
    assert name == "overlapping" or start.min() < 0
    ruled = {
        i: reference
        for i, step in enumerate(steps)
        if step.layer.functional or (rule == "epsilon" and isinstance(step.layer, AvgPool2d))
    }
    agree(relevances, plain_rules.relevances(steps, ruled, start))


def test_every_single_rule_is_tested_here():
    uniform = {name for name, build in RULES.items() if build() == Composite.uniform(build().conv)}
    assert uniform == set(PLAIN)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-4.0, 4.0)])
@pytest.mark.parametrize("name", ["dense", "max", "strided"])
def test_z_box_at_the_pixels(name, low, high, backend):
    model, (x, labels) = build(name, backend), inputs(name)
    x = np.clip(x, max(low, -3.5), high)
    steps = fbi.forward_pass(model, x)
    ours = fbi.relevance_pass(steps, "target", labels, rule=f"z-box:{low},{high}")
    box = partial(plain_rules.z_box, low=low, high=high)
    agree(ours, plain_rules.relevances(steps, {0: box}, start_of(steps, labels)))
    first = next(iter(ours.values())).numpy()
    assert first.shape == x.shape
    if low == 0:
        assert (first[x == 0] != 0).any()  # a black pixel gets relevance too


def test_z_box_wants_pixels_inside_its_box(backend):
    model, (x, labels) = build("max", backend), inputs("max")
    with pytest.raises(DataError, match="from 0 to 1, got -"):
        fbi.relevance_pass(fbi.forward_pass(model, x), "target", labels, rule="z-box")


# ---- composites ------------------------------------------------------------------------------
COMPOSITES = {
    "epsilon-plus": ("z-plus", None),
    "epsilon-alpha2-beta1": ("alpha-beta", None),
    "epsilon-plus-flat": ("z-plus", plain_rules.flat),
    "epsilon-alpha2-beta1-flat": ("alpha-beta", plain_rules.flat),
    "epsilon-gamma-box": ("gamma", partial(plain_rules.z_box, low=0.0, high=1.0)),
}


@pytest.mark.parametrize("composite", COMPOSITES)
@pytest.mark.parametrize("name", ["max", "avg"])
def test_composites(name, composite, backend):
    model, (x, labels) = build(name, backend), inputs(name)
    steps = fbi.forward_pass(model, np.abs(x) / np.abs(x).max())
    conv, first = COMPOSITES[composite]
    in_conv = partial(plain_rules.gamma, g=0.25) if conv == "gamma" else PLAIN[conv][1]
    ruled = {}
    for i, step in enumerate(steps):
        if isinstance(step.layer, Conv2d):
            ruled[i] = in_conv
        elif isinstance(step.layer, Dense):
            ruled[i] = partial(plain_rules.epsilon, eps=1e-6)
    ruled[0] = first or ruled[0]
    ours = fbi.relevance_pass(steps, "target", labels, rule=composite)
    agree(ours, plain_rules.relevances(steps, ruled, start_of(steps, labels)))


def test_deep_taylor_is_not_negative_for_a_positive_logit(backend):
    """Montavon et al. 2017: with z+ and z-box nothing speaks against."""
    model, (x, _) = build("max", backend), inputs("max")
    steps = fbi.forward_pass(model, np.abs(x) / np.abs(x).max())
    relevances = fbi.relevance_pass(steps, "predicted", rule="deep-taylor")
    assert (steps[-1].z.numpy().max(axis=1) > 0).all()
    assert all((r.numpy() >= 0).all() for r in relevances.values())
    assert all(r.numpy().max() > 0 for r in relevances.values())


def test_a_rule_for_the_relevance_itself_in_the_middle(backend):
    """What flat gives to inactive units goes through ReLU and pooling, and down as R."""
    model, (x, labels) = build("max", backend), inputs("max")
    steps = fbi.forward_pass(model, x)
    for below in ("gamma", "alpha-beta", "epsilon", "zero"):
        ours = fbi.relevance_pass(
            steps, "target", labels, rule=Composite(Flat(), WSquare(), first=PLAIN[below][0])
        )
        ruled = {
            i: plain_rules.w_square if isinstance(step.layer, Dense) else plain_rules.flat
            for i, step in enumerate(steps)
            if step.layer.functional
        }
        ruled[0] = PLAIN[below][1]
        agree(ours, plain_rules.relevances(steps, ruled, start_of(steps, labels)))


# ---- what the rules promise ------------------------------------------------------------------
@pytest.mark.parametrize("name", ["max", "overlapping", "avg", "strided"])
@pytest.mark.parametrize("rule", ["zero", "gamma", "w-square", "flat"])
def test_conservation_without_biases(name, rule, backend):
    steps, labels, relevances = passes(name, backend, rule, bias=False)
    logits = start_of(steps, labels).sum(axis=1)
    for relevance in relevances.values():
        total = relevance.numpy().reshape(BATCH, -1).sum(axis=1)
        np.testing.assert_allclose(total, logits, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["dense", "max", "avg", "strided"])
def test_the_limit_of_epsilon_is_zero(name, backend):
    steps, labels, ours = passes(name, backend, "epsilon:0.05")
    exact = fbi.relevance_pass(steps, "target", labels)
    tiny = fbi.relevance_pass(steps, "target", labels, rule="epsilon:1e-12")
    for key, relevance in ours.items():
        np.testing.assert_allclose(tiny[key].numpy(), exact[key].numpy(), rtol=1e-8, atol=1e-12)
        assert np.abs(relevance.numpy() - exact[key].numpy()).max() > 1e-6


def test_gamma_is_zero_at_0_and_nears_z_plus_at_large_gamma(backend):
    steps, labels, at_zero = passes("max", backend, "gamma:0")
    exact = fbi.relevance_pass(steps, "target", labels)
    for key in exact:
        np.testing.assert_allclose(at_zero[key].numpy(), exact[key].numpy(), rtol=1e-10, atol=1e-13)
    start = Tensor(np.eye(CLASSES)[steps[-1].z.numpy().argmax(axis=1)])
    assert ((start.numpy() * steps[-1].z.numpy()).sum(axis=1) > 0).all()
    large = fbi.relevance_pass(steps, "predicted", rule="gamma:1e9")
    plus = fbi.relevance_pass(steps, "predicted", rule="z-plus")
    for key in large:
        np.testing.assert_allclose(large[key].numpy(), plus[key].numpy(), rtol=1e-6, atol=1e-8)


# ---- published and hand-made cases -------------------------------------------------------------
def two_layers(backend):
    """W1 = 2 * ones(3, 3), W2 = 3 * ones(1, 3), ReLU between, no bias; x = (1, 2, 3)."""
    options = {"bias": False, "backend": backend, "dtype": np.float64}
    net = Sequential(Dense(3, 3, **options), ReLU(), Dense(3, 1, **options))
    net.load_state_dict({"0.weight": np.full((3, 3), 2.0), "2.weight": np.full((1, 3), 3.0)})
    return net, np.array([[1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("zero", (18, 36, 54)),  # published
        ("gamma:5", (18, 36, 54)),  # all weights are positive: nothing to favour
        ("z-plus", (18, 36, 54)),
        ("alpha-beta", (72, 144, 216)),  # nothing speaks against: alpha * alpha * R
        ("w-square", (36, 36, 36)),
        ("flat", (36, 36, 36)),
        ("z-box:0,4", (18, 36, 54)),
        ("z-box:-1,4", (24, 36, 48)),  # (x + 1) / (2 + 3 + 4) of 108
    ],
)
def test_toy_18_36_54(rule, expected, backend):
    net, x = two_layers(backend)
    relevances = fbi.relevance_pass(fbi.forward_pass(net, x), "target", [0], rule=rule)
    np.testing.assert_allclose(relevances["0"].numpy(), [expected], rtol=1e-12)


def test_toy_of_two_rectifiers(backend):
    """f = ReLU(ReLU(x1 - 1) - ReLU(x2)) at (3, 1) is 1; relevance (3, -1), the bias absorbs -1."""
    net = Sequential(
        {
            "first": Dense(2, 2, backend=backend, dtype=np.float64),
            "relu": ReLU(),
            "second": Dense(2, 1, bias=False, backend=backend, dtype=np.float64),
        }
    )
    state = {"first.weight": np.eye(2), "first.bias": [-1.0, 0.0], "second.weight": [[1.0, -1.0]]}
    net.load_state_dict(state)
    steps = fbi.forward_pass(net, np.array([[3.0, 1.0]]))
    assert steps[-1].z.item() == 1

    def first(rule):
        return fbi.relevance_pass(steps, "target", [0], rule=rule)["first"].numpy()[0]

    np.testing.assert_allclose(first("zero"), (3, -1))
    # second: (2, -1) -> sums 2 (for), -1 (against);  first unit: 3 - 1 = 2
    np.testing.assert_allclose(first("z-plus"), (1, 0))
    # R at the hidden units (2, -1); unit 1: 2 * 3/3 = 3 of 3, bias alone speaks against;
    # unit 2 hands down 2 * -1, nothing speaks against it
    np.testing.assert_allclose(first("alpha-beta:2,1"), (4, -2))
    # 2 * 2 - 1 = 3 instead of 1: R at the hidden units (4/3, -1/3); then 3 * 2 - 1 = 5
    np.testing.assert_allclose(first("gamma:1"), (4 / 3 * 6 / 5, -1 / 3))
    np.testing.assert_allclose(first("w-square"), (0.5, 0.5))
    np.testing.assert_allclose(first("epsilon:1"), (3 / 2 * 2 / 3, -0.5 * 1 / 2))


def test_all_relevance_goes_to_the_6(backend):
    net = Sequential(MaxPool2d(2), Flatten(), Dense(1, 1, bias=False, backend=backend))
    net.load_state_dict({"2.weight": [[1.0]]})
    steps = fbi.forward_pass(net, np.array([[[[1.0, 2.0], [5.0, 6.0]]]], np.float32))
    *_, first = walk(steps, fbi.start_ratio(steps[-1].z, "target", [0]), Flat())
    assert not first.at_input.is_ratio
    np.testing.assert_array_equal(first.at_input.values.numpy(), [[[[0, 0], [0, 6]]]])


# ---- gradients -------------------------------------------------------------------------------
def fbi_objective(model, x, labels, rule, start="target"):
    steps = fbi.forward_pass(model, x)
    terms = fbi.fbi_terms(steps, fbi.relevance_pass(steps, start, labels, rule=rule))
    return fbi.objective(cross_entropy(steps[-1].z, labels), fbi.fbi_loss(terms), 0.3)


@pytest.mark.parametrize("rule", [name for name in RULES if name != "zero"])
@pytest.mark.parametrize("name", ["max", "avg"])
def test_gradients(name, rule, backend):
    model, (x, labels) = build(name, backend), inputs(name)
    if "box" in rule or "taylor" in rule:
        x = 0.1 + 0.8 * np.abs(x) / np.abs(x).max()  # away from the bounds
    image = Tensor(x, True, backend)
    checked = {"image": image, **model.parameters()}
    # stabilisers and small sums bend on a short scale: the step is short beside it
    check_gradients(
        lambda: fbi_objective(model, image, labels, rule),
        checked,
        directions=2,
        step=1e-6,
        tolerance=2e-6,
    )


@pytest.mark.parametrize("rule", ["gamma", "alpha-beta", "flat"])
def test_gradients_of_float32_are_those_of_float64(rule, backend):
    def gradients(dtype):
        model, (x, labels) = build("max", backend, dtype=dtype), inputs("max")
        fbi_objective(model, x.astype(dtype), labels, rule).backward()
        assert all(p.grad.dtype == dtype for p in model.parameters().values())
        return {key: p.backend.to_numpy(p.grad) for key, p in model.parameters().items()}

    single, double = gradients(np.float32), gradients(np.float64)
    for key, reference in double.items():
        assert np.linalg.norm(single[key] - reference) < 2e-4 * np.linalg.norm(reference), key


# ---- in training -----------------------------------------------------------------------------
@pytest.mark.parametrize("rule", RULES)
def test_three_step_uses_the_rule(rule, backend):
    model, (x, labels) = build("max", backend), inputs("max")
    x = np.abs(x) / np.abs(x).max()
    losses = three_step(model, x, labels, FBI(rule=rule), weight=0.3)
    expected = fbi_objective(model, x, labels, rule)
    assert losses.loss.item() == pytest.approx(expected.item(), rel=1e-12)
    measured = three_step(model, x, labels, FBI(rule=rule), active=False, measure=True)
    assert measured.penalty.item() == pytest.approx(losses.penalty.item(), rel=1e-12)
    if rule != "zero":
        other = three_step(model, x, labels, weight=0.3)
        assert abs(other.loss.item() - losses.loss.item()) > 1e-6


def test_nothing_is_recorded_without_a_tape(backend):
    with no_grad():
        _, _, relevances = passes("max", backend, "epsilon-plus-flat")
    assert not any(r.requires_grad for r in relevances.values())


# ---- names and errors ------------------------------------------------------------------------
def test_names_with_numbers():
    assert get_rule("epsilon:0.05") == Composite.uniform(Epsilon(0.05))
    assert get_rule("epsilon", epsilon=0.05) == get_rule("epsilon:0.05")
    assert get_rule("alpha-beta:3,2") == get_rule(AlphaBeta(3, 2))
    assert get_rule("epsilon-gamma-box:0.1,0.5,-1,2").first == ZBox(-1, 2)
    assert [name for name in RULES if get_rule(name).exact] == ["zero"]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("delta", "rule 'delta': expected one of zero, epsilon"),
        ("epsilon:x", "rule 'epsilon' got 'x'; expected epsilon \\(0.01\\)"),
        ("flat:1", "expected no numbers"),
        ("gamma:1,2", "expected gamma \\(0.25\\)"),
        ("gamma:-1", "gamma=-1.0: expected a finite number, at least 0"),
        ("epsilon:nan", "epsilon=nan"),
        ("alpha-beta:2,2", "alpha=2.0: expected 1 \\+ beta, that is 3"),
        ("z-box:1,0", "high=0.0: expected a finite number, above 1"),
    ],
)
def test_wrong_rules(rule, message):
    with pytest.raises(ConfigError, match=message):
        get_rule(rule)
    with pytest.raises(ConfigError):
        TrainConfig(fbi_rule=rule)


@pytest.mark.parametrize(
    ("flags", "rule"),
    [
        ("--fbi-stabilizer 0.05", "epsilon:0.05"),
        ("--fbi-stabilizer=1e-3", "epsilon:1e-3"),
        ("--fbi-stabilizer 0", "zero"),
        ("--fbi-stabilizer 0.0", "zero"),
        ("--fbi-rule gamma --fbi-stabilizer 0.05", "epsilon:0.05"),
        ("--fbi-stabilizer 0.05 --fbi-rule gamma", "gamma"),
        ("", "zero"),
    ],
)
def test_the_stabilizer_is_a_rule(flags, rule):
    options = build_parser().parse_args(flags.split())
    assert options.fbi_rule == rule
    assert TrainConfig(fbi_rule=rule).fbi_rule == rule
    assert not hasattr(options, "fbi_stabilizer")


@pytest.mark.parametrize("number", ["-0.1", "nan", "inf", "much"])
def test_a_stabilizer_that_is_none(number, capsys):
    with pytest.raises((ConfigError, SystemExit)) as caught:
        TrainConfig(fbi_rule=build_parser().parse_args(["--fbi-stabilizer", number]).fbi_rule)
    said = str(caught.value) + capsys.readouterr().err
    assert "epsilon" in said or "--fbi-stabilizer" in said


def test_a_layer_without_weights_of_its_own_cannot_follow_a_rule_for_weights():
    class Scale(ReLU):
        functional = True

    net = Sequential({"scale": Scale(), "dense": Dense(3, 2)})
    steps = fbi.forward_pass(net, np.ones((1, 3), np.float32))
    fbi.relevance_pass(steps, "target", [0], rule="epsilon")
    with pytest.raises(ConfigError, match="layer 'scale' is a Scale"):
        fbi.relevance_pass(steps, "target", [0], rule="gamma")
