"""``python -m minifbi.train`` as a user meets it: folders, resuming, errors."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import command, write_idx_folder

from minifbi.train import main
from minifbi.training import load_checkpoint, load_model

FILES = {
    "config.json",
    "metrics.jsonl",
    "metrics.csv",
    "checkpoint.npz",
    "previous.npz",
    "best.npz",
    "curves.png",
    "activations.png",
    "result.json",
}
LOG_KEYS = {
    "epoch",
    "step",
    "task_loss",
    "penalty",
    "penalty_terms",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "penalty_active",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_idx_folder(tmp_path_factory.mktemp("data") / "digits")


def flags(data: Path, *more: str | Path) -> list[str]:
    standard = ("--data-dir", data, "--model", "mlp", "--backend", "numpy", "--epochs", "3")
    return [str(a) for a in (*standard, "--gate-interval", "3", "--fbi-gate", "0.3", *more)]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    """One uninterrupted run, made through the command line."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    done = command("train", *flags(data, "--out", out))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no progress bar where there is no terminal
    assert "test accuracy" in done.stdout
    return out


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file()}


def without_times(records: list[dict]) -> list[dict]:
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    """All but the clock is equal, bit for bit."""
    arrays, meta = load_checkpoint(one / "checkpoint.npz")
    other_arrays, other_meta = load_checkpoint(other / "checkpoint.npz")
    assert arrays.keys() == other_arrays.keys()
    for group in arrays:
        assert arrays[group].keys() == other_arrays[group].keys()
        for name, array in arrays[group].items():
            np.testing.assert_array_equal(array, other_arrays[group][name], err_msg=name)
    assert without_times(read_log(one)) == without_times(read_log(other))
    assert meta["rng"] == other_meta["rng"]
    results = [json.loads((f / "result.json").read_text()) for f in (one, other)]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]


