"""Splits, data sets and where they come from."""

import dataclasses
import gzip
import hashlib
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_folders import LABELS, PIXELS, STEMS

import minifbi.datasets.loaders as loaders
from minifbi.datasets import (
    Dataset,
    Split,
    load_dataset,
    load_mnist,
    split_train_validation,
)
from minifbi.errors import ConfigError, DataError

# ----------------------------------------------------------------- splits


def test_split_from_uint8() -> None:
    split = Split.from_arrays(PIXELS, LABELS)
    assert len(split) == 30
    assert split.images.shape == (30, 1, 5, 4)
    assert split.images.dtype == np.uint8
    assert split.labels.dtype == np.int64
    np.testing.assert_array_equal(split.images[:, 0], PIXELS)
    np.testing.assert_array_equal(split.labels, LABELS)


def test_split_with_channels_and_one_image() -> None:
    images = np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(1, 3, 4, 5)
    split = Split.from_arrays(images, [2], num_classes=3)
    assert split.images.shape == (1, 3, 4, 5)
    assert split.images.dtype == np.float32
    assert split.images.flags.c_contiguous


def test_split_is_read_only_and_independent_of_its_source() -> None:
    images, labels = PIXELS.copy(), LABELS.astype(np.int64)
    split = Split.from_arrays(images, labels)
    for array in (split.images, split.labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.labels = labels  # type: ignore[misc]
    images[:] = 0
    labels[:] = 0
    np.testing.assert_array_equal(split.images[:, 0], PIXELS)
    np.testing.assert_array_equal(split.labels, LABELS)
    assert images.flags.writeable  # the caller's array is left alone


def test_read_only_images_are_shared_not_copied() -> None:
    images = PIXELS.copy()
    images.flags.writeable = False
    assert np.shares_memory(Split.from_arrays(images, LABELS).images, images)


FLOATS = PIXELS / 255


def with_value(value: float, *places: tuple[int, int, int]) -> np.ndarray:
    images = FLOATS.copy()
    for place in places:
        images[place] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "parts"),
    [
        (PIXELS[:29], LABELS, ("29 images and 30 labels",)),
        (PIXELS, LABELS[:1], ("30 images and 1 labels",)),
        (PIXELS, [], ("30 images and 0 labels",)),
        (PIXELS[:0], LABELS[:0], ("0 images", "at least 1")),
        (PIXELS[:, :0], LABELS, ("no pixels", "(30, 0, 4)")),
        (PIXELS[0], LABELS[:5], ("(5, 4)", "(N, H, W)")),
        (PIXELS[None, None], LABELS, ("(1, 1, 30, 5, 4)",)),
        (PIXELS.astype(np.int64), LABELS, ("int64", "uint8")),
        (PIXELS.astype(np.float16), LABELS, ("float16",)),
        (PIXELS > 5, LABELS, ("bool",)),
        ([[["x"]]], [0], ("dtype is <U1",)),
        ([[[1.0], [1.0, 2.0]]], [0], ("do not form an array", "np.stack")),
        (with_value(np.nan, (7, 2, 3)), LABELS, ("1 pixels are NaN", "(7, 2, 3)", "image 7")),
        (with_value(np.inf, (9, 0, 0), (4, 1, 1)), LABELS, ("2 pixels", "(4, 1, 1)")),
        (with_value(-np.inf, (0, 0, 0)), LABELS, ("1 pixels", "(0, 0, 0)")),
        (PIXELS.astype(np.float32), LABELS, ("[0, 1]", "Divide them by 255")),
        (FLOATS * 2 - 1, LABELS, ("from -1 to", "Shift and scale")),
        (PIXELS, LABELS.astype(np.float32), ("float32", "astype(np.int64)")),
        (PIXELS, LABELS > 0, ("bool", "integers")),
        (PIXELS, np.eye(30, dtype=np.uint8), ("(30, 30)", "argmax")),
        (PIXELS, np.where(np.arange(30) >= 17, 10, 3), ("label 10 at index 17", "0 to 9", "12 m")),
        (PIXELS, np.where(np.arange(30) == 29, -1, 0), ("label -1 at index 29", "0 to 9")),
        (PIXELS, np.full(30, 2**64 - 1, dtype=np.uint64), (f"label {2**64 - 1} at index 0",)),
    ],
)
def test_split_refuses(images: object, labels: object, parts: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as caught:
        Split.from_arrays(images, labels, name="the digits")  # type: ignore[arg-type]
    for part in ("the digits", *parts):
        assert part in str(caught.value)


def test_num_classes_is_the_limit_of_labels() -> None:
    Split.from_arrays(PIXELS, LABELS + 40, num_classes=50)
    Split.from_arrays(PIXELS, LABELS, num_classes=1000)  # more than a uint8 label can say
    with pytest.raises(DataError, match=r"label 49 at index 9 .* 0 to 48"):
        Split.from_arrays(PIXELS, LABELS + 40, num_classes=49)
    for wrong in (0, -1, 2.5, "10", None):
        with pytest.raises(ConfigError, match="num_classes"):
            Split.from_arrays(PIXELS, LABELS, num_classes=wrong)  # type: ignore[arg-type]


# ----------------------------------------------------------------- batches


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_pixel_value_is_divided_exactly(dtype: type) -> None:
    all_values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    images, _ = Split.from_arrays(all_values, [0]).batch(slice(None), dtype=dtype)
    assert images.dtype == dtype
    assert images.shape == (1, 1, 16, 16)
    # the correctly rounded quotients: each is the float nearest to i / 255
    expected = np.array([i / 255 for i in range(256)]).astype(dtype)
    np.testing.assert_array_equal(images.ravel(), expected)
    assert images.min() == 0
    assert images.max() == 1


@settings(deadline=None, max_examples=50)
@given(indices=st.lists(st.integers(-30, 29), max_size=40))
def test_batch_takes_the_images_asked_for(indices: list[int]) -> None:
    split = Split.from_arrays(PIXELS, LABELS)
    for given_as in (indices, np.array(indices, dtype=np.int32)):
        images, labels = split.batch(given_as, np.float64)
        assert images.shape == (len(indices), 1, 5, 4)
        assert labels.shape == (len(indices),)
        assert labels.dtype == np.int64
        for image, label, index in zip(images, labels, indices, strict=True):
            np.testing.assert_array_equal(image[0], PIXELS[index] / 255)
            assert label == LABELS[index]


def test_batch_of_floats_and_slices() -> None:
    split = Split.from_arrays(FLOATS, LABELS)
    images, labels = split.batch(slice(3, 9, 2), dtype=np.float64)
    np.testing.assert_array_equal(images[:, 0], FLOATS[3:9:2])
    np.testing.assert_array_equal(labels, LABELS[3:9:2])
    assert split.batch(slice(0, 2))[0].dtype == np.float32


@pytest.mark.parametrize("source", [PIXELS, FLOATS, FLOATS.astype(np.float32)])
def test_batch_is_new_and_writable(source: np.ndarray) -> None:
    split = Split.from_arrays(source, LABELS)
    for indices in (slice(0, 4), [0, 1, 2, 3]):
        images, labels = split.batch(indices)
        images[:] = -1
        labels[:] = -1
    np.testing.assert_array_equal(split.images[:, 0], source)
    np.testing.assert_array_equal(split.labels, LABELS)


def test_batch_refuses() -> None:
    split = Split.from_arrays(PIXELS, LABELS)
    for wrong in (3, [[1, 2]], [0.5], LABELS > 3, "12"):
        with pytest.raises(DataError, match="batch indices"):
            split.batch(wrong)  # type: ignore[arg-type]
    with pytest.raises(IndexError):
        split.batch([30])
    for dtype in (np.uint8, np.float16, np.complex128):
        with pytest.raises(ConfigError, match="float32 or float64"):
            split.batch([0], dtype=dtype)


# ----------------------------------------------------------------- three splits


@pytest.mark.parametrize(
    ("count", "cut"), [(12, 11), (23, 22), (24, 22), (100, 92), (60000, 55000)]
)
def test_last_twelfth_is_for_validation(count: int, cut: int) -> None:
    images, labels = np.arange(count), np.arange(count) + 1
    (train, train_labels), (validation, validation_labels) = split_train_validation(images, labels)
    np.testing.assert_array_equal(train, np.arange(cut))
    np.testing.assert_array_equal(validation, np.arange(cut, count))
    np.testing.assert_array_equal(train_labels, train + 1)
    np.testing.assert_array_equal(validation_labels, validation + 1)


def test_split_needs_twelve_images_and_their_labels() -> None:
    with pytest.raises(DataError, match="11 images; expected at least 12"):
        split_train_validation(PIXELS[:11], LABELS[:11])
    with pytest.raises(DataError, match="30 images and 29 labels"):
        split_train_validation(PIXELS, LABELS[:29])


def test_dataset_checks_that_its_parts_fit() -> None:
    split = Split.from_arrays(PIXELS, LABELS)
    names = tuple("0123456789")
    assert Dataset("d", split, split, split, 10, names).image_shape == (1, 5, 4)
    other = Split.from_arrays(PIXELS[:, :3], LABELS)
    for train, validation, test, which in (
        (split, other, split, "validation"),
        (split, split, other, "test"),
    ):
        with pytest.raises(DataError, match=rf"{which} images are .*\(1, 3, 4\).*\(1, 5, 4\)"):
            Dataset("d", train, validation, test, 10, names)
    with pytest.raises(DataError, match="9 class names for 10 classes"):
        Dataset("d", split, split, split, 10, names[:9])
    with pytest.raises(DataError, match="label 9 at index 9"):
        Dataset("d", split, split, split, 9, names[:9])


# ----------------------------------------------------------------- MNIST


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_mnist()


def test_mnist_is_what_it_is_known_to_be(mnist: Dataset) -> None:
    assert (len(mnist.train), len(mnist.validation), len(mnist.test)) == (55_000, 5_000, 10_000)
    assert mnist.image_shape == (1, 28, 28)
    assert (mnist.name, mnist.num_classes) == ("mnist", 10)
    assert mnist.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    # the published class counts of the 60,000 and of the 10,000
    training = np.concatenate([mnist.train.labels, mnist.validation.labels])
    assert np.bincount(training).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert np.bincount(mnist.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    # the mean and standard deviation that everybody normalises with: 0.1307 and 0.3081
    pixels = np.concatenate([mnist.train.images, mnist.validation.images])
    counts = np.bincount(pixels.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = float(counts @ values) / pixels.size
    deviation = float(np.sqrt(counts @ (values - mean) ** 2 / pixels.size))
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert deviation == pytest.approx(0.3081, abs=5e-5)


def test_mnist_content_has_the_published_md5_sums() -> None:
    folder = resources.files("minifbi.datasets").joinpath("data", "mnist")
    found = [
        hashlib.md5(gzip.decompress((folder / f"{stem}.gz").read_bytes())).hexdigest()
        for stem in STEMS
    ]
    assert found == [
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ]
    license_text = (folder / "LICENSE.md").read_text(encoding="utf-8")
    for part in ("Yann LeCun", "Corinna Cortes", "CC BY-SA 3.0", *loaders.MNIST_SHA256.values()):
        assert part in license_text


def test_mnist_arrays_are_read_only_and_keep_no_copy(mnist: Dataset) -> None:
    for split in (mnist.train, mnist.validation, mnist.test):
        assert not split.images.flags.writeable
        assert not split.labels.flags.writeable
        assert split.images.dtype == np.uint8
    assert mnist.train.images.base is mnist.validation.images.base


def installed_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the loader find the package's files in a copy, and return their folder."""
    folder = tmp_path / "data" / "mnist"
    shutil.copytree(str(resources.files("minifbi.datasets").joinpath("data", "mnist")), folder)
    monkeypatch.setattr(loaders.resources, "files", lambda package: tmp_path)
    return folder


def test_damaged_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = installed_copy(tmp_path, monkeypatch)
    assert len(load_mnist().test) == 10_000
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    path.unlink()
    with pytest.raises(DataError, match=r"t10k-labels.*damaged: reinstall"):
        load_mnist()
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"t10k-labels.*SHA-256.*damaged: reinstall"):
        load_mnist()


def test_names() -> None:
    assert load_dataset().name == "mnist"
    for unknown in ("MNIST", "cifar", ""):
        with pytest.raises(ConfigError, match="mnist, fashion-mnist"):
            load_dataset(unknown)
    with pytest.raises(ConfigError, match="num_classes is 7 and mnist has 10"):
        load_dataset("mnist", num_classes=7)


def test_import_is_cheap() -> None:
    code = (
        "import sys, minifbi.datasets; "
        "print({'pooch', 'requests', 'numba', 'matplotlib', 'scipy', 'PIL'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
