"""Runs on pictures: trained, resumed, explained and loaded again with the same data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import command
from picture_files import fill_folder
from PIL import Image, ImageDraw

from minifbi.datasets import load_dataset
from minifbi.errors import ConfigError
from minifbi.models import MODELS
from minifbi.plots import plot_activations
from minifbi.train import image_size
from minifbi.training import TrainConfig, load_model, resume, train
from minifbi.training.config import load_data
from minifbi.training.loading import load_run_data
from minifbi.training.trainer import Trainer

SHAPES = {"a disc with quite a long name": "green", "square": "red", "triangle": "blue"}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs, squares and triangles in colour, of many sizes, in two formats."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(0)
    for name, colour in SHAPES.items():
        (root / name).mkdir(parents=True)
        for i in range(30):
            picture = Image.new("RGB", tuple(rng.integers(36, 60, 2).tolist()), "white")
            draw = ImageDraw.Draw(picture)
            x, y = rng.integers(4, 14, 2).tolist()
            if colour == "green":
                draw.ellipse((x, y, x + 20, y + 20), fill=colour)
            elif colour == "red":
                draw.rectangle((x, y, x + 20, y + 20), fill=colour)
            else:
                draw.polygon(((x, y + 20), (x + 20, y + 20), (x + 10, y)), fill=colour)
            picture.save(root / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


def config(shapes: Path, **options: object) -> TrainConfig:
    values = {"model": "mlp", "image_size": 12, "backend": "numpy", "batch_size": 8} | options
    return TrainConfig(data_dir=str(shapes), **values)  # type: ignore[arg-type]


def test_a_run_goes_on_with_the_same_pictures(shapes: Path, tmp_path: Path) -> None:
    options = config(shapes, epochs=2, lr=0.003, split_seed=3, images=50, channels=3)
    train(options, tmp_path / "run", quiet=True, figures=False)
    saved = json.loads((tmp_path / "run/config.json").read_text())
    assert (saved["image_size"], saved["images"], saved["split_seed"]) == ([12, 12], 50, 3)
    result = resume(tmp_path / "run", epochs=6, quiet=True, figures=False)
    assert result["test_accuracy"] >= 0.8
    _, meta = load_model(tmp_path / "run", backend="numpy")
    assert meta["class_names"] == sorted(SHAPES)
    assert meta["num_classes"] == 3
    again, first = load_run_data(meta), load_data(options)
    assert len(first.train) == 50
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(again, split).images, getattr(first, split).images)


def test_the_commands_say_what_they_read(shapes: Path, tmp_path: Path) -> None:
    line = f"train --data-dir {shapes} --model mlp --backend numpy --epochs 1 --out {tmp_path}/run"
    refused = command(*line.split())
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "--image-size" in refused.stderr
    found = command(*line.split(), "--image-size", "12x10", "--channels", "1", "--images", "30")
    assert found.returncode == 0, found.stderr
    assert "grey, resized to 12 x 10" in found.stdout
    assert "30 of 66 training images" in found.stdout
    explained = command("explain", f"{tmp_path}/run", "--out", f"{tmp_path}/map.png")
    assert explained.returncode == 0, explained.stderr
    assert any(name in explained.stdout for name in SHAPES)
    refused = command(*line.split(), "--image-size", "12x0")
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert [image_size(text) for text in ("28", "28x40", "28X40")] == [(28, 28), (28, 40), (28, 40)]
    for wrong in ("", "x", "12x", "1x2x3", "a"):
        with pytest.raises(ValueError, match="invalid literal"):
            image_size(wrong)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_network_takes_colour(shapes: Path, model: str) -> None:
    data = load_dataset(data_dir=shapes, image_size=28, images=8)
    record = Trainer(config(shapes, model=model, fbi_gate=0.0), data).run_epoch()
    assert np.isfinite(record["task_loss"])
    assert np.isfinite(record["penalty"])


def test_the_figure_shows_colours_and_names(shapes: Path, tmp_path: Path) -> None:
    train(config(shapes, epochs=1), tmp_path / "run", quiet=True, figures=False)
    model, meta = load_model(tmp_path / "run", backend="numpy")
    data = load_run_data(meta)
    images, labels = data.test.batch([0])
    figure = plot_activations(model, images[0], int(labels[0]), class_names=data.class_names)
    shown = next(axes for axes in figure.axes if axes.get_label() == "input").images[0]
    np.testing.assert_allclose(shown.get_array(), images[0].transpose(1, 2, 0))
    texts = figure.get_suptitle() + "".join(axes.get_title("left") for axes in figure.axes)
    name = data.class_names[labels[0]]
    assert (name if len(name) <= 18 else f"{name[:15]}...") in texts
    assert "true class 0" not in texts


def test_options_of_the_data(tmp_path: Path) -> None:
    for wrong in (
        {"image_size": "28"},
        {"image_size": (28, 0)},
        {"channels": 2},
        {"channels": True},
        {"split_seed": -1},
        {"images": 0},
        {"num_classes": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            TrainConfig(**wrong)  # type: ignore[arg-type]
    options = TrainConfig(image_size=28, channels=1, images=9)
    assert options.image_size == (28, 28)
    assert TrainConfig.from_dict(json.loads(json.dumps(options.to_dict()))) == options
    with pytest.raises(ConfigError, match="images=100: expected"):
        load_data(TrainConfig(data_dir=str(fill_folder(tmp_path, {"a": 3, "b": 3})), images=100))
