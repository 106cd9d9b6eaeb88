"""Splits, data sets and where they come from."""

import dataclasses
import functools
import gc
import gzip
import hashlib
import http.server
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minifbi.datasets.loaders as loaders
from minifbi.datasets import (
    Dataset,
    Split,
    load_dataset,
    load_fashion_mnist,
    load_idx_folder,
    load_mnist,
    split_train_validation,
    write_idx,
)
from minifbi.errors import ConfigError, DataError

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, size=(30, 5, 4), dtype=np.uint8)
LABELS = (np.arange(30) % 10).astype(np.uint8)


def fill(folder: Path, suffix: str = "", **replaced: np.ndarray) -> Path:
    """Write a small data set: 24 training and 6 test images of 5 x 4 pixels."""
    folder.mkdir(exist_ok=True)
    arrays = {
        "train_images": PIXELS[:24],
        "train_labels": LABELS[:24],
        "test_images": PIXELS[24:],
        "test_labels": LABELS[24:],
    } | replaced
    for stem, array in zip(STEMS, arrays.values(), strict=True):
        write_idx(folder / f"{stem}{suffix}", array)
    return folder


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
        "print({'pooch', 'requests', 'numba', 'matplotlib', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


# ----------------------------------------------------------------- a folder


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_folder(tmp_path: Path, suffix: str) -> None:
    dataset = load_idx_folder(fill(tmp_path / "shapes", suffix))
    assert dataset.name == "shapes"
    assert dataset.image_shape == (1, 5, 4)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (22, 2, 6)
    np.testing.assert_array_equal(dataset.train.images[:, 0], PIXELS[:22])
    np.testing.assert_array_equal(dataset.validation.images[:, 0], PIXELS[22:24])
    np.testing.assert_array_equal(dataset.test.images[:, 0], PIXELS[24:])
    np.testing.assert_array_equal(dataset.validation.labels, LABELS[22:24])
    np.testing.assert_array_equal(dataset.test.labels, LABELS[24:])


def test_folder_has_its_own_classes_and_name(tmp_path: Path) -> None:
    fill(tmp_path)
    dataset = load_dataset("letters", data_dir=tmp_path, num_classes=12)
    assert dataset.name == "letters"
    assert dataset.num_classes == 12
    assert dataset.class_names == tuple(str(i) for i in range(12))
    # a known name is no download and no MNIST: it only names the folder's images
    fashion = load_dataset("fashion-mnist", data_dir=str(tmp_path))
    assert fashion.class_names[9] == "Ankle boot"
    assert fashion.image_shape == (1, 5, 4)
    assert load_dataset(data_dir=tmp_path).name == "mnist"
    with pytest.raises(ConfigError, match="num_classes is 0"):
        load_dataset(data_dir=tmp_path, num_classes=0)


def test_names_with_dots_and_plain_before_compressed(tmp_path: Path) -> None:
    fill(tmp_path)
    for stem in STEMS[:2]:
        (tmp_path / stem).rename(tmp_path / stem.replace("-idx", ".idx"))
    (tmp_path / STEMS[2]).rename(tmp_path / f"{STEMS[2].replace('-idx', '.idx')}")
    # a compressed file beside a plain one is not even opened
    (tmp_path / f"{STEMS[2]}.gz").write_bytes(b"rubbish")
    (tmp_path / f"{STEMS[3]}.gz").write_bytes(b"rubbish")
    # nor is a folder with the name of a file
    (tmp_path / STEMS[0]).mkdir()
    dataset = load_idx_folder(tmp_path)
    np.testing.assert_array_equal(dataset.test.images[:, 0], PIXELS[24:])


def test_folder_with_missing_files(tmp_path: Path) -> None:
    fill(tmp_path, ".gz")
    (tmp_path / f"{STEMS[1]}.gz").unlink()
    (tmp_path / f"{STEMS[2]}.gz").unlink()
    with pytest.raises(DataError) as caught:
        load_idx_folder(tmp_path)
    message = str(caught.value)
    assert f"{tmp_path}: missing {STEMS[1]}, {STEMS[2]};" in message
    assert all(stem in message for stem in STEMS)
    for wrong in (tmp_path / "nothing", tmp_path / f"{STEMS[0]}.gz"):
        with pytest.raises(DataError, match="cannot be read as a folder"):
            load_idx_folder(wrong)


@pytest.mark.parametrize(
    ("replaced", "parts"),
    [
        ({"train_labels": LABELS[:23]}, ("24 images and 23 labels", STEMS[0], STEMS[1])),
        ({"test_labels": LABELS[:7]}, ("6 images and 7 labels", STEMS[2], STEMS[3])),
        ({"test_images": PIXELS[24:, :3]}, ("test images are", "(1, 3, 4)", "(1, 5, 4)")),
        ({"train_images": PIXELS[:11], "train_labels": LABELS[:11]}, ("11 images", "12")),
        ({"test_images": PIXELS[:0], "test_labels": LABELS[:0]}, ("0 images", STEMS[2])),
        ({"test_labels": PIXELS[:6, 0, 0] * 0 + 10}, ("label 10 at index 0", STEMS[3])),
        ({"train_labels": np.eye(24, dtype=np.uint8)}, ("(24, 24)", STEMS[1])),
        ({"train_images": PIXELS[:24, 0]}, ("(24, 4)", "(N, H, W)", STEMS[0])),
    ],
)
def test_folder_whose_files_do_not_fit(
    tmp_path: Path, replaced: dict[str, np.ndarray], parts: tuple[str, ...]
) -> None:
    fill(tmp_path, **replaced)
    with pytest.raises(DataError) as caught:
        load_idx_folder(tmp_path)
    for part in parts:
        assert part in str(caught.value)


