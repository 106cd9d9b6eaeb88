"""``python -m minifbi.explain`` with several runs, pictures, and files of numbers and pixels."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from helpers import small_mnist, write_idx_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from minifbi import forward_pass
from minifbi.datasets import Dataset, Split, as_digit, read_picture
from minifbi.explain import Class, Difference, Unit, get_explainer, relevance_at
from minifbi.explain.__main__ import main
from minifbi.explain.questions import for_each
from minifbi.plots.pixels import heatmap_pixels
from minifbi.train import main as train_main
from minifbi.training import TrainConfig, load_model, train


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two trainings on the same digits."""
    folder = tmp_path_factory.mktemp("compared")
    data = write_idx_folder(folder / "digits")
    for name, weight in (("fbi", "0.01"), ("plain", "0")):
        flags = ["--model", "mlp", "--backend", "numpy", "--epochs", "1", "--batch-size", "32"]
        flags += ["--fbi-gate", "0", "--fbi-weight", weight, "--data-dir", str(data), "--quiet"]
        assert train_main([*flags, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A network for 16 x 12 pictures in colour with names for its classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 3, 16, 12), np.uint8)
    images[::2, 0], images[1::2, 2] = 255, 255
    split = Split.from_arrays(images, np.arange(48) % 2, num_classes=2)
    names = ("a red one", "blue: " + "a name that is much longer than a figure is wide " * 3)
    data = Dataset("tints", split, split, split, 2, names)
    config = TrainConfig(model="mlp", num_classes=2, epochs=1, batch_size=8, backend="numpy")
    out = tmp_path_factory.mktemp("colour") / "tints"
    train(config, out, dataset=data, quiet=True)
    return out


@pytest.fixture
def seven(tmp_path):
    """A 7 in dark blue on white paper."""
    picture = Image.new("RGB", (120, 90), "white")
    strokes = [(40, 15), (80, 15), (60, 75)]
    ImageDraw.Draw(picture).line(strokes, fill=(20, 20, 120), width=8, joint="curve")
    picture.save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


