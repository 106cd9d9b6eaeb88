"""What happens to a run when its folder, its disk or its checkpoint fails."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers import command, obey_permissions
from kill_moments import assert_same

from minifbi.files.lock import LOCK, FolderLock
from minifbi.training import RunFolderError, TrainConfig, load_checkpoint, resume, train
from minifbi.training.trainer import Trainer

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")


def after_epoch(epoch: int, do: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen between the end of an epoch and its checkpoint."""
    run_epoch = Trainer.run_epoch

    def disturbed(self, progress=None):
        record = run_epoch(self, progress)
        if self.epoch == epoch:
            do()
        return record

    monkeypatch.setattr(Trainer, "run_epoch", disturbed)


# ---- two runs and one folder ----------------------------------------------------------------
def holding(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock of a folder."""
    code = (
        "import sys, pathlib; from minifbi.files.lock import FolderLock\n"
        "with FolderLock(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_run_into_a_folder_is_refused(
    tiny_config: TrainConfig, tiny_run: Path, tiny_copy: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, go in (
        (tiny_copy, lambda: resume(tiny_copy, quiet=True, figures=False)),
        (empty, lambda: train(tiny_config, empty, quiet=True, figures=False)),
    ):
        other = holding(folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with pytest.raises(RunFolderError, match="another run is writing"):
            go()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        other.kill()  # it leaves its .lock behind, which keeps nobody out
        other.communicate()
        assert (folder / LOCK).exists()
        go()
        assert_same(tiny_run, folder)


def test_the_lock_is_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with FolderLock(tmp_path) as lock:
            assert lock.is_ours()
            with pytest.raises(RunFolderError, match="another run"), FolderLock(tmp_path):
                pass
    assert not list(tmp_path.iterdir())


def test_a_lock_that_was_deleted_or_taken_over(tmp_path: Path) -> None:
    with FolderLock(tmp_path) as lock:
        (tmp_path / LOCK).unlink()
        assert lock.is_ours()  # the folder still is the same, and nobody else is in it
        with FolderLock(tmp_path):
            assert not lock.is_ours()
    folder = tmp_path / "folder"
    folder.mkdir()
    with FolderLock(folder) as lock:
        shutil.rmtree(folder)
        assert not lock.is_ours()


def test_many_that_come_at_once(tmp_path: Path) -> None:
    """The lock is deleted, and taken anew, while others open it: never two inside."""
    code = (
        "import os, sys, time, pathlib\n"
        "from minifbi.files.lock import FolderLock, RunFolderError\n"
        "folder, end = pathlib.Path(sys.argv[1]), time.monotonic() + 0.7\n"
        "inside = 0\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with FolderLock(folder):\n"
        "            os.mkdir(folder / 'inside'); inside += 1; os.rmdir(folder / 'inside')\n"
        "    except RunFolderError:\n"
        "        pass\n"
        "print(inside)"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    counts = [int(process.communicate()[0]) for process in several]
    assert sum(counts) > 10
    assert [process.returncode for process in several] == [0, 0, 0]


@linux
def test_a_file_system_without_locks(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    import errno
    import fcntl

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    train(tiny_config, tmp_path / "out", figures=False)
    assert "has no locks" in capsys.readouterr().out


# ---- a folder that fails during the run -----------------------------------------------------
def refuge_in(message: str) -> Path:
    return Path(message.rpartition("--resume ")[2].strip())


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.mark.parametrize("how", ["vanishes", "is replaced"])
def test_a_folder_that_vanishes(
    tiny_config: TrainConfig,
    tiny_run: Path,
    tmp_path: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """What is in memory goes to another place, from where the run goes on to the same end."""
    out = tmp_path / "out"

    def disturb() -> None:
        out.rename(tmp_path / "elsewhere")
        if how == "is replaced":
            out.mkdir()
            (out / LOCK).write_bytes(b"")
            (out / "checkpoint.npz").write_bytes(b"of another run")

    with monkeypatch.context() as patch:
        after_epoch(2, disturb, patch)
        with pytest.raises(RunFolderError, match="gone or was replaced") as caught:
            train(tiny_config, out, quiet=True, figures=False)
    refuge = refuge_in(str(caught.value))
    assert refuge.parent == temporary
    assert load_checkpoint(refuge / "checkpoint.npz")[1]["epoch"] == 2
    if how == "is replaced":
        assert (out / "checkpoint.npz").read_bytes() == b"of another run"
    resume(refuge, quiet=True, figures=False)
    assert_same(tiny_run, refuge, but=())


def test_a_folder_that_vanishes_before_the_first_epoch(
    tiny_config: TrainConfig, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_epoch(1, lambda: shutil.rmtree(tmp_path / "out"), monkeypatch)
    with pytest.raises(RunFolderError, match="gone or was replaced"):
        train(tiny_config, tmp_path / "out", quiet=True, figures=False)


@linux
@pytest.mark.parametrize("task", ["new", "inside", "resume"])
def test_a_read_only_folder(
    tiny_config: TrainConfig, tiny_copy: Path, tmp_path: Path, task: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    place = {"new": closed / "out", "inside": closed, "resume": tiny_copy}[task]
    flags = f"--model mlp --backend numpy --data-dir {tiny_config.data_dir} --out {place}"
    folder = tiny_copy if task == "resume" else closed
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(0o500)
    try:
        arguments = ["--resume", str(tiny_copy)] if task == "resume" else flags.split()
        done = command("train", *arguments, preexec_fn=obey_permissions)
    finally:
        folder.chmod(0o700)
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert "Permission denied" in done.stderr
    assert str(place) in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def on_a_full_disk(limit: int) -> Callable[[], None]:
    """In a child: no file may grow over the limit, which fails as a full disk does."""

    def apply() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return apply


@pytest.mark.parametrize("limit", [0, 100, 5_000, 100_000])
def test_a_full_disk_from_the_start(
    tiny_config: TrainConfig, tiny_run: Path, tmp_path: Path, limit: int
) -> None:
    """Wherever the disk is full: one line, and the same command, or --resume, goes on."""
    out = tmp_path / "out"
    flags = [
        *(
            "--model",
            "mlp",
            "--backend",
            "numpy",
            "--data-dir",
            tiny_config.data_dir,
            "--epochs",
            "3",
        ),
        *("--batch-size", "32", "--gate-interval", "3", "--quiet", "--out", str(out)),
    ]
    done = command("train", *flags, preexec_fn=on_a_full_disk(limit))
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "File too large" in done.stderr
    assert not list(out.glob(".*"))
    if (out / "config.json").exists():
        resume(out, quiet=True, figures=False)
    else:
        train(tiny_config, out, quiet=True, figures=False)
    assert_same(tiny_run, out)


def mounted(place: Path, kib: int) -> bool:
    if os.geteuid() != 0 or not shutil.which("mount"):
        return False
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
    return subprocess.run(mount, capture_output=True).returncode == 0


@pytest.fixture
def full_disk(tmp_path: Path, tiny_run: Path) -> Iterator[Path]:
    """A disk with room for one checkpoint and a half."""
    place = tmp_path / "disk"
    size = (tiny_run / "checkpoint.npz").stat().st_size
    if not mounted(place, int(2.6 * size / 1024)):
        pytest.skip("may not mount a small disk here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@linux
def test_a_small_disk_that_runs_full(
    tiny_config: TrainConfig, tiny_run: Path, full_disk: Path, temporary: Path
) -> None:
    with pytest.raises(RunFolderError, match="No space left on device") as caught:
        train(tiny_config, full_disk / "out", quiet=True, figures=False)
    refuge = refuge_in(str(caught.value))
    resume(refuge, quiet=True, figures=False)
    assert_same(tiny_run, refuge)


# ---- a run that is to be longer --------------------------------------------------------------
def test_an_interrupted_extension_is_remembered(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            resume(tiny_copy, epochs=5, quiet=True, figures=False)
    assert not (tiny_copy / "result.json").exists()
    assert resume(tiny_copy, quiet=True, figures=False)["epochs"] == 5
