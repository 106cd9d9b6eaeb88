"""``python -m minifbi.runs`` and ``read_runs``: many runs, some of them damaged or not ours."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from figure_checks import assert_texts_apart
from helpers import command, small_mnist
from PIL import Image

from minifbi.errors import CheckpointError, ConfigError, RunFolderError
from minifbi.files.lock import FolderLock, is_locked
from minifbi.plots import plot_runs
from minifbi.runs import SUMMARY, differences, find_runs, read_run, read_runs
from minifbi.runs.__main__ import duration, in_order, labels, main
from minifbi.training import Callback, TrainConfig, train

OPTIONS = {"model": "mlp", "backend": "numpy", "epochs": 2, "batch_size": 120}


class StopAtOnce(Callback):
    def on_epoch_end(self, trainer, record):
        trainer.stop("seen enough")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Three complete runs, one of them stopped early, and one that was interrupted."""
    folder = tmp_path_factory.mktemp("many") / "runs"
    data = small_mnist(240, 120, 60)
    more = {"dataset": data, "quiet": True, "figures": False}
    train(TrainConfig(**OPTIONS, fbi_weight=0), folder / "plain", **more)
    train(TrainConfig(**OPTIONS, fbi_weight=0.01, fbi_gate=0), folder / "deep" / "fbi", **more)
    options = {**OPTIONS, "regularizer": "l2", "fbi_gate": 0, "lr": 0.01}
    train(TrainConfig(**options), folder / "deep" / "l2", callbacks=[StopAtOnce()], **more)
    shutil.copytree(folder / "plain", folder / "cut")
    (folder / "cut" / "result.json").unlink()
    return folder


def test_what_is_read(many):
    runs = read_runs(many)
    assert [Path(run["name"]).name for run in runs] == ["cut", "fbi", "l2", "plain"]
    cut, fbi, l2, plain = runs
    for run in runs:
        assert [*run] == [*SUMMARY, "options", "records"]
    result = json.loads((many / "plain" / "result.json").read_text())
    assert plain["test_accuracy"] == result["test_accuracy"]
    assert plain["fbi_loss"] == result["fbi_loss"]
    assert plain["seconds"] == pytest.approx(result["seconds"])
    assert plain["records"][-1]["val_accuracy"] == plain["val_accuracy"]
    assert (cut["state"], cut["test_accuracy"]) == ("interrupted", None)
    assert (plain["state"], plain["epochs"], plain["epochs_asked"]) == ("complete", 2, 2)
    assert (plain["options"]["regularizer"], plain["options"]["weight"]) == ("none", 0)
    assert (fbi["options"]["regularizer"], fbi["options"]["weight"]) == ("fbi", 0.01)
    assert (fbi["gate_epoch"], plain["gate_epoch"]) == (1, None)
    assert (l2["epochs"], l2["stopped"]) == (1, "seen enough")
    assert l2["options"]["lr"] == 0.01
    assert differences([cut, plain]) == []
    assert differences([plain, fbi]) == ["regularizer", "weight", "fbi_gate"]
    assert read_runs([many / "deep", many / "deep" / "l2"]) == [fbi, l2]  # each once


def test_a_run_that_is_being_written(many):
    assert not is_locked(many / "cut")
    with FolderLock(many / "cut"):
        assert read_run(many / "cut")["state"] == "running"
        assert is_locked(many / "cut")  # looking has not taken it away
    assert read_run(many / "cut")["state"] == "interrupted"


def test_the_table(many, capsys):
    assert main([str(many), "--sort", "test_accuracy"]) == 0
    found = capsys.readouterr()
    assert found.err == ""
    lines = found.out.splitlines()
    assert lines[0] == "4 runs: model mlp, data mnist, rule zero"
    head = lines[2].split()
    assert head[:6] == ["run", "regularizer", "weight", "lr", "fbi_gate", "epochs"]
    assert any("stopped early" in line for line in lines)
    assert lines[-2].rstrip().endswith("interrupted")  # no test accuracy: last
    assert main([str(many / "plain")]) == 0
    head = "1 run: model mlp, data mnist, regularizer none, weight 0, rule zero"
    assert capsys.readouterr().out.startswith(head)


def test_sorting():
    runs = [{"name": n, "options": {"lr": lr}} for n, lr in (("b", 1), ("a", 3), ("c", None))]
    for run, accuracy in zip(runs, (None, 0.5, 0.9), strict=True):
        run.update(dict.fromkeys(SUMMARY[1:]), test_accuracy=accuracy)

    def names(*how):
        return "".join(run["name"] for run in in_order(runs, *how))

    assert names("name") == "abc"
    assert names("name", True) == "cba"
    assert names("test_accuracy") == "cab"
    assert names("test_accuracy", True) == "acb"  # none is last, either way
    assert names("lr") == "bac"


def test_an_unknown_name_to_sort_by(many, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(many), "--sort", "colour"])
    assert stopped.value.code == 2
    assert "--sort colour: expected one of name, state" in capsys.readouterr().err


def test_csv_and_figure(many, tmp_path, capsys):
    table, figure = tmp_path / "all.csv", tmp_path / "all.png"
    assert main([str(many), "--csv", str(table), "--plot", str(figure)]) == 0
    capsys.readouterr()
    rows = list(csv.DictReader(table.open()))
    runs = read_runs(many)
    assert [row["name"] for row in rows] == [run["name"] for run in runs]
    for row, run in zip(rows, runs, strict=True):
        assert float(row["val_accuracy"]) == run["val_accuracy"]
        accuracy = run["test_accuracy"]
        assert row["test_accuracy"] == ("" if accuracy is None else str(accuracy))
        assert float(row["weight"]) == run["options"]["weight"]
        assert row["batch_size"] == "120"
    assert Image.open(figure).width == 13 * 150
    assert main([str(many), "--plot", str(tmp_path / "all.jpg")]) == 2
    assert "ends in .png" in capsys.readouterr().err


