"""minifbi: interpretable CNNs with the forward-backward interacted-activation loss.

An educational, from-scratch framework on NumPy that implements Yoo, Kim and
Kang, "Relevance Regularization of Convolutional Neural Network for
Interpretable Classification" (CVPR Workshops 2019): a forward pass (Eq. 1), a
relevance pass (Eq. 2), and a backward pass through both (Eq. 3 to 5).

Importing this package imports NumPy and nothing heavier; Numba, CuPy and
matplotlib wait until something needs them.
"""

from minifbi.autograd import Tensor, check_gradients, no_grad
from minifbi.backends import get_backend
from minifbi.datasets import load_dataset
from minifbi.errors import MinifbiError
from minifbi.fbi import fbi_loss, fbi_terms, forward_pass, objective, relevance_pass
from minifbi.models import alexnet, build_model, lenet, mlp, resnet, vgg
from minifbi.numerics import check_numerics

__version__ = "0.1.0"

__all__ = ["MinifbiError", "Tensor", "__version__", "alexnet", "build_model", "check_gradients"]
__all__ += ["check_numerics", "fbi_loss", "fbi_terms", "forward_pass", "get_backend", "lenet"]
__all__ += ["load_dataset", "mlp", "no_grad", "objective", "relevance_pass"]
__all__ += ["resnet", "vgg"]
