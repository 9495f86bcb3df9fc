"""Downloading from good and bad servers on the loopback device. No test connects to the internet."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
import idx_server
import pytest
from idx_files import REAL_FOLDER, as_nobody, folder_for_nobody, needs_mnist, publish, put, raw_folder, zipped
from idx_server import serving, unreachable

from actbench import datasets
from actbench.datasets import DATASETS, download, transfer
from actbench.errors import DataError

HERE = Path(__file__).parent
FETCH_ONCE = """
import sys
from pathlib import Path
import pytest
from idx_files import publish
from actbench import datasets
from actbench.datasets import download
publish(pytest.MonkeyPatch())
download.known_mirrors = lambda _: []
raw = datasets.fetch("mnist", Path(sys.argv[1]), mirror=sys.argv[2])
assert all(check.ok for check in datasets.verify("mnist", Path(sys.argv[1])))
assert not {"torch", "torchvision"} & set(sys.modules)
"""


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the default mirrors, proxies and every other address out of the tests."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> None:
        assert address[0] == "127.0.0.1", f"a test tried to reach {address}"
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)
    monkeypatch.setenv("no_proxy", "*")
    for name in ("ACTBENCH_MIRROR", "ACTBENCH_TIMEOUT", "ACTBENCH_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    default_mirrors(monkeypatch, unreachable())


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The compressed files of a miniature MNIST, by the names they are served under."""
    return {f"{name}.gz": zipped(content) for name, content in publish(monkeypatch).items()}


def default_mirrors(monkeypatch: pytest.MonkeyPatch, *mirrors: str) -> None:
    monkeypatch.setattr(download, "known_mirrors", lambda _: list(mirrors))


def no_trace_in(folder: Path) -> bool:
    """Whether nothing but the lock is left of a download that did not succeed."""
    return [path.name for path in folder.rglob("*") if not path.name.endswith(".lock")] == []


