"""A folder of pictures becomes a data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import COLOUR, content, fill_folder

import minifbi.datasets.sources.reader as reader
from minifbi.datasets import (
    Dataset,
    Split,
    draw_splits,
    load_dataset,
    load_image_folder,
    read_picture,
)
from minifbi.datasets.splits import take
from minifbi.errors import ConfigError, DataError


def sizes(data: Dataset) -> tuple[int, int, int]:
    return len(data.train), len(data.validation), len(data.test)


def test_drawn_splits_hold_every_picture_once(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "shapes", {"b": 24, "10": 12, "2": 12})
    data = load_dataset(data_dir=root)
    assert data.name == "shapes"
    assert data.class_names == ("10", "2", "b")  # as torchvision's ImageFolder: no numbers
    assert data.num_classes == 3
    assert sizes(data) == (36, 4, 8)
    for split, share in ((data.train, 3), (data.validation, 1 / 3), (data.test, 2 / 3)):
        assert np.bincount(split.labels).tolist() == [3 * share, 3 * share, 6 * share]
    # pixel by pixel, each file is in one split with its class
    found = {}
    for split in (data.train, data.validation, data.test):
        assert split.images.dtype == np.uint8
        for image, label in zip(split.images, split.labels, strict=True):
            found[image.tobytes()] = data.class_names[label]
    written = {
        read_picture(path).tobytes(): path.parent.name for path in sorted(root.rglob("*.png"))
    }
    assert found == written
    assert "48 pictures of 3 classes (10, 2, b); grey, 6 x 5" in data.description
    assert "split seed 0" in data.description


def test_splits_depend_on_the_seed_alone(tmp_path: Path) -> None:
    root = fill_folder(tmp_path, {"a": 30, "b": 30})
    first, again = load_image_folder(root), load_image_folder(root)
    other = load_image_folder(root, seed=1)
    np.testing.assert_array_equal(first.train.images, again.train.images)
    assert (first.train.images != other.train.images).any()
    assert len(set(first.test.labels[:8].tolist())) == 2  # not one class after the other


def test_given_splits(tmp_path: Path) -> None:
    for which, count, start in (("train", 6, 0), ("val", 2, 10), ("test", 3, 20)):
        fill_folder(tmp_path / which, {"a": count, "b": count}, start=start)
    (tmp_path / "README.txt").write_text("about these pictures")
    data = load_image_folder(tmp_path)
    assert sizes(data) == (12, 4, 6)
    assert data.class_names == ("a", "b")
    assert "drawn" not in data.description
    names = {split: set() for split in ("train", "val", "test")}
    for which, split in zip(names, (data.train, data.validation, data.test), strict=True):
        wanted = {read_picture(p).tobytes() for p in (tmp_path / which).rglob("*.png")}
        assert {image.tobytes() for image in split.images} == wanted
    # what is not there is drawn from train
    (tmp_path / "val").rename(tmp_path / ".val")
    data = load_image_folder(tmp_path)
    assert sizes(data) == (10, 2, 6)
    assert "; validation set drawn" in data.description
    (tmp_path / ".val").rename(tmp_path / "valid")
    (tmp_path / "test").rename(tmp_path / ".test")
    assert sizes(load_image_folder(tmp_path)) == (10, 4, 2)


def test_given_splits_that_do_not_fit(tmp_path: Path) -> None:
    fill_folder(tmp_path / "train", {"a": 3, "b": 3})
    fill_folder(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(DataError, match=r"test/c: there is no class of this name in train.*a, b"):
        load_image_folder(tmp_path)
    (tmp_path / "test/c").rename(tmp_path / "more")
    with pytest.raises(DataError, match="'more' beside it"):
        load_image_folder(tmp_path)
    (tmp_path / "more").rename(tmp_path / "val")
    with pytest.raises(DataError, match="lies beside the folders of the classes"):
        load_image_folder(tmp_path)
    (tmp_path / "val/0.png").unlink()
    with pytest.raises(DataError, match="val: holds no pictures"):
        load_image_folder(tmp_path)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = load_image_folder(fill_folder(tmp_path, {"bus": 6, "train": 6, "test": 6}))
    assert data.class_names == ("bus", "test", "train")


def test_sizes_and_colours(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 4, "b": 4})
    fill_folder(tmp_path, {"b": 4}, (6, 5, 3), ".bmp", start=4)
    data = load_image_folder(tmp_path)
    assert data.image_shape == (3, 6, 5)  # one picture in colour makes all of them colour
    grey = {read_picture(p).tobytes() for p in (tmp_path / "a").iterdir()}
    for image, label in zip(data.train.images, data.train.labels, strict=True):
        if label == 0:
            assert (image == image[0]).all()
            assert image[0].tobytes() in grey
    assert load_image_folder(tmp_path, channels=1).image_shape == (1, 6, 5)
    fill_folder(tmp_path, {"a": 1}, (8, 9), start=90)
    with pytest.raises(DataError, match=r"\d.png has \d x \d .* has \d x \d .*--image-size 5 or"):
        load_image_folder(tmp_path)
    data = load_dataset(data_dir=tmp_path, image_size=(4, 7), channels=1)
    assert data.image_shape == (1, 4, 7)
    assert "grey, resized to 4 x 7" in data.description


def test_all_bad_files_are_named(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 9, "b": 9})
    (tmp_path / "a/no.png").write_bytes(b"no picture")
    (tmp_path / "b/cut.jpg").write_bytes(content(COLOUR, "JPEG")[:-40])
    (tmp_path / "b/broken link.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(DataError) as caught:
        load_image_folder(tmp_path)
    message = str(caught.value)
    assert "3 of 21 pictures cannot be read" in message
    for part in ("a/no.png (", "b/cut.jpg (", "b/broken link.png (No such file", "truncated"):
        assert part in message
    assert "\n" not in message
    for i in range(9):
        (tmp_path / f"a/{i}.png").write_bytes(b"no")
    with pytest.raises(DataError, match="at least 5 of 21 pictures"):
        load_image_folder(tmp_path)


def test_what_lies_beside_pictures(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3, ".cache": 1, "__MACOSX": 1})
    for name in ("a/.DS_Store", "a/Thumbs.db", "b/desktop.ini", "labels.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert load_image_folder(tmp_path).class_names == ("a", "b")
    (tmp_path / "b/notes.txt").write_bytes(b"x")
    (tmp_path / "b/film.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match=r"b/film.mp4, b/notes.txt: not named like pictures.*\.png"):
        load_image_folder(tmp_path)


def test_folders_in_folders_links_and_circles(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a/more/still": 3, "a": 3, "b": 3})
    (tmp_path / "a/round").symlink_to(tmp_path / "a")
    (tmp_path / "a/more/self").symlink_to("self")
    with pytest.raises(DataError, match="more/self: not named like pictures"):
        load_image_folder(tmp_path)  # a link that leads nowhere is no picture
    (tmp_path / "a/more/self").unlink()
    data = load_image_folder(tmp_path)
    assert sum(sizes(data)) == 9


def test_names_that_cannot_be_printed(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a/0.png").rename(tmp_path / "a/two\nlines.png")
    os.rename(tmp_path / "a/1.png", os.fsencode(tmp_path) + b"/a/\xff.png")
    assert sum(sizes(load_image_folder(tmp_path))) == 6  # a file may be called anything
    for name in (b"c\nd", b"c\xff"):
        os.rename(tmp_path / "b", os.fsencode(tmp_path) + b"/" + name)
        with pytest.raises(DataError, match="cannot be printed") as caught:  # a class may not
            load_image_folder(tmp_path)
        assert "\n" not in str(caught.value)
        str(caught.value).encode("utf-8")
        os.rename(os.fsencode(tmp_path) + b"/" + name, tmp_path / "b")


def test_too_few(tmp_path: Path) -> None:
    root = fill_folder(tmp_path / "one", {"a": 3})
    with pytest.raises(DataError, match=r"1 folder; .*at least 2.*Perhaps you mean .*one/a"):
        load_image_folder(root)
    with pytest.raises(DataError, match=r"one/a: no folder;"):
        load_image_folder(root / "a")
    (root / "b").mkdir()
    with pytest.raises(DataError, match="one/b: holds no pictures"):
        load_image_folder(root)
    fill_folder(root, {"b": 1})
    data = load_image_folder(root)  # the only b is for training
    assert sizes(data) == (2, 1, 1)
    assert 1 in data.train.labels
    few = fill_folder(tmp_path / "few", {"a": 2, "b": 2})
    with pytest.raises(DataError, match="4 images in 2 classes are too few to draw a validation"):
        load_image_folder(few)


def test_memory_is_estimated_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    monkeypatch.setattr(reader, "DEFAULT_MAX_BYTES", 6 * 6 * 5)
    assert sum(sizes(load_image_folder(tmp_path))) == 6
    read = []
    monkeypatch.setattr(reader, "read_picture", lambda *a, **k: read.append(a))
    with pytest.raises(DataError, match=r"6 pictures of 1 x 6 x 6 take 216 bytes.*--image-size"):
        load_image_folder(tmp_path, image_size=6)
    assert not read
    monkeypatch.undo()
    monkeypatch.setattr(reader, "DEFAULT_MAX_BYTES", 6 * 6 * 5 - 1)
    with pytest.raises(DataError, match="take 180 bytes"):
        load_image_folder(tmp_path)


def test_num_classes_is_that_of_the_folder(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 3, "b": 3})
    assert load_dataset(data_dir=tmp_path, num_classes=2).num_classes == 2
    with pytest.raises(ConfigError, match="num_classes=10: expected 2"):
        load_dataset(data_dir=tmp_path, num_classes=10)
    for options in ({"channels": 2}, {"image_size": 0}, {"seed": -1}, {"test": 0.95}):
        with pytest.raises(ConfigError):
            load_image_folder(tmp_path, **options)


# ----------------------------------------------------------------- drawing


@settings(deadline=None, max_examples=100)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    shares=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    seed=st.integers(0, 2**31),
)
def test_draw_splits_is_stratified(
    counts: list[int], shares: tuple[float, float], seed: int
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    try:
        drawn = draw_splits(labels, seed=seed, validation=shares[0], test=shares[1])
    except DataError:
        assert max(counts) < 3
        return
    except ValueError:  # nothing at all
        assert not sum(counts)
        return
    assert sorted(np.concatenate(drawn).tolist()) == list(range(len(labels)))
    for label, count in enumerate(counts):
        train, validation, test = ((labels[part] == label).sum() for part in drawn)
        assert train >= min(count, 1)
        for found, share in ((validation, shares[0]), (test, shares[1])):
            assert abs(found - count * share) <= 1


@settings(deadline=None, max_examples=100)
@given(data=st.data(), counts=st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_take_keeps_shares_and_order(data: st.DataObject, counts: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    split = Dataset(
        "d",
        *[Split.from_arrays(images, labels, num_classes=len(counts))] * 3,
        num_classes=len(counts),
        class_names=tuple("abcde"[: len(counts)]),
    )
    wanted = data.draw(st.integers(1, len(labels)))
    fewer = take(split, wanted, seed=data.draw(st.integers(0, 9)))
    kept = fewer.train.images.ravel()
    assert len(kept) == wanted
    assert (np.diff(kept.astype(int)) > 0).all()
    np.testing.assert_array_equal(fewer.train.labels, labels[kept])
    found = np.bincount(fewer.train.labels, minlength=len(counts))
    assert np.abs(found - np.array(counts) * wanted / len(labels)).max() <= 1
    assert fewer.test is split.test
    with pytest.raises(ConfigError, match="images="):
        take(split, len(labels) + 1)
