"""Layers, one file each: forward (Eq. 1), relevance (Eq. 2) and their adjoints side by side."""

from minifbi.layers.base import Layer, Step
from minifbi.layers.conv import Conv2d
from minifbi.layers.dense import Dense
from minifbi.layers.dropout import Dropout
from minifbi.layers.flatten import Flatten
from minifbi.layers.numerics import check_numerics
from minifbi.layers.pooling import AvgPool2d, MaxPool2d
from minifbi.layers.relu import ReLU
from minifbi.layers.sequential import Sequential

__all__ = [
    "AvgPool2d",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Step",
    "check_numerics",
]
