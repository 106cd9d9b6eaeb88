"""Reverse-mode automatic differentiation: tensors, and their tape."""

from minifbi.autograd import operators as operators  # attaches them to Tensor
from minifbi.autograd.classification import cross_entropy, log_softmax, softmax
from minifbi.autograd.functions import concatenate, maximum, minimum, stack, where
from minifbi.autograd.recording import enable_grad, is_grad_enabled, no_grad
from minifbi.autograd.tensor import Tensor, record
from minifbi.gradcheck import GradientReport, check_gradients

__all__ = ["GradientReport", "Tensor", "check_gradients", "concatenate", "cross_entropy"]
__all__ += ["enable_grad", "is_grad_enabled", "log_softmax", "maximum", "minimum", "no_grad"]
__all__ += ["record", "softmax", "stack", "where"]
