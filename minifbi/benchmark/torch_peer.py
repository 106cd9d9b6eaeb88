"""The same network, loss and step in PyTorch, as a competent user would write them.

PyTorch is not a dependency: only ``python -m minifbi.bench --peer torch`` imports this file.
The relevance pass exists in two forms of the paper's Eq. (2): "ratio" (without division) and
"divided"; the race counts the faster one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
PADDING = {"conv1": 2, "conv2": 2, "conv3": 1, "conv4": 1, "conv5": 1}
POOLED = ("conv1", "conv2", "conv5")
DENSE = ("dense6", "dense7", "dense8")
K = len(CONVOLUTIONS) + len(DENSE)

Parameters = dict[str, torch.Tensor]


def make_parameters(state: Mapping[str, np.ndarray], device: str = "cpu") -> Parameters:
    """Leaf tensors with the numbers of a minifbi ``alexnet().state_dict()``."""
    return {
        name: torch.tensor(array, device=device, requires_grad=True)
        for name, array in state.items()
    }


def forward(p: Parameters, x: torch.Tensor) -> torch.Tensor:
    """Logits; only autograd keeps intermediate arrays."""
    for name in CONVOLUTIONS:
        x = F.relu(F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=PADDING[name]))
        if name in POOLED:
            x = F.max_pool2d(x, 2)
    x = x.flatten(1)
    for name in DENSE[:-1]:
        x = F.relu(F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"]))
    return F.linear(x, p["dense8.weight"], p["dense8.bias"])


def conventional_loss(p: Parameters, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The task loss L_TSK."""
    return F.cross_entropy(forward(p, x), labels)


def fbi_objective(
    p: Parameters, x: torch.Tensor, labels: torch.Tensor, weight: float, form: str
) -> torch.Tensor:
    """Eq. (4) for start "target" and reduction "sum", in one of two forms.

    Parameters
    ----------
    p : dict of str to Tensor
        Weights and biases by minifbi's names, such as "conv1.weight".
    x : Tensor, shape (N, 1, H, W)
        Images, pixels in [0, 1].
    labels : Tensor of int64, shape (N,)
        The true classes.
    weight : float
        lambda.
    form : {"ratio", "divided"}
        Whether the relevance pass carries a^-/a^+ or a^- itself, with eps = 1e-6.
    """
    # forward pass: what each functional layer read, its activation, the winners of the pooling
    inputs, activations, winners = {}, {}, {}
    a = x
    for name in CONVOLUTIONS:
        inputs[name] = a
        a = F.relu(F.conv2d(a, p[f"{name}.weight"], p[f"{name}.bias"], padding=PADDING[name]))
        activations[name] = a
        if name in POOLED:
            a, winners[name] = F.max_pool2d(a, 2, return_indices=True)
    shape = a.shape
    a = a.flatten(1)
    for name in DENSE:
        inputs[name] = a
        a = F.linear(a, p[f"{name}.weight"], p[f"{name}.bias"])
        if name != "dense8":
            a = F.relu(a)
        activations[name] = a
    logits = a
    task = F.cross_entropy(logits, labels)

    # relevance pass
    hot = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    ratio_form = form == "ratio"
    r = hot if ratio_form else logits * hot
    total = 0.0
    for name in reversed(CONVOLUTIONS + DENSE):
        z = activations[name]
        if ratio_form:
            if name != "dense8":
                r = r * (z > 0)
            s = r
        else:
            s = r / (z + torch.where(z >= 0, 1e-6, -1e-6))
        if name in DENSE:
            c = s @ p[f"{name}.weight"]
        else:
            c = F.conv_transpose2d(s, p[f"{name}.weight"], padding=PADDING[name])
        relevance = inputs[name] * c
        total = total + (inputs[name] - relevance).abs().sum()
        r = c if ratio_form else relevance
        if name == "dense6":
            r = r.reshape(shape)
        below = {"dense6": "conv5", "conv3": "conv2", "conv2": "conv1"}.get(name)
        if below:
            r = F.max_unpool2d(r, winners[below], 2, output_size=activations[below].shape[-2:])
    fbi = total / (x.shape[0] * K)
    return (1 - weight) * task + weight * fbi


def make_steps(
    p: Parameters, x: np.ndarray, labels: np.ndarray, weight: float, compiled: bool, form: str
) -> dict[str, Callable[[], Any]]:
    """The three timed functions, each with its own Adam, on the given images and labels.

    Returns
    -------
    dict
        "inference", "conventional" and "fbi", functions without arguments.
    """
    images, targets = torch.from_numpy(x), torch.from_numpy(labels)
    device = next(iter(p.values())).device
    images, targets = images.to(device), targets.to(device)
    parameters = list(p.values())

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        return torch.compile(function) if compiled else function

    logits, task = wrap(forward), wrap(conventional_loss)
    objective = wrap(fbi_objective)

    def training_step(loss: Callable[[], torch.Tensor]) -> Callable[[], float]:
        optimizer = torch.optim.Adam(parameters, lr=1e-3)

        def step() -> float:
            optimizer.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            optimizer.step()
            return float(value.item())

        return step

    def inference() -> Any:
        with torch.no_grad():
            return logits(p, images)

    return {
        "inference": inference,
        "conventional": training_step(lambda: task(p, images, targets)),
        "fbi": training_step(lambda: objective(p, images, targets, weight, form)),
    }
