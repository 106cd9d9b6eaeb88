"""CIFAR's binary files, .npz, CSV tables, and how --data-dir tells them apart."""

from __future__ import annotations

import io
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from idx_folders import fill
from picture_files import content, fill_folder

import minifbi.datasets.sources.table as table
from minifbi.datasets import Dataset, load_cifar, load_csv, load_dataset, load_npz, read_picture
from minifbi.datasets.resizing import convert
from minifbi.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 6), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


def pairs(split: Any) -> set[tuple[bytes, int]]:
    """The images with their labels, in no order."""
    return {
        (image.tobytes(), int(label))
        for image, label in zip(split.images, split.labels, strict=True)
    }


def all_pairs(data: Dataset) -> set[tuple[bytes, int]]:
    return pairs(data.train) | pairs(data.validation) | pairs(data.test)


EXPECTED = {(image.tobytes(), int(label)) for image, label in zip(IMAGES, LABELS, strict=True)}


# ----------------------------------------------------------------- CIFAR


def cifar_records(count: int, labels: int, seed: int = 0) -> np.ndarray:
    records = np.random.default_rng(seed).integers(0, 256, (count, labels + 3072), dtype=np.uint8)
    records[:, 0] = np.arange(count) % 10
    if labels == 2:
        records[:, 0], records[:, 1] = np.arange(count) % 20, np.arange(count) % 100
    return records


def fill_cifar10(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(("data_batch_1", "data_batch_2", "test_batch")):
        cifar_records(30, 1, i).tofile(folder / f"{name}.bin")
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return folder


def test_cifar10(tmp_path: Path) -> None:
    data = load_dataset(data_dir=fill_cifar10(tmp_path))
    assert data.image_shape == (3, 32, 32)
    assert data.class_names[:2] == ("airplane", "automobile")
    assert (len(data.train), len(data.validation), len(data.test)) == (50, 10, 30)
    test = cifar_records(30, 1, 2)
    np.testing.assert_array_equal(data.test.images[:, 0], test[:, 1:1025].reshape(-1, 32, 32))
    np.testing.assert_array_equal(data.test.images[:, 2].reshape(30, -1), test[:, 2049:])
    np.testing.assert_array_equal(data.test.labels, test[:, 0])
    training = np.concatenate([cifar_records(30, 1, i) for i in (0, 1)])
    wanted = {(r[1:].tobytes(), int(r[0])) for r in training}
    assert pairs(data.train) | pairs(data.validation) == wanted
    with pytest.raises(ConfigError, match="num_classes=7: expected 10"):
        load_cifar(tmp_path, num_classes=7)


def test_cifar100_has_two_kinds_of_labels(tmp_path: Path) -> None:
    for name in ("train", "test"):
        cifar_records(200, 2).tofile(tmp_path / f"{name}.bin")
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"fine {i}" for i in range(100)))
    fine = load_dataset(data_dir=tmp_path)
    assert fine.class_names[99] == "fine 99"
    assert fine.test.labels.tolist() == [*range(100)] * 2
    coarse = load_dataset(data_dir=tmp_path, num_classes=20)
    assert coarse.class_names[19] == "19"  # no file with names
    assert coarse.test.labels[:40].tolist() == [*range(20)] * 2
    np.testing.assert_array_equal(coarse.test.images, fine.test.images)


