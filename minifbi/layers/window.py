"""What convolution and pooling share: a window that moves over maps."""

from typing import Any

from minifbi.arguments import expect_shape, pair
from minifbi.errors import ShapeError

Sides = int | tuple[int, int]  # vertical and horizontal, or one number for both


class Window:
    """Mixed into layers with a window.

    Attributes
    ----------
    kernel_size, stride, padding : (int, int)
        Vertical, horizontal.
    window : tuple of the three
    """

    def _init_window(self, kernel_size: Any, stride: Any, padding: Any) -> None:
        self.kernel_size = pair("kernel_size", kernel_size, 1)
        self.stride = pair("stride", stride, 1)
        self.padding = pair("padding", padding, 0)
        self.window = (self.kernel_size, self.stride, self.padding)

    def _check_size(self, shape: tuple[int, ...], channels: Any = "C", hint: str = "") -> None:
        """Raise ShapeError unless these are maps (N, C, H, W), and the window fits into them."""
        expect_shape(f"{type(self).__name__} got an input", shape, ("N", channels, "H", "W"), hint)
        (kh, kw), _, (ph, pw) = self.window
        least = (kh - 2 * ph, kw - 2 * pw)
        if shape[2] < least[0] or shape[3] < least[1]:
            raise ShapeError(
                f"{type(self).__name__} got an input of shape {shape}: its window "
                f"{self.kernel_size} with padding {self.padding} needs maps of at least "
                f"{least[0]} x {least[1]}"
            )
