"""Relevance of networks with batch normalisation, beside zennit's, which merges it first.

Skipped where PyTorch and zennit are not installed.
"""

from __future__ import annotations

import numpy as np
import pytest

from minifbi.explain import LRP
from minifbi.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dense,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Residual,
    Sequential,
)

torch = pytest.importorskip("torch")
pytest.importorskip("zennit", reason="installed without zennit")

from zennit.canonizers import SequentialMergeBatchNorm  # noqa: E402
from zennit.composites import LayerMapComposite  # noqa: E402
from zennit.core import Composite  # noqa: E402
from zennit.layer import Sum  # noqa: E402
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, ZPlus  # noqa: E402
from zennit.types import Activation, AvgPool, BatchNorm, Convolution, Linear  # noqa: E402

TINY = 1e-30  # in the place of zennit's stabilisers, which the rules here do not have

# rule of minifbi: zennit's for convolutions, for dense layers, and for sums and means
RULES = {
    "zero": (Epsilon(TINY), Epsilon(TINY), Norm(TINY)),
    "epsilon:0.1": (Epsilon(0.1), Epsilon(0.1), Norm(0.1)),
    "gamma:0.3": (Gamma(0.3, TINY), Gamma(0.3, TINY), Norm(TINY)),
    "z-plus": (ZPlus(TINY), ZPlus(TINY), Norm(TINY)),
    "alpha-beta:2,1": (AlphaBeta(2, 1, TINY), AlphaBeta(2, 1, TINY), Norm(TINY)),
    "epsilon-plus:0.01": (ZPlus(TINY), Epsilon(0.01), Norm(TINY)),
    "epsilon-plus-flat:0.01": (ZPlus(TINY), Epsilon(0.01), Norm(TINY)),
}


class Merge(SequentialMergeBatchNorm):
    """zennit's merging, without the division by sqrt(1 + eps) that it leaves behind."""

    def register(self, linears, batch_norm):
        super().register(linears, batch_norm)
        batch_norm.eps = 0.0


class Shortcut(torch.nn.Module):
    """PyTorch's twin of Residual, with the sum as a module that zennit sees."""

    def __init__(self, chain, shortcut):
        super().__init__()
        self.chain, self.shortcut, self.sum = chain, shortcut, Sum()

    def forward(self, x):
        return self.sum(torch.stack([self.chain(x), self.shortcut(x)], dim=-1))


def twin(layer: Layer) -> torch.nn.Module:
    """The same network in PyTorch."""
    nn = torch.nn
    if isinstance(layer, Residual):
        chain = nn.Sequential(*map(twin, layer.chain.values()))
        return Shortcut(chain, twin(layer.shortcut) if layer.shortcut else nn.Identity())
    if isinstance(layer, Sequential):
        return nn.Sequential(*map(twin, layer.layers.values()))
    if isinstance(layer, LeakyReLU):
        return nn.LeakyReLU(layer.negative_slope)
    if isinstance(layer, (MaxPool2d, AvgPool2d)):
        return getattr(nn, type(layer).__name__)(*layer.window)
    if isinstance(layer, Conv2d):
        made = nn.Conv2d(
            *(layer.in_channels, layer.out_channels, *layer.window), bias=layer.bias is not None
        )
    elif isinstance(layer, Dense):
        made = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    elif isinstance(layer, BatchNorm2d):
        made = nn.BatchNorm2d(layer.num_features, eps=layer.eps)
    else:
        simple = {ReLU: nn.ReLU, Flatten: nn.Flatten, GlobalAvgPool2d: nn.AdaptiveAvgPool2d}
        return simple[type(layer)](*([1] if isinstance(layer, GlobalAvgPool2d) else []))
    made = made.double()
    state = {name: torch.from_numpy(array) for name, array in layer.state_dict().items()}
    made.load_state_dict(state, strict=not isinstance(layer, BatchNorm2d))
    return made


def random_net(seed: int) -> Sequential:
    """Batch normalisation behind each convolution, a sum, a pooling, all drawn by the seed."""
    rng = np.random.default_rng(seed)

    def conv(inputs, outputs, kernel, stride=1):
        bias = bool(rng.integers(2))
        layer = Conv2d(
            *(inputs, outputs, kernel, stride, kernel // 2), bias, rng=rng, dtype=np.float64
        )
        norm = BatchNorm2d(outputs, dtype=np.float64, eps=rng.choice([1e-5, 1e-2]))
        norm.weight.data = rng.uniform(0.5, 2, outputs) * rng.choice([-1, 1], outputs)
        norm.bias.data = rng.normal(0, 0.5, outputs)
        norm.running_mean = rng.normal(0, 0.5, outputs)
        norm.running_var = rng.uniform(0.3, 3, outputs)
        if bias:
            layer.bias.data = rng.normal(0, 0.3, outputs)
        return layer, norm

    def active():
        return LeakyReLU(0.2) if rng.integers(2) else ReLU()

    stride, width = int(rng.integers(1, 3)), int(rng.integers(3, 6))
    first, second = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    plain = stride == 1 and bool(rng.integers(2))
    last = first if plain else width
    shortcut = None if plain else Sequential(*conv(first, last, 1, stride))
    pool = [AvgPool2d(2), MaxPool2d(2), MaxPool2d(3, 2, 1), AvgPool2d(3, 2, 1)][rng.integers(4)]
    inner = [*conv(first, second, 3, stride), active(), *conv(second, last, 3)]
    return Sequential(
        *(*conv(2, first, 3), active(), pool),
        *(Residual(*inner, shortcut=shortcut), active(), GlobalAvgPool2d(), Flatten()),
        *(Dense(last, 6, rng=rng, dtype=np.float64), active()),
        Dense(6, 3, rng=rng, dtype=np.float64),
    ).eval()


def zennits(model: Layer, x: np.ndarray, classes: np.ndarray, rule: str) -> np.ndarray:
    conv, dense, sums = RULES[rule]
    kinds = [(Convolution, conv), (Linear, dense), (AvgPool, sums), (Sum, sums)]
    passing = [(Activation, Pass()), (BatchNorm, Pass())]
    network = twin(model).eval()
    composite = LayerMapComposite([*passing, *kinds], canonizers=[Merge()])
    if rule.startswith("epsilon-plus-flat"):
        network = torch.nn.Sequential(*network)  # names of its own: the first is "0"
        maps = [*passing, *kinds]

        def first_is_flat(ctx, name, module):
            if name == "0":
                return Flat(TINY)
            return next((hook for kind, hook in maps if isinstance(module, kind)), None)

        composite = Composite(module_map=first_is_flat, canonizers=[Merge()])
    image = torch.from_numpy(x).requires_grad_()
    with composite.context(network) as modified:
        logits = modified(image)
        start = torch.zeros_like(logits)
        rows = range(len(x))
        start[rows, classes] = logits.detach()[rows, classes]
        (relevance,) = torch.autograd.grad(logits, image, start)
    return relevance.numpy()


@pytest.mark.parametrize("rule", RULES)
def test_relevance_is_zennits(rule):
    for seed in range(8):
        model = random_net(seed)
        x = np.random.default_rng(100 + seed).random((3, 2, 8, 8))
        classes = np.array([0, 2, 1])
        expected = zennits(model, x, classes, rule)
        assert np.abs(expected).max() > 0
        found = LRP(rule)(model, x, classes)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=1e-10)