def test_damaged_cifar(tmp_path: Path) -> None:
    path = fill_cifar10(tmp_path) / "data_batch_2.bin"
    for damaged, message in (
        (path.read_bytes()[:-1], "whole records of 3,073 bytes"),
        (b"", "0 bytes"),
        (bytes([11]) + bytes(3072), "label 11"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            load_cifar(tmp_path)
    path.unlink()
    for text in ("one name\n", "\x07\n" * 10, "x" * 100_000):
        (tmp_path / "batches.meta.txt").write_text(text)
        with pytest.raises(DataError, match=r"batches.meta.txt.*expected the names of 10"):
            load_cifar(tmp_path)
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"test_batch.bin: cannot be read"):
        load_cifar(tmp_path)


# ----------------------------------------------------------------- .npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("axis", [None, 1, -1])
def test_npz_as_keras_has_it(tmp_path: Path, save: Any, axis: int | None) -> None:
    images = IMAGES if axis is None else np.expand_dims(IMAGES, axis)
    arrays = {"x_train": images[:30], "y_train": LABELS[:30], "x_test": images[30:]}
    save(tmp_path / "shapes.npz", y_test=LABELS[30:, None], **arrays)
    data = load_dataset(data_dir=tmp_path / "shapes.npz")
    assert data.name == "shapes"
    assert data.num_classes == 4
    assert data.image_shape == (1, 6, 6)
    np.testing.assert_array_equal(data.test.images[:, 0], IMAGES[30:])
    np.testing.assert_array_equal(data.test.labels, LABELS[30:])
    assert all_pairs(data) == EXPECTED
    assert load_npz(tmp_path / "shapes.npz", num_classes=9).num_classes == 9


def test_npz_in_colour_and_with_all_or_no_splits(tmp_path: Path) -> None:
    colour = RNG.random((12, 5, 4, 3))
    labels = np.repeat([0, 1], 6)
    np.savez(tmp_path / "c.npz", x_train=colour, y_train=labels)
    data = load_npz(tmp_path / "c.npz")
    assert data.image_shape == (3, 5, 4)
    assert "validation and test set drawn" in data.description
    for image in data.test.images:
        assert (colour.transpose(0, 3, 1, 2) == image).all((1, 2, 3)).any()
    splits = {f"x_{s}": colour for s in ("train", "val", "test")}
    np.savez(tmp_path / "c.npz", **splits, **{f"y_{s}": labels for s in ("train", "val", "test")})
    data = load_npz(tmp_path / "c.npz")
    assert len(data.train) == len(data.validation) == len(data.test) == 12
    assert "drawn" not in data.description


def test_npz_that_is_not_so(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    objects = np.array([{"a": 1}] * 40, object)
    good = {"x_train": IMAGES, "y_train": LABELS}
    for arrays, message in (
        ({"x_train": IMAGES}, "there is no y_train"),
        ({"a": IMAGES, "b": LABELS}, "there is no x_train and no y_train"),
        ({**good, "x_test": IMAGES}, "there is no y_test"),
        ({**good, "x_train": objects}, "x_train.npy does not describe an array of numbers"),
        ({**good, "y_train": objects}, "y_train.npy does not describe an array of numbers"),
        ({**good, "x_train": IMAGES * 2.0}, r"float pixels in \[0, 1\]"),
        ({**good, "y_train": LABELS[:9]}, "40 images and 9 labels"),
        ({**good, "y_train": LABELS * 1.0}, "labels' dtype"),
        ({**good, "y_train": LABELS.astype(np.int64) + 10**9}, "label 1000000003"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(DataError, match=message) as caught:
            load_npz(path)
        assert "d.npz" in str(caught.value) or "d: label" in str(caught.value)
    path.write_bytes(b"PK no zip")
    for wrong in (path, tmp_path / "none.npz"):
        with pytest.raises(DataError, match="cannot be read"):
            load_npz(wrong)


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=IMAGES, y_train=LABELS, extra=np.array([{}], object))
    assert len(load_npz(tmp_path / "d.npz").train) > 20


@pytest.mark.parametrize("claimed", [True, False])
def test_zip_bombs_take_no_memory(tmp_path: Path, claimed: bool) -> None:
    """Half a million bytes that unpack to half a gigabyte; one says so, the other says less."""
    header = io.BytesIO()
    np.save(header, np.zeros((1, 6, 6), np.uint8))
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            member.write(header.getvalue())
            zeros = bytes(2**20)
            for _ in range(520):
                member.write(zeros)
        archive.writestr("y_train.npy", header.getvalue())
        if not claimed:
            archive.getinfo("x_train.npy").file_size = len(header.getvalue())
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 100 times" if claimed else "cannot be read"):
            load_npz(tmp_path / "b.npz")
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


# ----------------------------------------------------------------- CSV


def csv_text(first: str | None = None, label: int = 0) -> str:
    rows = np.insert(IMAGES.reshape(40, 36), label, LABELS, axis=1)
    names = [f"pixel{i}" for i in range(36)]
    names.insert(label, "label")
    lines = [",".join(names)] if first is None else [first] if first else []
    return "\n".join([*lines, *(",".join(map(str, row)) for row in rows)]) + "\n"


@pytest.mark.parametrize(
    "text", [csv_text(), csv_text(""), csv_text(label=36), "\ufeff" + csv_text()]
)
def test_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "digits.csv").write_text(text, encoding="utf-8")
    data = load_dataset(data_dir=tmp_path / "digits.csv")
    assert data.name == "digits"
    assert data.num_classes == 4
    assert data.image_shape == (1, 6, 6)
    assert all_pairs(data) == EXPECTED
    assert "validation and test set drawn with split seed 0" in data.description


def test_a_folder_as_kaggle_has_it(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv_text())
    (tmp_path / "test.csv").write_text("\n".join(s[2:] for s in csv_text().splitlines()[1:]))
    with pytest.raises(DataError, match=r"test.csv: 40 rows of 35 pixels"):  # nor a header
        load_dataset(data_dir=tmp_path)
    (tmp_path / "test.csv").write_text("pixel0,pixel1\n1,2\n")
    data = load_dataset(data_dir=tmp_path)
    assert "test.csv has no labels, it is not used" in data.description
    assert all_pairs(data) == EXPECTED
    with pytest.raises(DataError, match=r"test.csv: no column is called label"):
        load_csv(tmp_path / "test.csv")
    (tmp_path / "train.csv").rename(tmp_path / "fashion_train.csv")
    (tmp_path / "test.csv").unlink()
    (tmp_path / "fashion_test.csv").write_text(csv_text())
    data = load_dataset(data_dir=tmp_path)
    assert len(data.test) == 40
    assert pairs(data.test) == EXPECTED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 rows"),
        ("label,pixel0\n", "0 rows"),
        ("label,pixel0,pixel1\n1,2,3\n", "1 rows of 2 pixels; .*square"),
        ("label,pixel0\n1,256\n", "'256'"),
        ("label,pixel0\n1,-1\n", "'-1'"),
        ("label,pixel0\n1,0.5\n", "'0.5'"),
        ("label,pixel0\n1,2\n1\n", "columns changed"),
        ("label,pixel0\none,2\n", "'one'"),
        ("label;pixel0\n1;2\n", "no column is called label"),
        ("a" * 2**21, "first line does not end"),
    ],
)
def test_csv_that_is_no_table(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_csv(tmp_path / "t.csv")
    assert "t.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_csv_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.csv").write_text(csv_text())
    monkeypatch.setattr(table, "MAX_CSV_BYTES", 100)
    with pytest.raises(DataError, match="the limit is 100"):
        load_csv(tmp_path / "t.csv")


