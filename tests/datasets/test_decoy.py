"""Decoy-MNIST: the patches of Ross et al. 2017, and the masks that say where they are."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import command, small_mnist, write_idx_folder

from minifbi.datasets import (
    DATASET_NAMES,
    Dataset,
    Split,
    add_decoys,
    decoy_mnist,
    decoy_shade,
    load_dataset,
    load_mnist,
)
from minifbi.errors import ConfigError, DataError

MNIST = small_mnist()


def plain_patches(split: Split) -> list[tuple[str, str, int]]:
    """Where each image's patch is and its grey, found by looking: no index arithmetic shared."""
    found = []
    for image, mask in zip(split.images, split.masks, strict=True):
        places = np.argwhere(mask)
        assert len(places) == 16
        rows, columns = {int(r) for r, _ in places}, {int(c) for _, c in places}
        assert rows in ({0, 1, 2, 3}, {24, 25, 26, 27})
        assert columns in ({0, 1, 2, 3}, {24, 25, 26, 27})
        greys = {int(image[0, r, c]) for r, c in places}
        assert len(greys) == 1
        found.append(("top" if 0 in rows else "bottom", "left" if 0 in columns else "right", greys))
    return [(a, b, g.pop()) for a, b, g in found]


@pytest.fixture(scope="module")
def decoys() -> Dataset:
    return decoy_mnist(MNIST, seed=3)


def test_the_published_shades() -> None:
    assert decoy_shade(np.arange(10)).tolist() == [255, 230, 205, 180, 155, 130, 105, 80, 55, 30]


@pytest.mark.parametrize("which", ["train", "validation"])
def test_training_shade_tells_the_label(decoys: Dataset, which: str) -> None:
    split = getattr(decoys, which)
    patches = plain_patches(split)
    for (_, _, grey), label in zip(patches, split.labels, strict=True):
        assert grey == 255 - 25 * label
    corners = [corner[:2] for corner in patches]
    for corner in set(corners):  # four corners, about equally often
        assert 0.15 < corners.count(corner) / len(corners) < 0.35
    assert len(set(corners)) == 4


def test_test_shade_says_nothing(decoys: Dataset) -> None:
    greys = np.array([grey for _, _, grey in plain_patches(decoys.test)])
    told = (255 - greys) // 25
    assert set(told.tolist()) == set(range(10))
    assert (told == decoys.test.labels).mean() < 0.2  # chance is 0.1


def test_all_else_is_the_digit(decoys: Dataset) -> None:
    for which in ("train", "validation", "test"):
        split, clean = getattr(decoys, which), getattr(MNIST, which)
        np.testing.assert_array_equal(split.labels, clean.labels)
        outside = ~split.masks[:, None]
        np.testing.assert_array_equal(split.images[outside], clean.images[outside])
        assert split.images.dtype == np.uint8
        assert not split.images.flags.writeable
        assert not split.masks.flags.writeable
        assert clean.masks is None
    assert decoys.name == "decoy-mnist"


def test_seeds_and_streams() -> None:
    a, b, other = (decoy_mnist(MNIST, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(a.test.images, b.test.images)
    assert (a.test.masks != other.test.masks).any()
    # the test set's patches are the same whatever the training set's size
    fewer = Split(MNIST.train.images[:50], MNIST.train.labels[:50])
    cut = Dataset("mnist", fewer, MNIST.validation, MNIST.test, 10, MNIST.class_names)
    np.testing.assert_array_equal(decoy_mnist(cut, seed=1).test.images, a.test.images)
    # the splits do not share corners
    count = len(a.validation)
    assert (a.train.masks[:count] != a.validation.masks).any()


def test_both_rules_take_the_same_corners() -> None:
    label, random = (add_decoys(MNIST.test, rule, seed=5) for rule in ("label", "random"))
    np.testing.assert_array_equal(label.masks, random.masks)
    assert (label.images != random.images).any()


def test_float_and_colour_images() -> None:
    images = np.random.default_rng(0).random((6, 3, 9, 8)).astype(np.float32)
    labels = np.arange(6)
    split = add_decoys(Split.from_arrays(images, labels), "label")
    assert split.images.dtype == np.float32
    for image, original, mask, label in zip(split.images, images, split.masks, labels, strict=True):
        np.testing.assert_allclose(image[:, mask], (255 - 25 * label) / 255, rtol=1e-6)
        np.testing.assert_array_equal(image[:, ~mask], original[:, ~mask])
    pixels, _ = split.batch(slice(None))
    assert pixels.max() <= 1


def test_wrong_input() -> None:
    with pytest.raises(ConfigError, match="rule='shade'"):
        add_decoys(MNIST.test, "shade")
    small = Split.from_arrays(np.zeros((2, 7, 28), np.uint8), [0, 1])
    with pytest.raises(DataError, match="7 x 28 pixels are too small"):
        add_decoys(small, "label")
    names = tuple(map(str, range(12)))
    many = Dataset("letters", MNIST.train, MNIST.validation, MNIST.test, 12, names)
    with pytest.raises(DataError, match="label 11 has no shade"):
        decoy_mnist(many)
    with pytest.raises(DataError, match="label -1"):
        decoy_shade(np.array([3, -1]))


# ---- masks of a split --------------------------------------------------------------------
def test_masks_are_checked_and_read_only() -> None:
    images, labels = np.zeros((3, 5, 4), np.uint8), [0, 1, 2]
    masks = np.zeros((3, 5, 4), bool)
    split = Split.from_arrays(images, labels, masks=masks)
    masks[:] = True
    assert not split.masks.any()
    with pytest.raises(ValueError, match="read-only"):
        split.masks[0] = True
    assert Split.from_arrays(images, labels).masks is None
    for wrong, part in (
        (masks[:2], "(2, 5, 4)"),
        (masks.astype(int), "int64"),
        (masks[:, None], "(3, 1, 5, 4)"),
    ):
        with pytest.raises(DataError) as caught:
            Split.from_arrays(images, labels, masks=wrong, name="digits")
        assert part in str(caught.value)
        assert "bool of shape (3, 5, 4)" in str(caught.value)


# ---- by name -----------------------------------------------------------------------------
def test_by_name() -> None:
    assert "decoy-mnist" in DATASET_NAMES
    loaded, made = load_dataset("decoy-mnist"), decoy_mnist(load_mnist(), seed=0)
    assert (loaded.name, len(loaded.train), loaded.num_classes) == ("decoy-mnist", 55_000, 10)
    np.testing.assert_array_equal(loaded.test.images, made.test.images)
    np.testing.assert_array_equal(loaded.train.masks, made.train.masks)


def test_by_name_on_a_folder(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "digits", train=60, test=12)
    dataset = load_dataset("decoy-mnist", data_dir=folder)
    assert dataset.name == "decoy-mnist"
    assert dataset.test.masks.sum() == 12 * 16


def test_trains_from_the_command_line(tmp_path: Path) -> None:
    folder = write_idx_folder(tmp_path / "digits", train=240, test=60)
    flags = "--dataset decoy-mnist --model mlp --epochs 1 --backend numpy --quiet".split()
    run = command("train", *flags, "--data-dir", folder, "--out", tmp_path / "run")
    assert run.returncode == 0, run.stderr
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["dataset"] == "decoy-mnist"