@pytest.fixture
def explain(tmp_path, monkeypatch):
    """Run the command in an empty folder, on the numpy backend."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return lambda *arguments: main([*map(str, arguments), "--backend", "numpy"])


def test_two_runs_in_one_figure_and_as_arrays(runs, explain, capsys):
    both = [runs / "fbi", runs / "plain"]
    asked = ["--index", 0, 8, "--class", "label", "4", "--method", "lrp-0", "--method", "occlusion"]
    assert explain(*both, *asked, "--shared", "column", "--save", "found.npz") == 0
    said = capsys.readouterr().out
    assert "fbi: mlp on digits, lambda = 0.01, epoch 1\n" in said
    assert "plain: mlp on digits, conventional training, epoch 1\n" in said
    with np.load("found.npz", allow_pickle=False) as file:
        found = dict(file)
    assert not [name for name, array in found.items() if array.dtype == object]
    assert found["runs"].tolist() == ["fbi", "plain"]
    assert found["methods"].tolist() == ["lrp-0", "occlusion"]
    assert found["class_names"].tolist() == list("0123456789")
    assert found["indices"].tolist() == [0, 0, 8, 8]
    assert found["labels"].tolist() == [7, 7, 5, 5]
    assert found["names"][2] == "test image 8"
    assert found["targets"].tolist() == [["7", "4", "5", "4"]] * 2
    images, labels = small_mnist().test.batch([0, 0, 8, 8])
    assert labels.tolist() == [7, 7, 5, 5]
    np.testing.assert_array_equal(found["images"], images)
    for number, path in enumerate(both):
        model, _ = load_model(path, backend="numpy")
        np.testing.assert_allclose(found["logits"][number], model(images).numpy(), atol=1e-5)
        for method in ("lrp-0", "occlusion"):
            expected = get_explainer(method)(model, images, [7, 4, 5, 4])
            np.testing.assert_array_equal(found[f"run{number}/{method}"], expected)


def test_pixels_are_those_of_the_image_in_the_figures_colours(runs, explain):
    both = [runs / "fbi", runs / "plain"]
    flags = ["--pixels", "dots", "--scale", 3, "--shared", "all", "--save", "a.npz"]
    assert explain(*both, "--index", 3, "--colorblind", *flags) == 0
    found = np.load("a.npz")
    limit = max(np.abs(found[f"run{n}/lrp-0"]).max() for n in (0, 1))
    with Image.open("dots/test-image-3.png") as picture:
        assert picture.size == (84, 84)
        large = np.asarray(picture)
    np.testing.assert_array_equal(large[::3, ::3], np.round(255 * found["images"][0, 0]))
    np.testing.assert_array_equal(large, large[::3, ::3].repeat(3, 0).repeat(3, 1))
    for number, name in enumerate(("fbi", "plain")):
        with Image.open(f"dots/{name}_test-image-3_0_lrp-0.png") as picture:
            shown = np.asarray(picture)[::3, ::3]
        values = found[f"run{number}/lrp-0"][0, 0]
        np.testing.assert_array_equal(shown, heatmap_pixels(values, limit, colorblind=True))
        assert (shown[values == 0].min(axis=-1) > 240).all()  # nothing is white


def test_a_drawing_needs_no_data_set(runs, seven, explain, monkeypatch, capsys):
    monkeypatch.setattr("minifbi.explain.report.load_run_data", None)
    assert explain(runs / "plain", "--image", seven, "--save", "found.npz") == 0
    said = capsys.readouterr().out
    assert "seven.png: prepared as MNIST's digits are" in said
    found = np.load("found.npz")
    prepared = as_digit(read_picture(seven))
    np.testing.assert_allclose(found["images"][0], prepared / np.float32(255), rtol=1e-6)
    assert (found["labels"].tolist(), found["indices"].tolist()) == ([-1], [-1])
    logits = found["logits"][0, 0]
    best = np.argsort(-logits)[:3]
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert f"seven.png: predicted {best[0]} (probability {shares[best[0]]:.3f}), then" in said
    assert f"then {best[1]} ({shares[best[1]]:.3f}) and {best[2]} ({shares[best[2]]:.3f})" in said
    assert found["targets"].tolist() == [[str(best[0])]]


def test_a_raw_drawing_is_only_resized(runs, seven, explain, capsys):
    assert explain(runs / "plain", "--image", seven, "--raw-image", "--save", "raw.npz") == 0
    assert "seven.png: resized to 28 x 28, grey" in capsys.readouterr().out
    expected = read_picture(seven, size=28, channels=1) / np.float32(255)
    np.testing.assert_allclose(np.load("raw.npz")["images"][0], expected, rtol=1e-6)


def test_a_network_in_colour_with_long_names(colour, seven, explain, capsys):
    second = seven.with_name("again.png")
    shutil.copy(seven, second)
    flags = ["--class", "a red one", "predicted", "--save", "tints.npz", "--pixels", "dots"]
    assert explain(colour, "--image", seven, second, *flags) == 0
    assert "resized to 16 x 12, colour" in capsys.readouterr().out
    found = np.load("tints.npz")
    assert found["images"].shape[1:] == (3, 16, 12)
    assert set(found["targets"][0]) <= set(found["class_names"])
    with Image.open("dots/seven.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (12, 16))


def test_why_this_class_and_not_that(runs, explain, capsys):
    asked = ["--class", "label-predicted", "5-8", "--unit", "dense1:3", "--method", "gradient"]
    both = [runs / "fbi", runs / "plain"]
    assert explain(*both, "--index", 8, *asked, "--method", "lrp-0", "--save", "why.npz") == 0
    found = np.load("why.npz")
    said = capsys.readouterr().out
    for number, path in enumerate(both):
        model, _ = load_model(path, backend="numpy")
        image = found["images"][:1]
        logits = model(image).numpy()[0]
        answer = int(logits.argmax())
        hidden = forward_pass(model, image)
        (unit,) = [step.z.numpy()[0, 3] for step in hidden if step.name == "dense1"]
        values = [logits[5] - logits[answer], logits[5] - logits[8], unit]
        np.testing.assert_allclose(found["values"][number], values, atol=1e-4)
        assert found["targets"][number].tolist() == [f"5 minus {answer}", "5 minus 8", "dense1:3"]
        classes = {c: get_explainer("lrp-0")(model, image, c)[0] for c in (5, 8)}
        relevance = found[f"run{number}/lrp-0"]
        np.testing.assert_allclose(relevance[1], classes[5] - classes[8], atol=1e-5)
        gradients = found[f"run{number}/gradient"]
        np.testing.assert_allclose(relevance, gradients * found["images"], atol=1e-5)
        assert f"lrp-0, test image 8, 5 minus 8 (difference {values[1]:.4f})" in said
        assert f"lrp-0, test image 8, dense1:3 (value {unit:.4f})" in said


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory):
    """A network with maps inside, barely trained."""
    out = tmp_path_factory.mktemp("maps") / "lenet"
    config = TrainConfig(model="lenet", epochs=1, batch_size=32, backend="numpy")
    train(config, out, dataset=small_mnist(96, 24, 20), quiet=True)
    return out


def test_relevance_at_a_layer_and_through_channels(convolutions, explain, monkeypatch):
    monkeypatch.setattr(
        "minifbi.explain.report.load_run_data", lambda *_, **__: small_mnist(96, 24, 20)
    )
    run = [convolutions, "--index", 1, 2, "--class", "label", "3-5"]
    assert explain(*run, "--layer", "conv2", "--save", "at.npz", "--pixels", "at") == 0
    at = np.load("at.npz")
    assert str(at["layer"]) == "conv2"
    values = at["run0/lrp-0"]
    model, _ = load_model(convolutions, backend="numpy")
    classes = relevance_at(model, at["images"][:1], at["labels"][:1], "conv2")
    np.testing.assert_allclose(values[0], classes[0], atol=1e-6)
    # the tiles are the sum over the channels, and the four with the most relevance
    strongest = np.argsort(-np.abs(values).sum(axis=(0, 2, 3)), kind="stable")[:4]
    names = ["conv2-all-channels", *(f"channel-{channel}" for channel in strongest)]
    for name, tile in zip(names, [values[0].sum(axis=0), *values[0, strongest]], strict=True):
        with Image.open(f"at/test-image-1_2_{name}.png") as picture:
            shown = np.asarray(picture)
        limit = float(np.abs(tile).max()) or 1.0
        np.testing.assert_array_equal(shown, heatmap_pixels(tile, limit))
    # what goes through each of the channels is together what goes through all
    parts = []
    for channels in ("0,1,2,3,4,5,6,7", "8,9,10,11,12,13,14,15"):
        assert explain(*run, "--through", f"conv2:{channels}", "--save", "part.npz") == 0
        part = np.load("part.npz")
        assert part["through"].tolist() == [f"conv2:{channels}"]
        parts.append(part["run0/lrp-0"])
    assert explain(*run, "--save", "whole.npz") == 0
    np.testing.assert_allclose(sum(parts), np.load("whole.npz")["run0/lrp-0"], atol=1e-5)


SOME = [Class(1), Class(2), Difference(1, 2), Difference(3, 0), Unit("a", 1), Unit("a", 2)]


@given(st.lists(st.sampled_from(SOME), min_size=1, max_size=8))
def test_targets_are_computed_together_as_alone(targets):
    def compute(target, places):
        if isinstance(target, Unit):
            return np.full(len(places), 100 + target.channel)
        if isinstance(target, Class):
            return np.asarray(target.for_images(len(places)).classes) + 0
        one = target.for_images(len(places))
        return 10 * np.asarray(one.classes) + np.asarray(one.others)

    expected = [compute(target, [0])[0] for target in targets]
    assert for_each(targets, compute).tolist() == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--image", "none.png"], 1, "none.png: cannot be read as a picture (No such file"),
        (["--image", "text.png"], 1, "text.png: cannot be read as a picture"),
        (["--image", "blank.png"], 1, "blank.png: the picture shows no digit"),
        (["--image", "blank.png", "--class", "label"], 1, "blank.png: the picture shows no digit"),
        (["--image", "blank.png", "--raw-image", "--class", "label"], 2, "target 'label'"),
        (["--class", "4-11"], 2, "target '4-11': expected a class (label, predicted, 0, 1"),
        (["--unit", "dense1:400"], 2, "dense1:400: the output of layer 'dense1' has shape"),
        (["--unit", "conv9:0"], 2, "no layer is called 'conv9'; expected one of"),
        (["--layer", "dense1"], 2, "--layer dense1: its output has shape"),
        (["--layer", "conv9"], 2, "layer 'conv9': no relevance arrives"),
        (["--layer", "dense1", "--method", "occlusion"], 2, "--layer does not go with the method"),
        (["--through", "dense1:2", "--method", "smoothgrad"], 2, "--through does not go with"),
        (["--through", "dense1"], 2, "--through dense1: expected LAYER:CHANNEL"),
        (["--through", "dense1:4000"], 2, "channel of dense1=4000: expected a whole number"),
        (["--image", "x.png", "--method", "expected-gradients"], 2, "not go with --image"),
        (["--image", "blank.png", "--index", "3"], 2, "--index does not go with --image"),
        (["--image", "blank.png", "--split", "train"], 2, "--split does not go with --image"),
        (["--raw-image"], 2, "--raw-image goes with --image FILE"),
        (["--scale", "2"], 2, "--scale goes with --pixels DIR"),
        (["--scale", "0", "--pixels", "."], 2, "scale=0: expected a whole number, at least 1"),
        (["--save", "found.txt"], 2, "expected a name that ends in .npz"),
        (["--save", "none/found.npz"], 1, "make the folder first: none"),
        (["--pixels", "text.png"], 2, "--pixels text.png: it is a file; expected a folder"),
        (["--pixels", "none/dots"], 1, "make the folder first: none"),
    ],
)
def test_errors_are_one_line(runs, explain, capsys, arguments, code, message):
    Image.new("L", (40, 40), 255).save("blank.png")
    with open("text.png", "w", encoding="utf-8") as file:
        file.write("not a picture")
    try:
        found = explain(runs / "plain", *arguments)
    except SystemExit as stopped:
        found = stopped.code
    said = capsys.readouterr().err
    assert (found, said.count("\n")) == (code, 1), said
    assert message in said


def test_runs_that_cannot_be_compared(runs, colour, explain, seven, tmp_path, capsys):
    def refused(*arguments):
        assert explain(*arguments) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    fbi, plain = runs / "fbi", runs / "plain"
    assert f"{fbi} is there 2 times" in refused(fbi, fbi)
    assert "tints takes images of 3 x 16 x 12 and fbi of 1 x 28 x 28" in refused(fbi, colour)
    other = tmp_path / "fbi"
    data = write_idx_folder(tmp_path / "digits", test=50)
    flags = ["--model", "mlp", "--backend", "numpy", "--epochs", "1", "--data-dir", str(data)]
    assert train_main([*flags, "--quiet", "--out", str(other)]) == 0
    said = refused(fbi, other)  # two folders of the same name have their paths
    assert f"the test images of digits were others in {other} than in {fbi}" in said
    assert explain(fbi, other, "--split", "train") == 0
    assert explain(plain, other, "--image", seven) == 0
