# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. Convolution three ways
#
# The networks of this course spend nearly all of their time in one operation, the *convolution*.
# It slides a small window over an image and asks at each place: how much does this look like my
# pattern? The same operation, turned around in two ways, is also what carries gradients and
# relevance back.
#
# In this tutorial you will
#
# 1. write a convolution as plain loops, and run it on a handwritten digit,
# 2. turn it into one matrix product, by laying out all windows side by side,
# 3. meet its two partners, the *transposed convolution* and the *weight gradient*, in the very same
#    loops, and see what they look like,
# 4. let a kernel learn its pattern from examples,
# 5. race the loops, the matrix product and minifbi's compiled kernels,
# 6. find out that these three maps are all that a convolution layer needs for the FBI loss.
#
# You need [notebook 1](01_tensors_and_the_tape.ipynb), or its main point: gradients go back through
# each step, multiplied by the slope of that step. It takes 15 to 30 minutes.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from minifbi import load_dataset

FAST = os.environ.get("MINIFBI_FAST") == "1"  # fewer repeats; for the tests

plt.rcParams.update({"figure.dpi": 110, "font.size": 10, "axes.titlelocation": "left"})
BLUE, RED, GREY, ORANGE = "#1f77b4", "#c0392b", "#666666", "#d98200"

mnist = load_dataset("mnist")
images, labels = mnist.test.batch(slice(0, 64), dtype=np.float64)
print("images", images.shape, " labels", labels[:8])

# %% [markdown]
# Images come in *batches*: an array of shape $(N, C, H, W)$ holds $N$ images with $C$ *channels*
# (1 for grey, 3 for colour, more inside of a network), each $H$ pixels high and $W$ wide.
#
# ## 1. Loops
#
# The pattern is called a *kernel*. A layer has $O$ of them, and each makes one channel of the
# result. All of them together are the weight $W$ of shape $(O, C, k_h, k_w)$: each kernel has
# $k_h$ rows, $k_w$ columns, and a layer for each input channel. One number of the result $z$, in
# image $n$, channel $o$, row $r$ and column $q$, is
#
# $$z_{n,o,r,q} = \sum_{c} \sum_{i} \sum_{j}
#   x_{n,\;c,\;r s + i - p,\;q s + j - p}\; w_{o,c,i,j}$$
#
# where $i, j$ run over the rows and columns of the kernel. The *stride* $s$ says how many pixels
# the window moves from one place to the next. The *padding* $p$ says how many rows and columns of
# zeros are thought around the image, so that the window may stand on its edge; a pixel outside of
# the image counts as 0. How many places are there for the window?
#
# $$H_z = \Big\lfloor \frac{H + 2p - k_h}{s} \Big\rfloor + 1$$
#
# and the same for the width; $\lfloor\;\rfloor$ means rounded down. (Mathematicians call this
# formula *cross-correlation*, and reserve "convolution" for a kernel that is flipped. Since kernels
# are learnt, nobody in our field minds.)
#
# In code, that is seven loops (`np.ndindex` runs several in one line). We write them once, as a
# list of all *meetings*: which pixel of the input meets which weight, and to which number of the
# result do they contribute?


# %%
def output_shape(x_shape, w_shape, stride, padding):
    (n, _, height, width), (o, _, kh, kw) = x_shape, w_shape
    rows = (height + 2 * padding - kh) // stride + 1
    columns = (width + 2 * padding - kw) // stride + 1
    return n, o, rows, columns


def meetings(x_shape, w_shape, stride=1, padding=0):
    """All triples of indices (input pixel, weight, output pixel) that belong together."""
    _, channels, height, width = x_shape
    _, _, kh, kw = w_shape
    for n, o, r, q in np.ndindex(output_shape(x_shape, w_shape, stride, padding)):
        for c, i, j in np.ndindex(channels, kh, kw):
            row, column = r * stride + i - padding, q * stride + j - padding
            if 0 <= row < height and 0 <= column < width:  # outside of the image there are zeros
                yield (n, c, row, column), (o, c, i, j), (n, o, r, q)


# %% tags=["conv-loops"]
def conv_loops(x, w, stride=1, padding=0):
    """Convolution: (N, C, H, W) and (O, C, kh, kw) to (N, O, H_z, W_z)."""
    z = np.zeros(output_shape(x.shape, w.shape, stride, padding))
    for at_x, at_w, at_z in meetings(x.shape, w.shape, stride, padding):
        z[at_z] += x[at_x] * w[at_w]
    return z


