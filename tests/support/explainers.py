"""Small explainers for tests of the measures, and models whose explanation is known."""

from __future__ import annotations

import numpy as np

from minifbi.autograd import no_grad
from minifbi.fbi import forward_pass, relevance_pass
from minifbi.layers import Dense, Flatten, Sequential
from minifbi.switch import evaluating


def lrp0(model, images, classes):
    """LRP-0 at the image, from the relevance pass of the package."""
    with evaluating(model), no_grad():
        steps = forward_pass(model, images)
        relevances = relevance_pass(steps, "target", classes)
        return np.array(next(iter(relevances.values())).numpy()).reshape(images.shape)


def linear(weight, bias=None, shape=(1, 4, 3)):
    """A model whose logits are weight @ pixels + bias, float64; weight is (F, C * H * W)."""
    dense = Dense(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=np.float64)
    model = Sequential({"flatten": Flatten(), "dense": dense})
    dense.weight.data = np.array(weight, dtype=np.float64)
    if bias is not None:
        dense.bias.data = np.array(bias, dtype=np.float64)
    model.input_shape = shape
    return model


def contributions(model, images, classes):
    """What each pixel adds to the logit of a linear model: w * x, by itself."""
    weight = model["dense"].weight.data[classes].reshape(images.shape)
    return weight * images
