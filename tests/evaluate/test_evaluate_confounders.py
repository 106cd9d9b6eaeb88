"""The decoy gap and the wrong-reason share, on networks whose habits are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from explainers import lrp0
from helpers import small_mnist

from minifbi.datasets import decoy_mnist
from minifbi.errors import ConfigError, ShapeError
from minifbi.evaluate import (
    ACTIVATION_MEASURES,
    CONFOUNDER_MEASURES,
    EXPLANATION_MEASURES,
    confounder_report,
    decoy_gap,
    wrong_reason_share,
)
from minifbi.layers import Layer, Sequential
from minifbi.models import mlp
from minifbi.training import TrainConfig, Trainer, evaluate

DATA = small_mnist()


class Cheat(Layer):
    """Reads the label from the patch's shade; where there is none it says 10, which is no digit."""

    def forward(self, backend, x):
        grey = np.round(x * 255)
        corners = [grey[:, 0, r : r + 4, c : c + 4] for r in (0, 24) for c in (0, 24)]
        logits = np.zeros((len(x), 11), dtype=x.dtype)
        for n in range(len(x)):
            shades = [c[n, 0, 0] for c in corners if c[n].min() == c[n].max() > 0]
            logits[n, int((255 - shades[0]) / 25) if shades else 10] = 1
        return logits, None


def test_a_cheat_has_the_largest_gap() -> None:
    gap = decoy_gap(Sequential(Cheat()), DATA.test, seed=2)
    assert gap.rule == 1
    assert gap.clean == 0
    drawn = decoy_mnist(DATA, seed=2).test
    told = (255 - drawn.images[drawn.masks[:, None]].reshape(-1, 16)[:, 0].astype(int)) // 25
    assert gap.random == pytest.approx((told == drawn.labels).mean())
    assert gap.gap == gap.rule - gap.random
    assert gap.clean_gap == gap.clean - gap.random
    part = decoy_gap(Sequential(Cheat()), DATA.test, seed=2, limit=50)
    assert part.random == pytest.approx((told == drawn.labels)[:50].mean())


class Blind(Layer):
    """Sees the middle of the image only."""

    def forward(self, backend, x):
        return x[:, 0, 8:20, 8:18].mean(axis=1), None


def test_who_does_not_look_has_no_gap() -> None:
    gap = decoy_gap(Sequential(Blind()), DATA.test)
    assert gap.gap == gap.clean_gap == 0
    assert 0 < gap.rule < 1


def test_random_patches_are_those_of_the_test_set(backend) -> None:
    model = mlp(backend=backend, seed=1)
    for seed in (0, 5):
        accuracy, _ = evaluate(model, decoy_mnist(DATA, seed=seed).test)
        assert decoy_gap(model, DATA.test, seed=seed).random == pytest.approx(accuracy)


def test_share_by_hand() -> None:
    r = np.array([[[[1.0, -2.0], [0.0, 3.0]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    masks = np.array([[[False, True], [True, False]]] * 2)
    share = wrong_reason_share(r, masks)
    assert share[0] == pytest.approx(2 / 6)
    assert np.isnan(share[1])
    with pytest.raises(ShapeError, match=r"bool of shape \(2, 2, 2\)"):
        wrong_reason_share(r, masks[0])
    even = np.ones((1, 1, 28, 28))
    assert wrong_reason_share(even, decoy_mnist(DATA).test.masks[:1])[0] == pytest.approx(16 / 784)


def test_a_trained_network_takes_the_shortcut_and_the_report_says_so() -> None:
    """A thousand digits: enough to learn the shades, and the digits not so well."""
    data = small_mnist(test=2000)
    decoys = decoy_mnist(data)
    config = TrainConfig(model="mlp", epochs=8, fbi_weight=0, backend="numpy", batch_size=32)
    honest, fooled = Trainer(config, data), Trainer(config, decoys)
    for _ in range(8):
        honest.run_epoch()
        fooled.run_epoch()
    fair, cheating = (
        confounder_report(t.model, lrp0, data.test, limit=100) for t in (honest, fooled)
    )
    for report in (fair, cheating):
        assert list(report) == list(CONFOUNDER_MEASURES)
        assert all(type(value) is float for value in report.values())
        gap = report["accuracy_rule"] - report["accuracy_random"]
        assert report["decoy_gap"] == pytest.approx(gap)
    assert abs(fair["decoy_gap"]) < 0.02
    assert cheating["decoy_gap"] > 0.05
    assert cheating["wrong_reason_share"] > 1.3 * fair["wrong_reason_share"]
    # the share is that of the predicted class on the decoyed test set
    x, _ = decoys.test.batch(slice(100))
    answers = fooled.model(x).numpy().argmax(axis=1)
    share = wrong_reason_share(lrp0(fooled.model, x, answers), decoys.test.masks[:100])
    assert cheating["wrong_reason_share"] == pytest.approx(np.nanmean(share))


def test_refuses() -> None:
    model = mlp(backend="numpy")
    with pytest.raises(ConfigError, match="has decoys already"):
        decoy_gap(model, decoy_mnist(DATA).test)
    with pytest.raises(ConfigError, match="limit=0"):
        decoy_gap(model, DATA.test, limit=0)
    with pytest.raises(ConfigError, match="limit=0"):
        confounder_report(model, lrp0, DATA.test, limit=0)


# ---- the registry of measures ----------------------------------------------------------------
def test_every_measure_says_what_it_is() -> None:
    for registry in (ACTIVATION_MEASURES, EXPLANATION_MEASURES, CONFOUNDER_MEASURES):
        titles = [measure.title for measure in registry.values()]
        assert len(set(titles)) == len(titles)
        for name, measure in registry.items():
            assert measure.name == name
            assert measure.direction in ("higher", "lower", "neither")
            assert measure.formula
            assert measure.source


def test_importing_the_package_stays_cheap() -> None:
    code = (
        "import sys, minifbi; a = {'scipy', 'matplotlib', 'numba'} & set(sys.modules); "
        "import minifbi.evaluate; b = {'matplotlib', 'numba'} & set(sys.modules); print(a, b)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set() set()"


def test_the_documentation_lists_every_measure_as_it_is() -> None:
    page = Path(__file__).parents[2] / "docs" / "measures.md"
    if not page.exists():
        pytest.skip("installed without docs")
    lines = page.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    expected = []
    for registry in (ACTIVATION_MEASURES, EXPLANATION_MEASURES, CONFOUNDER_MEASURES):
        for m in registry.values():
            direction = "-" if m.direction == "neither" else m.direction
            formula = m.formula.replace("|", r"\|")
            expected.append(f"| `{m.name}` | `{formula}` | {direction} | {m.source} |")
    assert rows == expected
