"""Rules by the names of layers and by depth."""

from __future__ import annotations

import numpy as np
import pytest
from small_nets import build, inputs
from small_nets import residual_net as net

from minifbi import fbi
from minifbi.autograd import Tensor, check_gradients
from minifbi.errors import ConfigError
from minifbi.explain import LRP, Unit
from minifbi.fusion import fuse
from minifbi.rules import Composite, Epsilon, Flat, Gamma, ZBox, Zero, ZPlus, get_rule
from minifbi.training import TrainConfig

TEXT = "0=z-box; 3=gamma:0.5; *=epsilon:0.1"


def rules_of(composite, model, x):
    steps = fbi.forward_pass(model, x)
    found = zip(steps, composite.rules(steps), strict=True)
    return {step.name: rule for step, rule in found if rule is not None}


def test_by_name_by_pattern_and_by_range():
    model, x = net(), np.random.default_rng(0).random((2, 1, 8, 4))
    composite = Composite.by_name(
        {"stem": ZBox(), "block1.*": Gamma(0.5), "*.1": Flat(), "..5": ZPlus()},
        default=Epsilon(0.1),
    )
    assert rules_of(composite, model, x) == {
        "stem": ZBox(),
        "block1.conv1": Gamma(0.5),
        "block1.conv2": Gamma(0.5),
        "block1": Epsilon(0.1),  # a sum: the rule of all layers, as average pooling
        "block2.0.0": ZPlus(),
        "block2.1": Flat(),
        "block2.shortcut.0": Epsilon(0.1),
        "block2.shortcut.1": Flat(),
        "block2": Epsilon(0.1),
        "out": Epsilon(0.1),
    }
    text = "stem=z-box; block1.*=gamma:0.5; *.1=flat; ..5=z-plus; *=epsilon:0.1"
    assert get_rule(text) == composite
    assert get_rule(text).describe() == (
        "stem=z-box 0, 1; block1.*=gamma 0.5; *.1=flat; ..5=z+; *=epsilon 0.1"
    )


def test_by_depth():
    model, x = net(), np.random.default_rng(0).random((2, 1, 8, 4))
    composite = get_rule("zero-epsilon-gamma-box:0.1,0.5")
    found = rules_of(composite, model, x)
    weighted = [s.name for s in fbi.forward_pass(model, x) if s.layer.functional]
    assert [found[name] for name in weighted] == [
        ZBox(),
        *[Gamma(0.5)] * 2,
        *[Epsilon(0.1)] * 2,
        *[Zero()] * 2,
    ]
    assert (
        composite.describe()
        == "gamma 0.5, epsilon 0.1, LRP-0 by depth, z-box 0, 1 in the first layer"
    )


def test_it_equals_the_composite_of_kinds(backend):
    model, (x, labels) = build("max", backend), inputs("max")
    x = np.abs(x) / np.abs(x).max()
    kinds = Composite(Gamma(0.5), Epsilon(0.1), ZBox(), pooling=Epsilon(0.1))
    for target in (labels, Unit("3", 1)):  # names above the unit's layer are still names
        np.testing.assert_array_equal(LRP(TEXT)(model, x, target), LRP(kinds)(model, x, target))


def test_exact_only_where_every_rule_is(backend):
    assert get_rule("0=zero; *=zero").exact
    assert not get_rule("0=zero; 3=epsilon").exact
    assert not get_rule("zero-epsilon-gamma-box").exact
    model, (x, labels) = build("max", backend), inputs("max")
    fused = fuse(model, get_rule("0=zero"))
    assert (fused is model) == (not model.backend.fuses)
    assert fuse(model, get_rule("0=gamma")) is model
    np.testing.assert_allclose(
        LRP("0=zero; 3=zero")(model, x, labels), LRP("zero")(model, x, labels), rtol=1e-12
    )


@pytest.mark.parametrize(
    "rule", ["0=flat; 3=gamma:0.5; *=epsilon:0.1", "zero-epsilon-gamma-box:0.1"]
)
def test_training_through_it(rule):
    model, (x, labels) = build("max", "numpy"), inputs("max")
    x = 0.1 + 0.8 * np.abs(x) / np.abs(x).max()  # inside the box, also a step away
    image = Tensor(x, True, "numpy")

    def loss():
        steps = fbi.forward_pass(model, image)
        relevances = fbi.relevance_pass(steps, "target", labels, rule=rule)
        return fbi.fbi_loss(fbi.fbi_terms(steps, relevances))

    checked = {"image": image, **model.parameters()}
    check_gradients(loss, checked, directions=2, step=1e-6, tolerance=2e-6)
    assert TrainConfig(fbi_rule=rule).fbi_rule == rule


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "conv9=gamma",
            r"rule for 'conv9': no layer with weights is called so; expected some",
        ),
        ("2=gamma", "rule for '2': no layer"),  # a pooling
        ("7..=gamma", "rule for '7..'"),
        ("0=", "at '0=': expected LAYERS=RULE"),
        ("=gamma", "at '=gamma': expected LAYERS=RULE"),
        ("0=gamma; 3", "at '3': expected LAYERS=RULE"),
        ("0=gamma; 0=flat", "each LAYERS once"),
        ("0=epsilon-plus", "one rule for a layer"),
        ("0=gamma:x", "rule 'gamma' got 'x'"),
    ],
)
def test_wrong_entries(rule, message):
    model, (x, labels) = build("max", "numpy"), inputs("max")
    with pytest.raises(ConfigError, match=message):
        LRP(rule)(model, x, labels)