def start(folder: Path, mirror: str) -> subprocess.Popen[str]:
    """Start a process that fetches the miniature and verifies it."""
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    return subprocess.Popen(
        [sys.executable, "-c", FETCH_ONCE, str(folder), mirror],
        env={**os.environ, "PYTHONPATH": paths},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_download_ends_with_the_files_under_their_names_and_nothing_else(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    with serving(files) as server:
        raw = datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert raw == tmp_path / "MNIST" / "raw"
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == files
    assert not list(tmp_path.glob(".download-*"))
    assert all(check.ok for check in datasets.verify("mnist", tmp_path))


def test_existing_files_are_not_downloaded_again(tmp_path: Path, files: dict[str, bytes]) -> None:
    with serving(files) as server:
        raw = datasets.fetch("mnist", tmp_path, mirror=server.url)
        (raw / "t10k-labels-idx1-ubyte.gz").unlink()
        server.asked.clear()
        datasets.fetch("mnist", tmp_path, mirror=server.url)
        assert server.asked == ["t10k-labels-idx1-ubyte.gz"]


def test_progress_counts_up_to_the_size_of_each_file(tmp_path: Path, files: dict[str, bytes]) -> None:
    seen: dict[str, list[tuple[int, int | None]]] = {}

    def progress(file: str, done: int, total: int | None) -> None:
        seen.setdefault(file, []).append((done, total))

    with serving(files) as server:
        datasets.fetch("mnist", tmp_path, mirror=server.url, progress=progress)
    assert {file: calls[-1] for file, calls in seen.items()} == {
        file: (len(content), len(content)) for file, content in files.items()
    }
    assert all(calls == sorted(calls) for calls in seen.values())


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (idx_server.other_content, "sent the wrong file (MD5 "),
        (idx_server.half, "broke off after "),
        (idx_server.web_page, "sent a web page instead of the file"),
        (idx_server.forbidden, "HTTP 403 Forbidden"),
        (idx_server.moved_in_circles, "HTTP 302 Found"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_mirror_is_reported_with_the_reason_and_the_next_one_is_tried(
    tmp_path: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    answer: idx_server.Answer,
    reason: str,
) -> None:
    with serving(files, answer) as bad, serving(files) as good:
        with pytest.raises(DataError) as failed:
            datasets.fetch("mnist", tmp_path / "one", mirror=bad.url)
        assert f"{bad.url}: {reason}" in str(failed.value)
        assert no_trace_in(tmp_path / "one")

        default_mirrors(monkeypatch, bad.url, good.url)
        notes: list[str] = []
        datasets.fetch("mnist", tmp_path / "two", note=notes.append)
        assert all(check.ok for check in datasets.verify("mnist", tmp_path / "two"))
        assert any(reason in note for note in notes)


@pytest.mark.parametrize("answer", [idx_server.silent, idx_server.stalled], ids=lambda value: value.__name__)
def test_a_server_that_hangs_is_abandoned_after_the_time_out_for_all_files(
    tmp_path: Path,
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    answer: idx_server.Answer,
) -> None:
    monkeypatch.setenv("ACTBENCH_TIMEOUT", "1")
    notes: list[str] = []
    with serving(files, answer) as hanging, serving(files) as good:
        default_mirrors(monkeypatch, hanging.url, good.url)
        datasets.fetch("mnist", tmp_path, note=notes.append)
        assert len(hanging.asked) == 1
    assert any(note.endswith("no answer for 1 s") for note in notes)
    assert all(check.ok for check in datasets.verify("mnist", tmp_path))


def test_a_server_that_sends_single_bytes_is_abandoned_too(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "GRACE", 0.02)
    with (
        serving(files, idx_server.trickling) as server,
        pytest.raises(DataError, match=r"sent only \d+ bytes in"),
    ):
        datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert no_trace_in(tmp_path)


def test_a_server_that_never_stops_sending_is_cut_off_at_the_size_limit(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", 300_000)
    with (
        serving(files, idx_server.endless) as server,
        pytest.raises(DataError, match="sent more than 300000 bytes"),
    ):
        datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert no_trace_in(tmp_path)


@pytest.mark.parametrize("location", ["http://[::bad", "ftp://127.0.0.1/", "file:///etc/passwd", "\x1b[31m//["])
def test_after_a_redirect_that_cannot_be_followed_the_next_mirror_is_tried(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    notes: list[str] = []
    with serving(files, idx_server.moved_to(*[location] * 20)) as bad, serving(files) as good:
        default_mirrors(monkeypatch, bad.url, good.url)
        datasets.fetch("mnist", tmp_path, note=notes.append)
        assert len(good.asked) == 4
    assert any(note.startswith(f"{bad.url}train-images-idx3-ubyte.gz: ") for note in notes)
    assert all(note.isprintable() for note in notes)


def test_a_download_that_takes_too_long_ends_and_frees_its_lock(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "LIMIT_S", 0.5)
    with serving(files, idx_server.DRIPS["header"]) as dripping, serving(files) as good:
        default_mirrors(monkeypatch, dripping.url, good.url)
        with pytest.raises(DataError, match="was not done within the 1 s that a download may take"):
            datasets.fetch("mnist", tmp_path)
        assert good.asked == []  # there was no time left for it
    assert no_trace_in(tmp_path)
    with filelock.FileLock(tmp_path / ".mnist.lock").acquire(timeout=0):
        pass


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("begun", [False, True])
def test_waiting_for_another_download_ends_with_what_that_one_has_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    monkeypatch.setattr(download, "LIMIT_S", 0.3)
    notes: list[str] = []
    if begun:
        (tmp_path / ".download-1234-abc").mkdir()
        (tmp_path / ".download-1234-abc" / "train-images-idx3-ubyte.gz").write_bytes(b"12345")
    with filelock.FileLock(tmp_path / ".mnist.lock"), pytest.raises(DataError) as failed:
        datasets.fetch("mnist", tmp_path, note=notes.append)
    assert notes == ["another process is downloading mnist; waiting for it, at most 1 s"]
    state = "process 1234 has downloaded 5 bytes in 1 file" if begun else "it has not downloaded anything yet"
    assert str(failed.value).startswith(
        f"waited 1 s for another process that holds {tmp_path / '.mnist.lock'}: {state}"
    )


def test_the_given_mirror_is_tried_first_and_the_known_ones_next(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving({}) as empty, serving(files) as known:
        default_mirrors(monkeypatch, known.url)
        monkeypatch.setenv("ACTBENCH_MIRROR", unreachable())
        datasets.fetch("mnist", tmp_path, mirror=empty.url)  # the argument goes before the variable
        assert empty.asked[0] == known.asked[0] == "train-images-idx3-ubyte.gz"
        assert sorted(known.asked) == sorted(files)


def test_torchvision_is_not_imported_while_the_given_mirror_works(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> list[str]:
        raise AssertionError("torchvision would have been imported")

    monkeypatch.setattr(download, "known_mirrors", refuse)
    with serving(files) as server:
        monkeypatch.setenv("ACTBENCH_MIRROR", server.url.rstrip("/"))  # with or without a slash at the end
        datasets.fetch("mnist", tmp_path)
        assert sorted(server.asked) == sorted(files)


def test_without_a_network_the_error_lists_what_was_tried_and_the_three_ways_out(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = unreachable(), unreachable()
    default_mirrors(monkeypatch, one, other)
    with pytest.raises(DataError) as failed:
        datasets.load("mnist", tmp_path)
    text = str(failed.value)
    assert f"{one}: Connection refused" in text
    assert f"{other}: Connection refused" in text
    assert "--mirror URL or ACTBENCH_MIRROR=URL" in text
    assert f"into {tmp_path / 'MNIST' / 'raw'}" in text
    assert all(name in text for name in files)
    assert "dataset: digits" in text
    assert failed.value.exit_code == 2
    assert no_trace_in(tmp_path)


@pytest.mark.usefixtures("files")
def test_offline_opens_no_connection_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError, match="offline") as failed:
        datasets.load("mnist", tmp_path / "none", offline=True, mirror="http://127.0.0.1:1/")
    assert "dataset: digits" in str(failed.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "mirror",
    [
        "",
        "mirror.example",
        "ftp://host/",
        "file:///data",
        "http://",
        "http://[x/",
        "http://host:99999/",
        "http://host:x/",
    ],
)
def test_a_mirror_must_be_a_web_address(monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setenv("ACTBENCH_MIRROR", mirror)
    if mirror:
        with pytest.raises(DataError, match="a mirror must be an address"):
            download.own_mirrors(None)
    else:
        assert download.own_mirrors(None) == []


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "soon"])
def test_the_time_out_must_be_a_positive_number(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    assert download.time_out() == 20
    monkeypatch.setenv("ACTBENCH_TIMEOUT", given)
    with pytest.raises(DataError, match="ACTBENCH_TIMEOUT must be a number of seconds > 0"):
        download.time_out()


def test_sixteen_processes_at_once_all_get_verified_data_and_one_downloads(
    tmp_path: Path, files: dict[str, bytes]
) -> None:
    with serving(files, idx_server.slowly) as server:
        started = [start(tmp_path / "new", server.url) for _ in range(16)]
        ended = [(process.communicate()[1], process.returncode) for process in started]
        assert ended == [("", 0)] * 16
        assert sorted(server.asked) == sorted(files)
    assert not list((tmp_path / "new").glob(".download-*"))


def test_a_folder_without_locks_is_used_without_one(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_lock)
    with serving(files) as server:
        datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert all(check.ok for check in datasets.verify("mnist", tmp_path))


def test_a_process_that_is_killed_leaves_no_file_and_no_lock_behind(tmp_path: Path, files: dict[str, bytes]) -> None:
    with serving(files, idx_server.stalled) as server:
        process = start(tmp_path, server.url)
        while not server.asked or not list(tmp_path.glob(".download-*/*")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not raw_folder(tmp_path).exists()

    [leftover] = tmp_path.glob(".download-*")
    with serving(files) as server:
        datasets.fetch("mnist", tmp_path, mirror=server.url)
        assert leftover.exists()  # it could belong to a process on another machine
        os.utime(leftover, (0, 0))
        (raw_folder(tmp_path) / "t10k-labels-idx1-ubyte.gz").unlink()
        datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert not leftover.exists()


def test_an_unwritable_folder_is_an_error_before_any_download(
    files: dict[str, bytes],
) -> None:
    with serving(files) as server, folder_for_nobody() as folder:
        folder.chmod(0o555)
        with (
            as_nobody(),
            pytest.raises(DataError, match=r"cannot be written \(Permission denied") as failed,
        ):
            datasets.fetch("mnist", folder, mirror=server.url)
        assert "ACTBENCH_DATA_DIR" in str(failed.value)
        assert server.asked == []


def test_a_full_disk_is_not_blamed_on_the_mirror(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def __enter__(self) -> FullDisk:
            return self

        def __exit__(self, *_: Any) -> None: ...

        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r", **k: FullDisk() if mode == "wb" else opened(self, mode, **k)
    )
    with serving(files) as server, pytest.raises(DataError, match="No space left on device") as failed:
        datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert "Tried" not in str(failed.value)


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "data").write_text("not a folder")
    with serving(files) as server, pytest.raises(DataError, match="cannot be written"):
        datasets.fetch("mnist", tmp_path / "data", mirror=server.url)


# torchvision


def test_the_registry_names_the_files_and_hashes_that_torchvision_knows() -> None:
    known = download.torchvision_datasets()
    for entry in DATASETS.values():
        if entry.files:
            resources = getattr(known, entry.torchvision_class).resources
            if isinstance(resources, dict):
                resources = [*resources["train"], *resources["test"]]
            published = [(address.rpartition("/")[2], md5) for address, md5 in resources]
            assert published == [(file.archive, file.md5) for file in entry.files]


def test_every_mirror_that_torchvision_knows_is_a_folder_on_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for entry in DATASETS.values():
        if entry.files:
            mirrors = download.known_mirrors(entry.torchvision_class)
            assert mirrors
            assert all(mirror.startswith("http") and mirror.endswith("/") for mirror in mirrors)


@pytest.fixture
def torchvision_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], None]]:
    """Put a package of that name before the real one, made of the given modules."""
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "torchvision"}

    def make(modules: dict[str, str]) -> None:
        folder = tmp_path / "packages" / "torchvision"
        folder.mkdir(parents=True)
        for name, source in modules.items():
            (folder / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(folder.parent)

    yield make
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    sys.modules.update(kept)


def torchvision_modules() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "torchvision"]


def test_a_torchvision_whose_operators_do_not_load_still_gives_its_datasets(
    torchvision_made_of: Callable[[dict[str, str]], None],
) -> None:
    torchvision_made_of(
        {
            "__init__": "from . import extension\nfrom . import _meta_registrations, datasets",
            "extension": "",
            "_meta_registrations": "raise RuntimeError('operator torchvision::nms does not exist')",
            "datasets": "class MNIST:\n    mirrors = ['http://here/']\n    resources = [('a.gz', 'md5')]",
        }
    )
    assert download.torchvision_datasets().MNIST.mirrors == ["http://here/"]


@pytest.mark.parametrize(
    "cause",
    ["RuntimeError('operator torchvision::nms')", "ImportError('no module')", "OSError('no library')"],
)
def test_a_torchvision_that_does_not_load_at_all_is_an_error_with_the_remedy(
    torchvision_made_of: Callable[[dict[str, str]], None], cause: str
) -> None:
    torchvision_made_of(
        {"__init__": "from . import extension, datasets", "extension": "", "datasets": f"raise {cause}"}
    )
    with pytest.raises(DataError, match="pip install --force-reinstall torch torchvision"):
        download.torchvision_datasets()
    assert torchvision_modules() == []


def test_existing_data_loads_even_if_torchvision_does_not(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    torchvision_made_of: Callable[[dict[str, str]], None],
) -> None:
    torchvision_made_of({"__init__": "raise RuntimeError('operator torchvision::nms does not exist')"})
    put(tmp_path, publish(monkeypatch))
    assert len(datasets.load("mnist", tmp_path).train.labels) == 20
    assert torchvision_modules() == []


class TestRealMnist:
    pytestmark = needs_mnist

    def test_the_real_files_are_fetched_verified_and_loaded(self, tmp_path: Path) -> None:
        real = REAL_FOLDER / "MNIST" / "raw"
        served = {file.archive: (real / file.archive).read_bytes() for file in DATASETS["mnist"].files}
        with serving(served) as server:
            loaded = datasets.load("mnist", tmp_path, mirror=server.url)
        assert loaded.fingerprint == datasets.load("mnist", REAL_FOLDER).fingerprint
        assert all(check.ok for check in datasets.verify("mnist", tmp_path))

    def test_mnist_served_as_kmnist_is_a_wrong_file(self, tmp_path: Path) -> None:
        real = REAL_FOLDER / "MNIST" / "raw"
        served = {file.archive: (real / file.archive).read_bytes() for file in DATASETS["mnist"].files}
        with serving(served) as server, pytest.raises(DataError, match="sent the wrong file"):
            datasets.fetch("kmnist", tmp_path, mirror=server.url)