# %% [markdown]
# A kernel that looks for vertical edges, on the first digit. In MNIST ink is 1 and paper is 0.
# Where there is more ink on the right of the window than on its left, it gives a positive number,
# in the opposite case a negative one, and an area that is the same everywhere gives 0.

# %%
edges = np.array([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])[None, None]
digit = images[:1]
z = conv_loops(digit, edges, padding=1)
print(digit.shape, "->", z.shape)

# %% tags=["hide-input"]
fig, axes = plt.subplots(
    1, 3, figsize=(9, 3.4), layout="constrained", gridspec_kw={"width_ratios": [1, 0.55, 1]}
)
row, column = (int(v) for v in np.unravel_index(z[0, 0].argmax(), z.shape[2:]))
limit = np.abs(z).max()
axes[0].imshow(digit[0, 0], cmap="gray_r")
axes[0].add_patch(plt.Rectangle((column - 1.5, row - 1.5), 3, 3, fill=False, ec=RED, lw=2))
axes[0].set_title(f"input: a {labels[0]}")
axes[1].imshow(edges[0, 0], cmap="RdBu", vmin=-3, vmax=3)
for (i, j), value in np.ndenumerate(edges[0, 0]):
    axes[1].text(j, i, f"{value:g}", ha="center", va="center")
axes[1].set_title("kernel")
axes[2].imshow(z[0, 0], cmap="RdBu", vmin=-limit, vmax=limit)
axes[2].add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=RED, lw=2))
axes[2].set_title("result: blue +, red -")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %%
window = digit[0, 0, row - 1 : row + 2, column - 1 : column + 2]
print("under the red window:\n", window.round(2))
print("times the kernel, added up:", (window * edges[0, 0]).sum().round(3))
print("number in the red pixel:   ", z[0, 0, row, column].round(3))

# %% [markdown]
# ## 2. One matrix product
#
# Python's loops are slow: each of these steps passes through the interpreter. NumPy has one
# operation that is very fast: the product of two matrices. Can we get there?
#
# Write down every window as one *column*, its pixels below each other. Then the kernel is a row,
# and the product of that row with each column is one number of the result. This arrangement is
# known as **im2col**, "image to columns" (Chellapilla, Puri and Simard, 2006).

# %% tags=["hide-input"]
picture = np.arange(16).reshape(4, 4)
windows = np.lib.stride_tricks.sliding_window_view(picture, (3, 3))
columns = windows.reshape(4, 9).T
shades = ["#1f77b4", "#d98200", "#2a8c4a", "#8e5aa8"]


def cells(ax, numbers, colors, title):
    """Draw a matrix of numbers as boxes."""
    for (i, j), value in np.ndenumerate(numbers):
        ax.add_patch(plt.Rectangle((j, -i), 1, -1, facecolor=colors(i, j), ec=GREY, lw=0.7))
        ax.text(j + 0.5, -i - 0.5, f"{value:g}", ha="center", va="center", size=9)
    ax.set(xlim=(-0.2, numbers.shape[1] + 0.2), ylim=(-numbers.shape[0] - 0.2, 0.2), aspect="equal")
    ax.set_title(title, size=10)
    ax.axis("off")


fig, axes = plt.subplots(
    1, 3, figsize=(9, 4), layout="constrained", gridspec_kw={"width_ratios": [1.3, 2, 1]}
)
cells(axes[0], picture, lambda i, j: "white", "an image, pixels numbered")
for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
    gap = 0.06 * k
    box = plt.Rectangle((j + gap, -i - gap), 3 - 2 * gap, -3 + 2 * gap, fill=False, ec=shades[k])
    box.set_linewidth(2.5)
    axes[0].add_patch(box)
diagonal = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])[None, None]
kernel = diagonal.reshape(1, 9)
cells(axes[1], kernel, lambda i, j: "#eeeeee", "the kernel as a row, times ...")
cells(axes[2], columns, lambda i, j: shades[j] + "55", "... windows as columns")
plt.show()

print("kernel row @ columns =", (kernel @ columns).ravel())
print("loops                =", conv_loops(picture[None, None].astype(float), diagonal).ravel())

# %% [markdown]
# With several channels, a window reaches through all of them, so a column has $C k_h k_w$ numbers;
# with several kernels, each is a row; with several images, their windows stand side by side. The
# result is one product, whatever the geometry:
#
# $$\underbrace{Z}_{O \times P} \;=\; \underbrace{W}_{O \times C k_h k_w}\;
#   \underbrace{X_{col}}_{C k_h k_w \times P}, \qquad P = N H_z W_z .$$


