"""Data sets from a folder of four IDX files."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from idx_folders import LABELS, PIXELS, STEMS, fill

import minifbi.datasets.loaders as loaders
from minifbi.datasets import (
    load_dataset,
    load_idx_folder,
)
from minifbi.errors import ConfigError, DataError

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")


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
    assert load_dataset(data_dir=tmp_path).name == tmp_path.name
    assert load_dataset(data_dir=tmp_path).num_classes == 10  # the largest label is 9
    with pytest.raises(ConfigError, match="num_classes=0"):
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
        load_idx_folder(tmp_path, num_classes=10)
    for part in parts:
        assert part in str(caught.value)


def test_index_in_a_message_is_the_index_in_the_file(tmp_path: Path) -> None:
    labels = LABELS[:24].copy()
    labels[23] = 200  # the second image of the validation set
    fill(tmp_path, train_labels=labels)
    with pytest.raises(DataError, match="label 200 at index 23"):
        load_idx_folder(tmp_path, num_classes=10)


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