class TestRunFolder:
    def test_files(self, finished):
        assert {p.name for p in finished.iterdir()} == FILES

    def test_log(self, finished):
        records = read_log(finished)
        assert [r["epoch"] for r in records] == [1, 2, 3]
        assert all(set(r) == LOG_KEYS for r in records)
        assert records[-1]["penalty_active"]

    def test_result(self, finished):
        result = json.loads((finished / "result.json").read_text())
        expected = {"test_accuracy", "val_accuracy", "gate_step", "fbi_loss", "penalty", "seconds"}
        assert expected | {"backend", "seed"} <= set(result)
        assert result["backend"] == "numpy"
        assert result["test_accuracy"] > 0.5
        assert result["gate_step"] > 0

    def test_config_names_every_option(self, finished):
        config = json.loads((finished / "config.json").read_text())
        assert config["fbi_weight"] == 0.001
        assert config["backend"] == "numpy"
        assert "numpy" in config["versions"]

    @pytest.mark.parametrize("name", ["curves.png", "activations.png"])
    def test_pictures_are_pictures(self, finished, name):
        assert (finished / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert (finished / name).stat().st_size > 10_000

    def test_best_is_the_best_epoch(self, finished):
        _, meta = load_checkpoint(finished / "best.npz")
        records = read_log(finished)
        best = max(records, key=lambda r: r["val_accuracy"])
        assert meta["epoch"] == best["epoch"] == meta["best"]["epoch"]

    def test_the_model_loads_on_any_backend(self, finished, backend):
        model, meta = load_model(finished, backend=backend)
        arrays, _ = load_checkpoint(finished / "checkpoint.npz")
        assert model.backend.name == backend
        assert meta["epoch"] == 3
        assert not model.training
        for name, array in model.state_dict().items():
            np.testing.assert_array_equal(array, arrays["parameters"][name])

    def test_a_second_run_into_the_folder_is_refused(self, finished, data):
        before = snapshot(finished)
        done = command("train", *flags(data, "--out", finished))
        assert done.returncode == 1
        assert "already holds a run" in done.stderr
        assert done.stderr.count("\n") == 1
        assert snapshot(finished) == before

    def test_default_folders_never_collide(self, data, tmp_path):
        for _ in range(2):
            assert command("train", *flags(data, "--epochs", 1), cwd=tmp_path).returncode == 0
        names = sorted(p.name for p in (tmp_path / "runs").iterdir())
        assert names == ["mlp-digits-fbi0.001-seed0", "mlp-digits-fbi0.001-seed0-2"]

    def test_quiet_says_nothing(self, data, tmp_path):
        done = command("train", *flags(data, "--epochs", 1, "--quiet", "--out", tmp_path / "q"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_conventional_training(self, data, tmp_path):
        out = tmp_path / "c"
        assert main(flags(data, "--fbi-weight", "0", "--quiet", "--out", out)) == 0
        result = json.loads((out / "result.json").read_text())
        assert result["gate_step"] is None
        assert not any(r["penalty_active"] for r in read_log(out))


class TestResume:
    @pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_a_killed_run_goes_on_bit_for_bit(self, finished, data, tmp_path, signal_number):
        for attempt in range(10):  # on a busy machine the signal may come too late
            out = tmp_path / f"killed{attempt}"
            process = subprocess.Popen(
                [sys.executable, "-m", "minifbi.train", *flags(data, "--out", out)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # a shell starts its background jobs deaf to Ctrl-C, and so this one's children
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
            for line in process.stdout:
                if line.startswith("epoch 1/3"):
                    break
            time.sleep(0.02 if attempt == 0 else 0)  # somewhere in the second epoch
            process.send_signal(signal_number)
            _, errors = process.communicate()
            if process.returncode != 0:
                break
        assert process.returncode != 0
        assert "Traceback" not in errors
        if signal_number == signal.SIGINT:
            assert f"--resume {out}" in errors
        assert not (out / "result.json").exists()
        done = command("train", "--resume", out)
        assert done.returncode == 0, done.stderr
        assert "resuming after epoch" in done.stdout
        assert_same_run(finished, out)
        assert not list(out.glob("*.tmp"))

    def test_a_run_killed_before_its_first_epoch_ended_starts_again(self, finished, tmp_path):
        out = tmp_path / "early"
        out.mkdir()
        (out / "config.json").write_bytes((finished / "config.json").read_bytes())
        assert main(["--resume", str(out), "--quiet"]) == 0
        assert_same_run(finished, out)

    def test_a_finished_run_stays_what_it_is(self, finished, tmp_path):
        before = {name: content for name, (content, _) in snapshot(finished).items()}
        assert main(["--resume", str(finished), "--quiet"]) == 0
        after = {name: content for name, (content, _) in snapshot(finished).items()}
        assert before == after

    def test_more_epochs(self, data, tmp_path):
        out = tmp_path / "more"
        assert main(flags(data, "--epochs", "1", "--quiet", "--out", out)) == 0
        assert main(["--resume", str(out), "--epochs", "2", "--quiet"]) == 0
        assert [r["epoch"] for r in read_log(out)] == [1, 2]

    def test_nothing_to_resume(self, tmp_path):
        done = command("train", "--resume", tmp_path)
        assert done.returncode == 1
        assert "holds no run" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_other_flags_are_refused(self, tmp_path):
        done = command("train", "--resume", tmp_path, "--lr", "0.1")
        assert done.returncode == 2
        assert "--lr" in done.stderr

    @pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty"])
    def test_a_damaged_checkpoint(self, finished, tmp_path, damage):
        out = tmp_path / "damaged"
        out.mkdir()
        whole = (finished / "checkpoint.npz").read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        content = {"truncated": whole[:middle], "flipped": flipped, "text": b"x", "empty": b""}
        (out / "checkpoint.npz").write_bytes(content[damage])
        done = command("train", "--resume", out)
        assert done.returncode == 1
        assert "checkpoint.npz" in done.stderr
        assert done.stderr.count("\n") == 1
        assert (out / "checkpoint.npz").read_bytes() == content[damage]

    def test_a_checkpoint_of_another_model(self, finished, tmp_path):
        from minifbi.training import save_checkpoint

        arrays, meta = load_checkpoint(finished / "checkpoint.npz")
        meta["config"]["model"] = "lenet"
        save_checkpoint(tmp_path / "checkpoint.npz", arrays, meta)
        done = command("train", "--resume", tmp_path)
        assert done.returncode == 1
        assert "another model" in done.stderr
        assert done.stderr.count("\n") == 1

    def test_the_checkpoint_of_another_run(self, finished, data, tmp_path):
        """Two real runs, and the checkpoint of one in the folder of the other."""
        lenet = tmp_path / "lenet"
        options = flags(data, "--model", "lenet", "--epochs", 1, "--quiet", "--out", lenet)
        assert main([str(o) for o in options]) == 0
        (lenet / "checkpoint.npz").write_bytes((finished / "checkpoint.npz").read_bytes())
        before = snapshot(lenet)
        done = command("train", "--resume", lenet, "--epochs", 5)
        assert done.returncode == 1
        assert "'mlp'" in done.stderr
        assert "'lenet'" in done.stderr
        assert done.stderr.count("\n") == 1
        assert snapshot(lenet) == before

    def test_other_data_are_refused(self, data, tmp_path):
        out, copy = tmp_path / "out", tmp_path / "copy"
        write_idx_folder(copy)
        assert main(flags(copy, "--epochs", "1", "--quiet", "--out", out)) == 0
        write_idx_folder(copy, train=480)
        done = command("train", "--resume", out, "--epochs", 2)
        assert done.returncode == 1
        assert "other data" in done.stderr

    def test_from_another_folder(self, data, tmp_path, monkeypatch):
        """--data-dir may be relative when the run starts."""
        monkeypatch.chdir(data.parent)
        out = tmp_path / "out"
        assert main(flags(Path(data.name), "--epochs", "1", "--quiet", "--out", out)) == 0
        monkeypatch.chdir(tmp_path)
        assert main(["--resume", str(out), "--epochs", "2", "--quiet"]) == 0

    def test_an_extended_run_is_not_finished_until_it_is(self, data, tmp_path, monkeypatch):
        out = tmp_path / "out"
        assert main(flags(data, "--epochs", "1", "--quiet", "--out", out)) == 0
        monkeypatch.setattr(
            "minifbi.training.trainer.Trainer.run_epoch",
            lambda *_: (_ for _ in ()).throw(KeyboardInterrupt),
        )
        assert main(["--resume", str(out), "--epochs", "2", "--quiet"]) == 130
        assert not (out / "result.json").exists()
        assert json.loads((out / "config.json").read_text())["epochs"] == 2

    def test_a_log_that_a_kill_left_behind_is_completed(self, data, tmp_path):
        out = tmp_path / "out"
        assert main(flags(data, "--epochs", "2", "--quiet", "--out", out)) == 0
        whole = (out / "metrics.jsonl").read_text()
        (out / "metrics.jsonl").write_text(whole.splitlines(keepends=True)[0])
        (out / "result.json").unlink()
        (out / ".curves.png.abc.tmp").write_text("half a picture")
        assert main(["--resume", str(out), "--quiet"]) == 0
        assert (out / "metrics.jsonl").read_text() == whole
        assert not list(out.glob(".*.tmp"))


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "word"),
        [
            (["--fbi-weight", "2"], 2, "fbi_weight=2.0"),
            (["--fbi-weight", "nan"], 2, "fbi_weight"),
            (["--backend", "tpu"], 2, "tpu"),
            (["--backend", "cupy"], 1, "cupy"),
            (["--model", "densenet"], 2, "densenet"),
            (["--epochs", "0"], 2, "epochs"),
            (["--epochs", "many"], 2, "many"),
            (["--frobnicate"], 2, "--frobnicate"),
            (["--data-dir", "/no/such/folder"], 1, "/no/such/folder"),
            (["--dtype", "float16"], 2, "float16"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_one_line_and_an_exit_code(self, tmp_path, arguments, code, word):
        done = command("train", *arguments, "--out", tmp_path / "out")
        assert done.returncode == code
        assert word in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()

    def test_out_is_a_file(self, data, tmp_path):
        (tmp_path / "file").write_text("precious")
        done = command("train", *flags(data, "--out", tmp_path / "file"))
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert (tmp_path / "file").read_text() == "precious"

    def test_a_full_disk_keeps_the_last_good_checkpoint(self, data, finished, tmp_path):
        """A limit on file sizes fails the write in the middle, as a full disk does."""
        out = tmp_path / "full"
        assert main(flags(data, "--epochs", "1", "--quiet", "--out", out)) == 0
        (out / "result.json").unlink()
        good = (out / "checkpoint.npz").read_bytes()

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(good) // 2,) * 2)

        done = command("train", "--resume", out, "--epochs", 3, preexec_fn=limit)
        assert done.returncode == 1, done.stderr
        assert "File too large" in done.stderr
        assert "checkpoint.npz" in done.stderr or "best.npz" in done.stderr
        assert "Traceback" not in done.stderr
        assert (out / "checkpoint.npz").read_bytes() == good
        assert not [p for p in out.iterdir() if p.name.endswith(".tmp")]
        assert main(["--resume", str(out), "--epochs", "3", "--quiet"]) == 0
        assert len(read_log(out)) == 3

    def test_a_diverged_run_keeps_its_last_good_checkpoint(self, data, tmp_path):
        out = tmp_path / "diverged"
        assert main(flags(data, "--epochs", "1", "--quiet", "--out", out)) == 0
        good = (out / "checkpoint.npz").read_bytes()
        arrays, meta = load_checkpoint(out / "checkpoint.npz")
        meta["config"].update(lr=1e30, epochs=2)
        (out / "config.json").write_text(json.dumps(meta["config"]))
        from minifbi.training import save_checkpoint

        save_checkpoint(out / "checkpoint.npz", arrays, meta)
        bad = (out / "checkpoint.npz").read_bytes()
        done = command("train", "--resume", out)
        assert done.returncode == 1
        assert "learning rate" in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
        assert (out / "checkpoint.npz").read_bytes() == bad
        assert (out / "best.npz").exists()
        assert len(good) > 0

    def test_help_groups_flags_and_says_defaults(self):
        text = command("train", "--help", env={"COLUMNS": "100"}).stdout
        for word in ("network and data", "optimisation", "the FBI loss", "run folder", "0.001"):
            assert word in text
        assert "default: None" not in text
        assert "==SUPPRESS==" not in text
