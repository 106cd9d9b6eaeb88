"""Layers, one file each: forward (Eq. 1), its adjoint backward, and relevance (Eq. 2)."""

from minifbi.layers.base import Layer
from minifbi.layers.batchnorm import BatchNorm2d
from minifbi.layers.conv import Conv2d
from minifbi.layers.dense import Dense
from minifbi.layers.dropout import Dropout
from minifbi.layers.flatten import Flatten
from minifbi.layers.linear import Linear
from minifbi.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from minifbi.layers.relu import LeakyReLU, ReLU
from minifbi.layers.sequential import Residual, Sequential
from minifbi.layers.tape import Step

__all__ = ["AvgPool2d", "BatchNorm2d", "Conv2d", "Dense", "Dropout", "Flatten", "GlobalAvgPool2d"]
__all__ += ["Layer", "LeakyReLU", "Linear", "MaxPool2d", "ReLU", "Residual", "Sequential", "Step"]