def test_index_in_a_message_is_the_index_in_the_file(tmp_path: Path) -> None:
    labels = LABELS[:24].copy()
    labels[23] = 200  # the second image of the validation set
    fill(tmp_path, train_labels=labels)
    with pytest.raises(DataError, match="label 200 at index 23"):
        load_idx_folder(tmp_path)


# ----------------------------------------------------------------- downloads


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and remembers what was asked for."""

    requested: ClassVar[list[str]] = []

    def log_message(self, format: str, *arguments: object) -> None:
        self.requested.append(self.path)


# After a refused request, pooch leaves closing its connection to the garbage collector.
uses_server = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder with a small "Fashion-MNIST" and the address where it is served."""
    folder = fill(tmp_path / "served", ".gz")
    sums = {
        f"{stem}.gz": hashlib.sha256((folder / f"{stem}.gz").read_bytes()).hexdigest()
        for stem in STEMS
    }
    monkeypatch.setattr(loaders, "FASHION_MNIST_SHA256", sums)
    monkeypatch.delenv("MINIFBI_CACHE_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(QuietHandler, "requested", [])
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}/"
        httpd.shutdown()
        thread.join()
    gc.collect()  # now, so that what pooch leaves open is not reported in some other test


@uses_server
def test_download_then_cache(
    server: tuple[Path, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, url = server
    cache = tmp_path / "cache"
    dataset = load_fashion_mnist(cache, base_url=url)
    assert dataset.name == "fashion-mnist"
    assert dataset.class_names[0] == "T-shirt/top"
    np.testing.assert_array_equal(dataset.test.images[:, 0], PIXELS[24:])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "31 MB" in captured.err
    names = sorted(path.name for path in (cache / "fashion-mnist").iterdir())
    assert names == sorted(f"{stem}.gz" for stem in STEMS)  # and no temporary file

    # the second time, nothing is asked for and nothing said
    assert len(QuietHandler.requested) == 4
    load_fashion_mnist(cache, base_url=url)
    assert len(QuietHandler.requested) == 4
    assert capfd.readouterr().err == ""

    # a damaged file in the cache is replaced
    (cache / "fashion-mnist" / f"{STEMS[3]}.gz").write_bytes(b"rubbish")
    load_fashion_mnist(cache, base_url=url)
    assert len(QuietHandler.requested) == 5


@uses_server
def test_cache_from_environment_and_by_name(
    server: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _, url = server
    monkeypatch.setenv("MINIFBI_CACHE_DIR", str(tmp_path / "from-environment"))
    load_fashion_mnist(progress=False, base_url=url)
    assert capfd.readouterr().err == ""
    assert len(list((tmp_path / "from-environment" / "fashion-mnist").iterdir())) == 4
    # filled, the cache serves load_dataset without the network
    assert load_dataset("fashion-mnist").name == "fashion-mnist"
    # an argument goes before the environment
    load_fashion_mnist(tmp_path / "argument", progress=False, base_url=url)
    assert len(list((tmp_path / "argument" / "fashion-mnist").iterdir())) == 4


def failed_download(cache: Path, url: str) -> str:
    with pytest.raises(DataError) as caught:
        load_fashion_mnist(cache, progress=False, base_url=url)
    message = str(caught.value)
    assert url in message
    assert "--data-dir" in message
    return message


@uses_server
def test_download_of_missing_file(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    (folder / f"{STEMS[2]}.gz").unlink()
    assert "404" in failed_download(tmp_path / "cache", url)


@uses_server
def test_download_of_wrong_content(server: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = server
    path = folder / f"{STEMS[1]}.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    message = failed_download(tmp_path / "cache", url)
    assert STEMS[1] in message
    # the wrong file is not kept, under no name
    kept = [path.name for path in (tmp_path / "cache" / "fashion-mnist").iterdir()]
    assert kept == [f"{STEMS[0]}.gz"]


@uses_server
def test_download_without_server_or_place(server: tuple[Path, str], tmp_path: Path) -> None:
    _, url = server
    failed_download(tmp_path / "cache", "http://127.0.0.1:1/")  # nobody listens on port 1
    (tmp_path / "file").write_bytes(b"")
    failed_download(tmp_path / "file", url)


needs_debian = pytest.mark.skipif(
    not DEBIAN_FASHION.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


@needs_debian
def test_fashion_mnist_from_debian() -> None:
    dataset = load_dataset("fashion-mnist", data_dir=DEBIAN_FASHION)
    sizes = (len(dataset.train), len(dataset.validation), len(dataset.test))
    assert sizes == (55_000, 5_000, 10_000)
    assert dataset.image_shape == (1, 28, 28)
    # 6,000 and 1,000 of each class
    training = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert np.bincount(training).tolist() == [6000] * 10
    assert np.bincount(dataset.test.labels).tolist() == [1000] * 10
    assert dataset.class_names[dataset.train.labels[0]] == "Ankle boot"


@needs_debian
@pytest.mark.parametrize(
    ("stem", "time"),
    list(zip(STEMS, [1504176606, 1504176606, 1504176627, 1504176627], strict=True)),
)
def test_fashion_mnist_check_sums_are_those_of_the_published_files(stem: str, time: int) -> None:
    """Debian took the name and the time out of the gzip headers; with them, the sums agree."""
    stripped = (DEBIAN_FASHION / f"{stem}.gz").read_bytes()
    head = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + b"\0\x03" + stem.encode() + b"\0"
    published = head + stripped[10:]
    assert hashlib.sha256(published).hexdigest() == loaders.FASHION_MNIST_SHA256[f"{stem}.gz"]