# %% tags=["conv-im2col"]
def im2col(x, kernel, stride=1, padding=0):
    """Each window as one column: (C * kh * kw, N * H_z * W_z)."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axis=(2, 3))
    windows = windows[:, :, ::stride, ::stride]  # (N, C, H_z, W_z, kh, kw)
    n, c, rows, columns, kh, kw = windows.shape
    return windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * kh * kw, n * rows * columns)


def conv_im2col(x, w, stride=1, padding=0):
    n, o, rows, columns = output_shape(x.shape, w.shape, stride, padding)
    z = w.reshape(o, -1) @ im2col(x, w.shape[2:], stride, padding)
    return z.reshape(o, n, rows, columns).transpose(1, 0, 2, 3)


rng = np.random.default_rng(0)
for stride, padding in ((1, 0), (1, 2), (2, 1), (3, 0)):
    x = rng.standard_normal((2, 3, 8, 7))
    w = rng.standard_normal((4, 3, 3, 3))
    by_loops, by_product = (f(x, w, stride, padding) for f in (conv_loops, conv_im2col))
    print(f"stride {stride}, padding {padding}: {by_loops.shape}", end="  ")
    print(f"largest difference {np.abs(by_loops - by_product).max():.0e}")
    np.testing.assert_allclose(by_loops, by_product, atol=1e-12)

# %% [markdown]
# What does it cost? Each pixel now stands in up to $k_h k_w$ columns. For the second convolution
# of the paper's network (16 channels, kernels of 5 x 5) the columns need this much memory:

# %%
x = np.zeros((64, 16, 14, 14))
columns = im2col(x, (5, 5), padding=2)
print(f"input {x.nbytes / 1e6:.1f} MB, columns {columns.nbytes / 1e6:.1f} MB")

# %% [markdown]
# ## 3. The transposed convolution
#
# A convolution is *linear* in its input: twice the image gives twice the result, and the result of
# a sum of images is the sum of their results. Every linear map is a matrix. Put the pixels of the
# image into one long vector, those of the result into another; then there is a matrix $M$ with
# $\mathbf z = M \mathbf x$. We can read it off the meetings: $w$ stands in the row of the output
# pixel and the column of the input pixel.

# %%
x_shape, w_shape = (1, 1, 6, 6), (1, 1, 3, 3)
w = np.arange(1.0, 10.0).reshape(w_shape)
z_shape = output_shape(x_shape, w_shape, 1, 0)

M = np.zeros((np.prod(z_shape), np.prod(x_shape)))
for at_x, at_w, at_z in meetings(x_shape, w_shape):
    M[np.ravel_multi_index(at_z, z_shape), np.ravel_multi_index(at_x, x_shape)] += w[at_w]

x = rng.standard_normal(x_shape)
np.testing.assert_allclose(M @ x.ravel(), conv_loops(x, w).ravel())
print("M has shape", M.shape, "and", np.count_nonzero(M), "numbers that are not 0")

# %% tags=["hide-input"]
fig, axes = plt.subplots(
    1, 2, figsize=(9, 4), layout="constrained", gridspec_kw={"width_ratios": [36, 16]}
)
for ax, matrix, title in (
    (axes[0], M, "$M$: one row for each output pixel"),
    (axes[1], M.T, "$M^\\top$: one column for each"),
):
    ax.imshow(np.where(matrix == 0, np.nan, matrix), cmap="viridis", vmin=1, vmax=9)
    ax.set_title(title, size=10)
    ax.set_xticks(np.arange(-0.5, matrix.shape[1]), minor=True)
    ax.set_yticks(np.arange(-0.5, matrix.shape[0]), minor=True)
    ax.grid(which="minor", color="#e4e4e4", lw=0.5)
    ax.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
plt.show()

# %% [markdown]
# Each row holds the same nine weights, a little further to the right: that is the sliding window.
#
# Now think of the way back. From [notebook 1](01_tensors_and_the_tape.ipynb) we know that the
# gradient at the input is the gradient $\mathbf g$ at the result, multiplied along each path by the
# slope. The slope of $z_a$ with respect to $x_b$ is the matrix entry $M_{ab}$. So
#
# $$\frac{\partial L}{\partial x_b} = \sum_a M_{ab}\, g_a, \qquad\text{that is}\qquad
#   \frac{\partial L}{\partial \mathbf x} = M^\top \mathbf g .$$
#
# The **transposed convolution** is this map. It needs no matrix, and not even new loops. The same
# pixels and weights meet; only the roles are swapped. Where the convolution *reads* the input and
# *writes* the result, its transpose reads the result's side and writes the input's.


# %% tags=["conv-transpose"]
def transpose_loops(g, w, stride=1, padding=0, size=None):
    """Transposed convolution: (N, O, H_z, W_z) to (N, C, H, W), with `size` = (H, W)."""
    x = np.zeros((g.shape[0], w.shape[1], *size))
    for at_x, at_w, at_z in meetings(x.shape, w.shape, stride, padding):
        x[at_x] += g[at_z] * w[at_w]
    return x


g = rng.standard_normal(z_shape)
np.testing.assert_allclose(M.T @ g.ravel(), transpose_loops(g, w, size=(6, 6)).ravel())
print("the loops agree with the transposed matrix")

# %% [markdown]
# What does it look like? A convolution gathers: each output pixel looks at a window. The transpose
# *stamps*: each pixel of $\mathbf g$ presses its number, times the kernel, onto a window of the
# result. Where stamps overlap, they add up.

# %% tags=["hide-input"]
stamps = np.zeros(z_shape)
stamps[0, 0, 0, 0], stamps[0, 0, 2, 1] = 1, 2
one, two = (np.where(stamps == value, stamps, 0) for value in (1, 2))
pictures = {
    "$\\mathbf{g}$: two pixels": stamps,
    "the stamp of the 1": transpose_loops(one, w, size=(6, 6)),
    "the stamp of the 2": transpose_loops(two, w, size=(6, 6)),
    "together": transpose_loops(stamps, w, size=(6, 6)),
}
fig, axes = plt.subplots(1, 4, figsize=(9, 2.7), layout="constrained")
for ax, (title, values) in zip(axes, pictures.items(), strict=True):
    shades = plt.get_cmap("Oranges")(values[0, 0] / (2.5 * max(2.0, values.max())))
    cells(ax, values[0, 0], lambda i, j, s=shades: s[i, j], title)
plt.show()

# %% [markdown]
# It is tempting to call this "deconvolution" and to believe that it undoes the convolution. It does
# not: a transpose is no inverse.

# %%
x = rng.standard_normal(x_shape)
back = transpose_loops(conv_loops(x, edges), edges, size=(6, 6))
print("x     ", x[0, 0, 2].round(2))
print("and back", back[0, 0, 2].round(2))

# %% [markdown]
# What holds is this. For all $\mathbf x$ and $\mathbf g$,
#
# $$\langle\, \mathrm{conv}(\mathbf x),\; \mathbf g \,\rangle
#   = \langle\, \mathbf x,\; \mathrm{conv}^\top(\mathbf g) \,\rangle ,$$
#
# where $\langle \mathbf a, \mathbf b \rangle$ means: multiply number by number, then add up. This
# is what defines a transpose, and it makes a good test, for it needs no matrix. It holds for every
# stride and padding:

# %% tags=["adjoint-test"]
for stride, padding in ((1, 0), (1, 2), (2, 1), (3, 0)):
    x, w4 = rng.standard_normal((2, 3, 8, 7)), rng.standard_normal((4, 3, 3, 3))
    z = conv_loops(x, w4, stride, padding)
    g = rng.standard_normal(z.shape)
    left = (z * g).sum()
    right = (x * transpose_loops(g, w4, stride, padding, size=(8, 7))).sum()
    print(f"stride {stride}, padding {padding}: {left:.12f} = {right:.12f}")
    np.testing.assert_allclose(left, right)

# %% [markdown]
# With a stride above 1, the stamps do not cover all pixels equally often. Let each stamp press ones
# only, so that we count them:

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for ax, (size, stride) in zip(axes, ((3, 1), (3, 2), (2, 2)), strict=True):
    ones = np.ones((1, 1, size, size))
    places = np.ones(output_shape((1, 1, 9, 9), ones.shape, stride, 0))
    counts = transpose_loops(places, ones, stride, size=(9, 9))[0, 0]
    shades = plt.get_cmap("Blues")(counts / 14)
    cells(ax, counts, lambda i, j, s=shades: s[i, j], f"kernel {size}, stride {stride}")
plt.show()

# %% [markdown]
# In the middle picture the counts alternate: this is where the *checkerboards* in heatmaps and in
# generated images come from (Odena, Dumoulin and Olah, 2016). On the right the last row and column
# are never covered at all: no window fits there, and those pixels have no influence on the result.
#
# The paper's network uses stride 1 in its convolutions.
#
# ## 4. The weight gradient
#
# The convolution is also linear in its *weights*. So there is one more transpose, which answers:
# how fast does the loss move if I nudge a weight? Each meeting contributes (pixel) times (gradient
# at the result), and the loops write at the weight:


# %% tags=["conv-weight"]
def weight_loops(x, g, kernel, stride=1, padding=0):
    """Weight gradient: (N, C, H, W) and (N, O, H_z, W_z) to (O, C, kh, kw)."""
    w = np.zeros((g.shape[1], x.shape[1], *kernel))
    for at_x, at_w, at_z in meetings(x.shape, w.shape, stride, padding):
        w[at_w] += x[at_x] * g[at_z]
    return w


# %% [markdown]
# Three maps, one set of meetings. Here is the best way to remember it. Take *one number*, made of
# all three:
#
# $$T(\mathbf x, \mathbf w, \mathbf g) = \sum_{\text{meetings}} x \cdot w \cdot g .$$
#
# The convolution, its transpose and the weight gradient are the three slopes of $T$. Whichever two
# of the three you have, the map that belongs to them gives you the third.

# %% tags=["trio"]
x, w4 = rng.standard_normal((2, 3, 6, 6)), rng.standard_normal((4, 3, 3, 3))
z = conv_loops(x, w4, padding=1)
g = rng.standard_normal(z.shape)
print("<conv(x, w), g>   =", (z * g).sum())
print("<x, conv_T(g, w)> =", (x * transpose_loops(g, w4, 1, 1, size=(6, 6))).sum())
print("<w, conv_W(x, g)> =", (w4 * weight_loops(x, g, (3, 3), 1, 1)).sum())

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
corners = {"$x$": (0, 0), "$w$": (4, 0), "$g$": (2, 2.6)}
below = {"$x$": "the input", "$w$": "the weights", "$g$": "the result's side"}
maps = [
    ("conv", ("$x$", "$w$"), "$g$", BLUE),
    ("conv$_T$", ("$g$", "$w$"), "$x$", RED),
    ("conv$_W$", ("$x$", "$g$"), "$w$", ORANGE),
]
for name, sources, target, color in maps:
    start = np.mean([corners[s] for s in sources], axis=0)
    end = np.array(corners[target])
    tip = start + 0.62 * (end - start)
    ax.annotate("", tip, start, arrowprops={"arrowstyle": "-|>", "color": color, "lw": 2.2})
    ax.plot(*zip(*(corners[s] for s in sources), strict=True), color="#cccccc", lw=6, zorder=0)
    outside = start - 0.16 * (end - start)
    ax.text(*outside, name, color=color, ha="center", va="center", weight="bold")
for name, (px, py) in corners.items():
    ax.scatter(px, py, s=1500, color="white", edgecolor=GREY, zorder=2)
    ax.text(px, py, name, ha="center", va="center", size=13, zorder=3)
    ax.text(px, py - 0.62 if py == 0 else py + 0.55, below[name], ha="center", color=GREY)
ax.set(xlim=(-1.3, 5.3), ylim=(-1, 3.5), aspect="equal")
ax.axis("off")
plt.show()

# %% [markdown]
# In the triangle each map takes the two ends of one side, and its arrow leads to the third corner.
#
# As matrix products they are just as short. With the columns of section 2, the weight gradient is
# $G X_{col}^\top$. The transpose multiplies by $W^\top$ first and then adds the columns back at the
# places where they came from (*col2im*).


# %%
def weight_im2col(x, g, kernel, stride=1, padding=0):
    o = g.shape[1]
    g_rows = g.transpose(1, 0, 2, 3).reshape(o, -1)  # (O, N * H_z * W_z)
    columns = im2col(x, kernel, stride, padding)  # (C * kh * kw, N * H_z * W_z)
    return (g_rows @ columns.T).reshape(o, x.shape[1], *kernel)


np.testing.assert_allclose(weight_im2col(x, g, (3, 3), 1, 1), weight_loops(x, g, (3, 3), 1, 1))

# %% [markdown]
# **A kernel learns.** Suppose someone hides the edge kernel from us and shows only images and
# results. We start from zero and follow the weight gradient of the mean squared error. With
# $e = \mathrm{conv}(\mathbf x, \mathbf w) - \mathbf z$, the error at each of the $m$ result pixels,
# the loss is $\frac1m \sum e^2$, and its slope with respect to each $e$ is $\frac2m e$.

# %%
hidden = conv_im2col(images, edges, padding=1)
learnt = np.zeros_like(edges)
history = {0: learnt.copy()}
for step in range(1, 301):
    error = conv_im2col(images, learnt, padding=1) - hidden
    learnt -= 1.0 * weight_im2col(images, 2 * error / error.size, (3, 3), padding=1)
    history[step] = learnt.copy()
print("largest error of a weight:", np.abs(learnt - edges).max().round(4))

# %% tags=["hide-input"]
fig, axes = plt.subplots(1, 5, figsize=(9, 2.3), layout="constrained")
for ax, step in zip(axes, (1, 5, 20, 80, 300), strict=True):
    ax.imshow(history[step][0, 0], cmap="RdBu", vmin=-3, vmax=3)
    for (i, j), value in np.ndenumerate(history[step][0, 0]):
        text = f"{value.round(1) + 0:.1f}"  # + 0: no minus before a zero
        ax.text(j, i, text, ha="center", va="center", size=9)
    ax.set(title=f"step {step}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## 5. The third way: compiled
#
# minifbi keeps its heavy computations in *backends*. `numpy` is the readable one, and computes as
# we did in section 2. `numba` is the fast one: Numba translates Python functions into machine code,
# and there loops are no longer slow. How much of its speed is due to the translation alone? To see
# that, we also write the seven loops in the plainest way, and let Numba compile them.

# %%
import numba
from minifbi import get_backend


@numba.njit
def conv_compiled(x, w, stride, padding):
    samples, channels, height, width = x.shape
    kernels, _, kh, kw = w.shape
    rows = (height + 2 * padding - kh) // stride + 1
    columns = (width + 2 * padding - kw) // stride + 1
    z = np.zeros((samples, kernels, rows, columns), x.dtype)
    for n in range(samples):
        for o in range(kernels):
            for r in range(rows):
                for q in range(columns):
                    for c in range(channels):
                        for i in range(kh):
                            for j in range(kw):
                                row, column = r * stride + i - padding, q * stride + j - padding
                                if 0 <= row < height and 0 <= column < width:
                                    z[n, o, r, q] += x[n, c, row, column] * w[o, c, i, j]
    return z


numpy_backend, numba_backend = get_backend("numpy"), get_backend("numba")
contestants = {
    "Python loops": lambda x, w: conv_loops(x, w, 1, 2),
    "the same, compiled": lambda x, w: conv_compiled(x, w, 1, 2),
    "im2col (numpy backend)": lambda x, w: numpy_backend.conv2d(x, w, (1, 1), (2, 2)),
    "numba backend": lambda x, w: numba_backend.conv2d(x, w, (1, 1), (2, 2)),
}

# %% [markdown]
# The race is over the second convolution of the paper's network, a batch of 64, in float32 as in
# training. The Python loops get a single image, and only two of its 16 channels; we compare
# *multiply-adds a second*. Everyone runs once before the clock starts, since compiled functions are
# compiled at their first call. Before speed, correctness: all must agree.

# %% tags=["race"]
x = rng.standard_normal((64, 16, 14, 14)).astype(np.float32)
w = rng.standard_normal((16, 16, 5, 5)).astype(np.float32)
rates = {}
for name, convolve in contestants.items():
    some_x, some_w = (x[:1, :2], w[:, :2]) if name == "Python loops" else (x, w)
    z = convolve(some_x, some_w)
    expected = conv_im2col(some_x.astype(float), some_w.astype(float), padding=2)
    np.testing.assert_allclose(z, expected, rtol=1e-3, atol=1e-3)
    times = []
    for _ in range(1 if name == "Python loops" else 3 if FAST else 10):
        start = time.perf_counter()
        convolve(some_x, some_w)
        times.append(time.perf_counter() - start)
    work = z.size * some_w[0].size  # each number of the result is a sum of C * kh * kw products
    rates[name] = work / min(times)
    print(f"{name:24s} {rates[name]:9.2e} multiply-adds a second")

# %% tags=["hide-input"]
fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
ax.spines[["top", "right"]].set_visible(False)
ax.barh(list(rates), list(rates.values()), color=[GREY, ORANGE, BLUE, RED])
for k, rate in enumerate(rates.values()):
    ratio = rate / rates["Python loops"]
    ax.text(rate * 1.15, k, f"{ratio:,.0f} x" if k else "1 x", va="center", size=9)
ax.set(xscale="log", xlabel="multiply-adds a second", xlim=(None, max(rates.values()) * 8))
ax.invert_yaxis()
plt.show()

# %% [markdown]
# The figures depend on the machine and on what else it is doing; run it on yours. The ranking
# rarely changes. Compiling removes the interpreter. The matrix product goes further, since its
# library uses every register of the processor well, and all cores. minifbi's own kernel does not
# pay for the columns: it reads the windows from the image, at once for several samples. How that
# is done is the subject of [notebook 9](09_kernels.ipynb).
#
# ## 6. Three maps are enough
#
# A *layer* of minifbi is built from the trio, and a backend that offers `conv2d`,
# `conv2d_transpose` and `conv2d_weight` supports all of training. Let us compare with our loops.

# %%
from minifbi import Tensor
from minifbi.layers import Conv2d

layer = Conv2d(3, 4, 3, padding=1, bias=False, dtype=np.float64)
x = Tensor(rng.standard_normal((2, 3, 6, 6)), requires_grad=True)
z = layer(x)
g = rng.standard_normal(z.shape)
z.backward(g)

w4 = layer.weight.numpy()
np.testing.assert_allclose(z.numpy(), conv_loops(x.numpy(), w4, padding=1))
np.testing.assert_allclose(x.grad, transpose_loops(g, w4, 1, 1, size=(6, 6)))
np.testing.assert_allclose(layer.weight.grad, weight_loops(x.numpy(), g, (3, 3), 1, 1))
print("forward: conv;  gradient at the input: conv_T;  gradient at the weight: conv_W")

# %% [markdown]
# The FBI loss of Yoo, Kim and Kang (2019) puts a second pass between the forward pass and the
# backward pass. It hands the answer down to the pixels, each in proportion to what it contributed;
# [notebook 4](04_relevance.ipynb) is about it. For a convolution layer with input $\mathbf a^+$ it
# computes
#
# $$\mathbf a^- = \mathbf a^+ \odot \mathrm{conv}_T(\mathbf r, W), \tag{2}$$
#
# where $\mathbf r$ comes from the layer above and $\odot$ multiplies number by number. Again the
# transposed convolution! And the way back through *that*? It is linear in $\mathbf r$ and linear in
# $W$, so its own transposes are two more corners of the triangle. With $\mathbf u$ for the gradient
# of the loss with respect to $\mathrm{conv}_T(\mathbf r, W)$:
#
# | pass | computes | map |
# |---|---|---|
# | forward | $\mathbf z$ | $\mathrm{conv}(\mathbf x, W)$ |
# | way back through it | gradient at $\mathbf x$ | $\mathrm{conv}_T(\mathbf g, W)$ |
# | | gradient at $W$ | $\mathrm{conv}_W(\mathbf x, \mathbf g)$ |
# | relevance | $\mathbf a^- / \mathbf a^+$ | $\mathrm{conv}_T(\mathbf r, W)$ |
# | way back through it | gradient at $\mathbf r$ | $\mathrm{conv}(\mathbf u, W)$ |
# | | gradient at $W$ | $\mathrm{conv}_W(\mathbf u, \mathbf r)$ |
#
# No fourth map ever appears: the trio is *closed*. The last row is worth a second look: the same
# function, with $\mathbf u$ in the place of the input and $\mathbf r$ in the place of the gradient.
# It can be checked by nudging:

# %% tags=["closed-trio"]
r = rng.standard_normal((1, 2, 6, 6))
kernels = rng.standard_normal((2, 1, 3, 3))
u = rng.standard_normal((1, 1, 6, 6))  # the slopes of a made-up loss: sum of u * conv_T(r, w)


def made_up_loss(kernels):
    return (u * transpose_loops(r, kernels, 1, 1, size=(6, 6))).sum()


nudged = np.zeros_like(kernels)
for place in np.ndindex(kernels.shape):
    nudge = np.zeros_like(kernels)
    nudge[place] = 1e-5
    nudged[place] = (made_up_loss(kernels + nudge) - made_up_loss(kernels - nudge)) / 2e-5
gap = np.abs(nudged - weight_loops(u, r, (3, 3), 1, 1)).max()
print(f"largest difference between nudging and conv_W(u, r): {gap:.0e}")
assert gap < 1e-7

# %% [markdown]
# ## What you learnt
#
# - A convolution is a sum over meetings of pixels and weights: seven loops.
# - `im2col` lays the windows out as columns; then it is one matrix product, at the price of memory.
# - It is linear in its input and linear in its weights. Its transposes with respect to these are
#   the transposed convolution, which stamps, and the weight gradient.
# - All three are slopes of one number, $T = \sum x\, w\, g$. A transpose is tested with
#   $\langle \mathrm{conv}(\mathbf x), \mathbf g \rangle = \langle \mathbf x,
#   \mathrm{conv}_T(\mathbf g) \rangle$; it is not an inverse.
# - Forward pass, backward pass, relevance pass and the way back through it: the trio does them all.
#
# ## Exercises
#
# Replace each `...`, and run the cell: the check in its last line says whether it is right, and if
# not, where to look. In exercises 2 and 3 the images are one-dimensional: a signal of $n$ numbers,
# a kernel of $k$ numbers.

# %%
from checks import tutorial_02 as check

# %% [markdown]
# **Exercise 1: shapes and costs.** A convolution takes a batch of 32 colour images (3 channels) of
# 64 x 48 pixels (rows x columns). It has 8 kernels of 5 x 5, stride 2, padding 1. Which shape has
# its result, which shape its weight, and how many multiply-adds does one forward pass take, if
# those with the zeros of the padding are counted too?

# %%
# solution
# student: result_shape = ...  # four numbers
# student: weight_shape = ...  # four numbers
# student: multiply_adds = ...  # one number
result_shape = (32, 8, (64 + 2 - 5) // 2 + 1, (48 + 2 - 5) // 2 + 1)
weight_shape = (8, 3, 5, 5)
multiply_adds = np.prod(result_shape) * 3 * 5 * 5
# end solution

check.shapes_and_costs(result_shape, weight_shape, multiply_adds)

# %% [markdown]
# **Exercise 2: the matrix.** Write a function that returns the matrix $M$ of a one-dimensional
# convolution with the kernel `w` (stride 1, no padding) for signals of `n` numbers, such that
# `M @ x` is the result. Which shape must it have?


# %%
def matrix_of(w, n):
    # solution
    # student: # start with np.zeros(...), then fill in the kernel row by row
    k = len(w)
    M = np.zeros((n - k + 1, n))
    for row in range(n - k + 1):
        M[row, row : row + k] = w
    return M
    # end solution


check.matrix_of(matrix_of)

# %% [markdown]
# **Exercise 3: stamps.** Write the transposed convolution in one dimension, with a stride and
# without padding: `g` holds the numbers on the result's side, and the function returns an array of
# length `n`. Use no matrix.


# %%
def stamp(g, w, stride, n):
    # solution
    # student: # each number of g stamps the kernel; where does the stamp of g[a] begin?
    x = np.zeros(n)
    for a, number in enumerate(g):
        x[a * stride : a * stride + len(w)] += number * w
    return x
    # end solution


check.stamp(stamp)

# %% [markdown]
# **Exercise 4: which of the three?** In the backward pass of a network, the first convolution layer
# gets the gradient at its result. Nobody asks for the gradient at the *image*, since the image is
# not trained. Which of the three maps can be left out there, in conventional training? And may it
# also be left out when the FBI loss is trained, whose relevance pass ends at the image?

# %%
# solution
# student: left_out = ...  # "conv", "conv_T" or "conv_W"
# student: also_with_fbi = ...  # True or False
left_out = "conv_T"
also_with_fbi = False
# end solution

check.which_of_the_three(left_out, also_with_fbi)

# %% [markdown]
# ## Further reading
#
# - V. Dumoulin and F. Visin, *A guide to convolution arithmetic for deep learning*, 2016,
#   arXiv:1603.07285: strides, paddings and transposes, drawn.
# - K. Chellapilla, S. Puri and P. Simard, *High Performance Convolutional Neural Networks for
#   Document Processing*, 2006: where convolution as a matrix product was proposed.
# - A. Odena, V. Dumoulin and C. Olah, *Deconvolution and Checkerboard Artifacts*, Distill, 2016.
# - `minifbi/layers/conv.py`: the first four rows of the table, in one class;
#   `minifbi/layers/linear.py`: the last two, once for all layers with weights; and
#   `minifbi/backends/numpy_backend.py`: the trio in thirty lines.
#
# Before: [1. Tensors and the tape](01_tensors_and_the_tape.ipynb). Next:
# [3. The forward pass](03_forward_pass.ipynb).