def test_labels_name_what_differs_and_nothing_else(many):
    cut, fbi, l2, plain = read_runs(many)
    assert labels([fbi, plain]) == ["fbi 0.01, fbi_gate 0", "no regularizer, fbi_gate 0.7"]
    assert labels([plain])[0].endswith("runs/plain")
    for label, name in zip(labels([cut, plain]), ("cut", "plain"), strict=True):
        assert label.endswith(name)
    assert labels([fbi, l2])[1].startswith("l2 ")


def test_the_figure_shows_every_run(many):
    runs = read_runs(many)
    figure = plot_runs(runs, labels(runs))
    accuracy, task, penalty = figure.axes
    shown = {line.get_label(): line for line in accuracy.get_lines()}
    for run, label in zip(runs, labels(runs), strict=True):
        assert shown[label].get_ydata().tolist() == [r["val_accuracy"] for r in run["records"]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels(runs)
    assert_texts_apart(figure)
    assert penalty.get_title(loc="left") == "penalty"  # the FBI loss is not L2
    rings = [line for line in task.get_lines() if line.get_fillstyle() == "none"]
    assert len(rings) == 2
    assert plot_runs([runs[1]], ["one"]).axes[2].get_title(loc="left") == "FBI loss"
    for wrong in ([], ["a"]):
        with pytest.raises(ConfigError, match="expected one for each"):
            plot_runs(runs, wrong)


def test_a_run_that_has_just_begun(many, tmp_path, capsys):
    """It has config.json and nothing else yet."""
    shutil.copytree(many / "plain", tmp_path / "new")
    for path in (tmp_path / "new").iterdir():
        if path.name != "config.json":
            path.unlink()
    run = read_run(tmp_path / "new")
    assert (run["epochs"], run["val_accuracy"], run["seconds"]) == (0, None, 0)
    files = ["--plot", str(tmp_path / "a.png"), "--csv", str(tmp_path / "c")]
    assert main([str(tmp_path), *files]) == 0
    assert "0/2" in capsys.readouterr().out


DAMAGES = {
    "config.json": [b"{", b"[1]", b'{"model": 3, "epochs": 2}', b'{"model": "mlp", "epochs": "x"}'],
    "metrics.jsonl": [b"{}\n", b"nonsense\n", b'{"epoch": NaN}\n', b"\xff\n", b"[]\n"],
    "result.json": [b"[]", b"3", b"null", b'{"test_accuracy": "high"}', b"{", b"{}"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "content"), [(n, c) for n, all_ in DAMAGES.items() for c in all_])
def test_what_is_damaged_is_named_and_the_rest_is_shown(many, tmp_path, capsys, name, content):
    shutil.copytree(many / "plain", tmp_path / "good")
    shutil.copytree(many / "plain", tmp_path / "bad")
    (tmp_path / "bad" / name).write_bytes(content)
    assert main([str(tmp_path)]) == 1
    found = capsys.readouterr()
    assert found.err.count("\n") == 1
    assert str(tmp_path / "bad" / name) in found.err
    assert "1 run: " in found.out
    with pytest.raises((CheckpointError, RunFolderError)):
        read_runs(tmp_path)


def test_what_is_no_run(many, tmp_path, capsys):
    shutil.copytree(many / "deep" / "fbi", tmp_path / "good")
    (tmp_path / "photographs" / "more").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "round").symlink_to(tmp_path)
    assert main([str(tmp_path), str(tmp_path / "nowhere")]) == 1
    found = capsys.readouterr()
    assert found.err.splitlines() == [
        f"minifbi.runs: error: {tmp_path / 'photographs'} holds no run",
        f"minifbi.runs: error: {tmp_path / 'nowhere'} is not a folder",
    ]
    assert found.out.count(str(tmp_path / "good")[-30:]) == 1
    with pytest.raises(RunFolderError, match="photographs holds no run"):
        find_runs(tmp_path)
    assert main([str(tmp_path / "photographs")]) == 1
    assert "there is no run to show" in capsys.readouterr().err


def test_a_part_of_ones_own_is_shown_as_text_and_never_imported(many, tmp_path, capsys):
    shutil.copytree(many / "plain", tmp_path / "run")
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef build(): pass\n")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    config |= {"model": f"{trap}:build", "regularizer": f"{trap}:build", "extra": "\x1b[2J\n=1+1"}
    config["regularizer_weight"] = 0.5
    path.write_text(json.dumps(config))
    shutil.copytree(many / "plain", tmp_path / "other")
    assert main([str(tmp_path), "--plot", str(tmp_path / "a.png")]) == 0
    found = capsys.readouterr().out
    assert "trap.py:build" in found
    assert "\x1b" not in found
    assert "trap" not in sys.modules
    assert not (tmp_path / "sprung").exists()


def test_as_a_command(many):
    done = command("runs", many, "--sort", "weight", "--reverse")
    assert (done.returncode, done.stderr) == (0, "")
    assert "matplotlib" not in done.stdout
    assert done.stdout.startswith("4 runs: ")


def test_durations():
    found = [duration(s) for s in (0.04, 59.9, 61, 3599, 3600, 7380)]
    assert found == ["0.0 s", "59.9 s", "1 min", "1 h 0 min", "1 h 0 min", "2 h 3 min"]