# ----------------------------------------------------------------- which is it?


def test_what_a_path_holds_is_found_out(tmp_path: Path) -> None:
    for kind, make in (
        ("IDX files", lambda folder: fill(folder)),
        ("pictures", lambda folder: fill_folder(folder, {"a": 3, "b": 3})),
        ("binary files of CIFAR-10", fill_cifar10),
    ):
        folder = tmp_path / kind
        folder.mkdir()
        make(folder)
        data = load_dataset(data_dir=folder)
        assert kind in data.description
        assert data.name == kind
    # a folder beside IDX files was never looked at, and is not, unless there are pictures in it
    folder = tmp_path / "IDX files"
    (folder / "backup").mkdir()
    assert "IDX" in load_dataset(data_dir=folder).description
    fill_folder(folder, {"backup": 1})
    with pytest.raises(DataError, match="holds IDX files and pictures; expected one"):
        load_dataset(data_dir=folder)


def test_what_a_path_does_not_hold(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "python").mkdir()
    (tmp_path / "python/data_batch_1").write_bytes(b"x")
    (tmp_path / "m.pkl").write_bytes(b"x")
    for path, message in (
        ("empty", "holds no data set; expected a folder of pictures"),
        ("python", r"CIFAR's files for Python.*download the binary version"),
        ("m.pkl", r"ends in '.pkl'; expected .* a file .npz or .csv"),
        ("nothing", r"cannot be read as a folder \(No such file"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            load_dataset(data_dir=tmp_path / path)
        assert "\n" not in str(caught.value)


# ----------------------------------------------------------------- other sizes and colours


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_convert(tmp_path: Path, dtype: Any) -> None:
    images = RNG.integers(0, 256, (30, 3, 8, 8)).astype(np.uint8)
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.arange(30) % 2)
    data = load_npz(tmp_path / "d.npz")
    assert convert(data) is data
    assert convert(data, image_size=8, channels=3) is data
    grey = convert(data, channels=1)
    weighted = np.tensordot([0.299, 0.587, 0.114], data.train.images.transpose(1, 0, 2, 3), 1)
    tolerance = 0.5 + 1e-9 if dtype == np.uint8 else 1e-6
    assert np.abs(grey.train.images[:, 0] - weighted).max() <= tolerance
    assert grey.train.images.dtype == dtype
    small = convert(data, image_size=(4, 2))
    assert small.image_shape == (3, 4, 2)
    assert small.description.endswith("resized from 8 x 8 to 4 x 2")
    wide = convert(grey, image_size=(8, 16), channels=3)
    assert wide.image_shape == (3, 8, 16)
    assert (wide.test.images == wide.test.images[:, :1]).all()
    if dtype == np.uint8:  # a picture on disk and an array become the same pixels
        (tmp_path / "0.png").write_bytes(content(data.train.images[0].transpose(1, 2, 0)))
        for options, other in (({"size": (4, 2)}, small), ({"channels": 1}, grey)):
            found = read_picture(tmp_path / "0.png", **options)
            assert np.abs(found.astype(int) - other.train.images[0]).max() <= 1
    for options in ({"channels": 2}, {"image_size": -1}):
        with pytest.raises(ConfigError):
            convert(data, **options)
    with pytest.raises(DataError, match="GiB"):
        convert(data, image_size=8000)


def test_decoys_are_put_on_resized_images(tmp_path: Path) -> None:
    fill_folder(tmp_path, {"a": 12, "b": 12})
    data = load_dataset("decoy-mnist", data_dir=tmp_path, image_size=32, images=10)
    assert data.image_shape == (1, 32, 32)
    assert len(data.train) == 10
    assert (data.train.masks.sum((1, 2)) == 16).all()


# ----------------------------------------------------------------- mutations


def _small_npz(save: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, x_train=IMAGES[:12, :2, :2], y_train=LABELS[:12] // 2)
    return buffer.getvalue()


FILES = {
    "npz": [_small_npz(np.savez), _small_npz(np.savez_compressed)],
    "csv": [csv_text().encode()[:400], b"label,pixel0\n" + b"1,2\n0,1\n" * 6],
    "bin": [cifar_records(12, 1).tobytes()[: 3073 * 12]],
}


@settings(deadline=None, max_examples=300)
@given(
    which=st.sampled_from([(kind, i) for kind, files in FILES.items() for i in range(len(files))]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 4000),
)
def test_mutated_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    which: tuple[str, int],
    changes: list[tuple[int, int]],
    cut: int,
) -> None:
    kind, number = which
    mutated = bytearray(FILES[kind][number])
    for place, value in changes:
        mutated[place % len(mutated)] = value
    mutated = mutated[: len(mutated) - cut] if cut < len(mutated) // 2 else mutated
    folder = tmp_path_factory.getbasetemp() / "mutated data"
    folder.mkdir(exist_ok=True)
    names = {"npz": "m.npz", "csv": "m.csv", "bin": "data_batch_1.bin"}
    (folder / names[kind]).write_bytes(mutated)
    cifar_records(12, 1).tofile(folder / "test_batch.bin")
    reader = {"npz": load_npz, "csv": load_csv, "bin": load_cifar}[kind]
    message = ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            data = reader(folder if kind == "bin" else folder / names[kind])
        except DataError as error:
            message = str(error)
        else:
            assert data.train.labels.max() < data.num_classes
    assert "\n" not in message
