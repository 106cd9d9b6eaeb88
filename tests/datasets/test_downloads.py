"""Downloads: from a server that works, and from servers that do not."""

import contextlib
import functools
import gc
import gzip
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers import command, write_idx_folder
from idx_folders import PIXELS, STEMS, fill

import minifbi.datasets.loaders as loaders
from minifbi.datasets import (
    _download,
    load_dataset,
    load_fashion_mnist,
)
from minifbi.errors import DataError
from minifbi.reproduce.data import Data
from minifbi.reproduce.settings import Settings

INFLATES = gzip.compress(bytes(40 * 2**20), 1)  # 180 kB that become 40 MiB


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, remembers what was asked for, and fails in the way that is asked for."""

    requested: ClassVar[list[str]] = []
    way: ClassVar[str] = ""
    released: ClassVar[threading.Event] = threading.Event()

    def log_message(self, format: str, *arguments: object) -> None:
        self.requested.append(self.path)

    def do_GET(self) -> None:
        if not self.way or self.path.startswith("/moved"):
            self.path = self.path.removeprefix("/moved")
            super().do_GET()
        else:
            with contextlib.suppress(OSError):  # the other side may have gone
                getattr(self, f"answer_{self.way}")()
            self.close_connection = True

    def start(self, code: int = 200, **headers: object) -> bytes:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        path = Path(self.directory + self.path)
        return path.read_bytes() if path.is_file() else b""

    def answer_stalls(self) -> None:
        content = self.start(Content_Length=10_000)
        self.wfile.write(content + bytes(5_000))
        self.wfile.flush()
        self.released.wait(20)

    def answer_is_silent(self) -> None:
        self.released.wait(20)

    def answer_truncates(self) -> None:
        content = self.start(Content_Length=10_000)
        self.wfile.write(content[:100])

    def answer_truncates_unnoticed(self) -> None:
        content = self.start()  # HTTP/1.0: the end of the connection is the end of the file
        self.wfile.write(content[:-1])

    def answer_corrupts(self) -> None:
        content = self.start()
        self.wfile.write(content[:-5] + b"xxxxx")

    def answer_is_another_file(self) -> None:
        self.start()
        self.wfile.write(b"<html>Please log in to the network of this hotel</html>")

    def answer_redirects_forever(self) -> None:
        self.start(302, Location=self.path)

    def answer_redirects_elsewhere(self) -> None:
        self.start(302, Location="http://example.invalid" + self.path)

    def answer_redirects_to_a_file(self) -> None:
        self.start(302, Location="file:///etc/passwd")

    def answer_redirects(self) -> None:
        self.start(302, Location="/moved" + self.path)

    def answer_not_found(self) -> None:
        self.send_error(404)

    def answer_fails(self) -> None:
        self.send_error(500)

    def answer_hangs_up(self) -> None:
        self.connection.close()

    def answer_says_nonsense(self) -> None:
        self.wfile.write(b"\0\xff nonsense\r\n\r\n")

    def answer_never_ends(self) -> None:
        self.start()
        while True:
            self.wfile.write(bytes(2**16))

    def answer_inflates(self) -> None:
        self.start(Content_Encoding="gzip")
        self.wfile.write(INFLATES)


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
    monkeypatch.setattr(Handler, "requested", [])
    monkeypatch.setattr(Handler, "way", "")
    monkeypatch.setattr(Handler, "released", threading.Event())
    monkeypatch.setattr(_download, "TIMEOUT", 0.3)
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}/"
        Handler.released.set()
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
    assert len(Handler.requested) == 4
    load_fashion_mnist(cache, base_url=url)
    assert len(Handler.requested) == 4
    assert capfd.readouterr().err == ""

    # a damaged file in the cache is replaced
    (cache / "fashion-mnist" / f"{STEMS[3]}.gz").write_bytes(b"rubbish")
    load_fashion_mnist(cache, base_url=url)
    assert len(Handler.requested) == 5


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
    # and a reproduction
    found, why = Data(Settings()).fashion()
    assert found is not None
    assert (found.name, why) == ("fashion-mnist", "")
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


# what each way to fail must be called in the message
BAD = {
    "stalls": "timed out",
    "is_silent": "timed out",
    "truncates": "",  # worded by the client library, and by its version
    "truncates_unnoticed": "hash",
    "corrupts": "hash",
    "is_another_file": "hash",
    "redirects_forever": "redirects",
    "redirects_elsewhere": "",
    "redirects_to_a_file": "",
    "not_found": "404",
    "fails": "500",
    "hangs_up": "",
    "says_nonsense": "",
    "never_ends": "more bytes than the whole data set",
    "inflates": "more bytes than the whole data set",
}


@uses_server
@pytest.mark.parametrize(("way", "word"), BAD.items())
def test_a_bad_server(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, word: str
) -> None:
    _, url = server
    cache = tmp_path / "cache"
    load_fashion_mnist(cache, progress=False, base_url=url)
    (cache / "fashion-mnist" / f"{STEMS[2]}.gz").unlink()
    before = {path.name: path.read_bytes() for path in (cache / "fashion-mnist").iterdir()}
    monkeypatch.setattr(Handler, "way", way)
    begin = time.monotonic()
    message = failed_download(cache, url)
    assert time.monotonic() - begin < 5
    assert word in message
    assert "\n" not in message
    # what was there before is kept, nothing else is
    assert {p.name: p.read_bytes() for p in (cache / "fashion-mnist").iterdir()} == before
    # and once the server works, it is only asked for what is missing
    monkeypatch.setattr(Handler, "way", "")
    Handler.requested.clear()
    load_fashion_mnist(cache, progress=False, base_url=url)
    assert Handler.requested == [f"/{STEMS[2]}.gz"]


@uses_server
def test_a_redirection_is_followed(
    server: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "way", "redirects")
    dataset = load_fashion_mnist(tmp_path, progress=False, base_url=server[1])
    np.testing.assert_array_equal(dataset.test.images[:, 0], PIXELS[24:])


def test_only_https() -> None:
    assert loaders.FASHION_MNIST_URL.startswith("https://")
    _download.check_url("https://example.org/x")
    _download.check_url("http://127.0.0.1:8000/x")
    for wrong in ("http://example.org/", "ftp://example.org/", "file:///etc/", "x/", ""):
        with pytest.raises(DataError, match="no https address"):
            _download.check_url(wrong)
    with pytest.raises(DataError, match=r"no https address.*--data-dir"):
        load_fashion_mnist("/nowhere", progress=False, base_url="http://example.org/")


@uses_server
def test_what_a_killed_download_left_is_removed(server: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    for name, age in (("tmpold", 2 * _download.ABANDONED), ("tmpnew", 0.0)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    load_fashion_mnist(tmp_path, progress=False, base_url=server[1])
    assert {path.name for path in folder.iterdir()} == {"tmpnew", *(f"{s}.gz" for s in STEMS)}


@uses_server
def test_a_killed_download_starts_again(server: tuple[Path, str], tmp_path: Path) -> None:
    """Killed while a file comes in: it is not there under its name, and the next try has it."""
    _, url = server
    Handler.way = "stalls"
    code = (
        "import sys; from minifbi.datasets import load_fashion_mnist\n"
        "load_fashion_mnist(sys.argv[1], base_url=sys.argv[2])"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), url], stderr=subprocess.PIPE
    )
    folder = tmp_path / "fashion-mnist"
    while process.poll() is None and not any(
        path.stat().st_size for path in folder.glob("tmp*") if folder.exists()
    ):
        time.sleep(0.01)
    assert process.poll() is None
    process.kill()
    process.communicate()
    assert not list(folder.glob("*.gz"))
    Handler.way = ""
    load_fashion_mnist(tmp_path, progress=False, base_url=url)


def test_the_command_says_how_to_do_without_a_network(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1"  # a proxy that is not there
    environment = {"MINIFBI_CACHE_DIR": str(tmp_path), "HTTPS_PROXY": nowhere, "NO_PROXY": ""}
    done = command(
        "train", "--dataset", "fashion-mnist", "--out", tmp_path / "out", env=environment
    )
    assert done.returncode == 1
    announcement, error = done.stderr.splitlines()
    assert announcement.startswith("Downloading fashion-mnist (31 MB)")
    assert "--data-dir" in error
    assert not (tmp_path / "out").exists()


def test_no_network_unless_asked(tmp_path: Path) -> None:
    """A whole command, and the doctor, in a process that would notice any look at a network."""
    data = write_idx_folder(tmp_path / "data", train=48, test=12)
    code = (
        "import sys\n"
        "def watch(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        "        raise SystemExit(f'network: {event} {arguments}')\n"
        "sys.addaudithook(watch)\n"
        "from minifbi import doctor, load_dataset, train\n"
        "load_dataset('mnist'); load_dataset('decoy-mnist'); doctor.main([])\n"
        "sys.exit(train.main(sys.argv[1:]))"
    )
    flags = f"--model mlp --backend numpy --epochs 1 --data-dir {data} --out {tmp_path / 'out'}"
    done = subprocess.run(
        [sys.executable, "-c", code, *flags.split()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "network" not in done.stderr
