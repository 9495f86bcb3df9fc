"""Verifying and repairing the files of a dataset, whatever has happened to them."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock
import idx_server
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idx_files import (
    REAL_FOLDER,
    TRAIN,
    as_nobody,
    entry_of,
    folder_for_nobody,
    idx_bytes,
    miniature,
    needs_mnist,
    publish,
    put,
    raw_folder,
    replace,
    zipped,
)
from idx_server import serving, unreachable

from actbench import cli, datasets
from actbench.datasets import DATASETS, download
from actbench.errors import DataError

IMAGES = "train-images-idx3-ubyte"
Damage = Callable[[Path, bytes], object]


def folder_instead(path: Path, content: bytes) -> None:
    path.mkdir()
    (path / "a file").write_bytes(content)


DAMAGES: dict[str, Damage] = {
    "truncated": lambda path, content: path.write_bytes(zipped(content)[:-100]),
    "empty": lambda path, _: path.write_bytes(b""),
    "a web page": lambda path, _: path.write_bytes(b"<html>log in</html>"),
    "other content": lambda path, content: path.write_bytes(zipped(content[:-1] + bytes([content[-1] ^ 1]))),
    "other counts": lambda path, _: path.write_bytes(zipped(idx_bytes(np.zeros((7, 28, 28), np.uint8)))),
    "a folder": folder_instead,
    "a link to nothing": lambda path, _: path.symlink_to("nowhere"),
    "a link to itself": lambda path, _: path.symlink_to(path.name),
    "a pipe": lambda path, _: os.mkfifo(path),
    "missing": lambda path, content: None,
}


@pytest.fixture(autouse=True)
def _no_other_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "known_mirrors", lambda _: [unreachable()])
    monkeypatch.setenv("no_proxy", "*")
    for name in ("ACTBENCH_MIRROR", "ACTBENCH_TIMEOUT", "ACTBENCH_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)


def served(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": zipped(content) for name, content in contents.items()}


def damage(path: Path, content: bytes, how: Damage) -> None:
    path.unlink()
    how(path, content)


def faults(name: str, folder: Path) -> dict[str, str]:
    return {check.file: check.detail for check in datasets.verify(name, folder) if not check.ok}


def listing(folder: Path) -> list[tuple[str, int, int]]:
    """The name, size and time of everything but folders and locks."""
    found = [path for path in folder.rglob("*") if path.suffix != ".lock" and (path.is_symlink() or not path.is_dir())]
    return sorted((str(path), path.lstat().st_size, path.lstat().st_mtime_ns) for path in found)


# Verifying


@pytest.mark.parametrize("gz", [True, False], ids=["gzipped", "uncompressed"])
@pytest.mark.parametrize("hashed", [True, False], ids=["with SHA-256", "without"])
@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_files_of_another_dataset_never_pass_in_whatever_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hashed: bool, gz: bool
) -> None:
    contents = publish(monkeypatch)
    own = {file: content[:-1] + bytes([content[-1] ^ 1]) for file, content in contents.items()}
    replace(monkeypatch, entry_of(own, name, hashed=hashed))
    put(tmp_path / "own", own, name, gz=gz)
    assert faults(name, tmp_path / "own") == {}

    raw = put(tmp_path / "other", contents, name, gz=gz)
    found = faults(name, tmp_path / "other")
    assert len(found) == 4
    assert all(detail.startswith("belongs to another dataset (mnist)") for detail in found.values())
    with pytest.raises(DataError, match=r"belongs to another dataset \(mnist\)"):
        datasets.load(name, tmp_path / "other", offline=True)

    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / DATASETS[name].torchvision_class).symlink_to(raw.parent)
    assert faults(name, tmp_path / "linked") == found
    put(tmp_path / "mnist", own, gz=gz)
    assert len(faults("mnist", tmp_path / "mnist")) == 4


def test_files_outside_the_folder_of_a_dataset_are_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = publish(monkeypatch)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in ("mnist", "fashion_mnist"):
        assert set(faults(name, tmp_path).values()) == {"is missing"}
    raw = put(tmp_path, contents)
    assert faults("mnist", raw) == {}
    assert set(faults("fashion_mnist", raw).values()) == {"is missing"}


def test_both_forms_of_a_file_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents)
    (raw / IMAGES).write_bytes(contents[IMAGES])
    assert len(datasets.verify("mnist", tmp_path)) == 5
    assert faults("mnist", tmp_path) == {}
    (raw / f"{IMAGES}.gz").write_bytes(b"")
    assert list(faults("mnist", tmp_path)) == [f"{IMAGES}.gz"]


class TestRealMnist:
    pytestmark = needs_mnist

    @pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
    def test_its_files_do_not_pass_for_another_dataset(self, tmp_path: Path, name: str) -> None:
        raw_folder(tmp_path, name).parent.mkdir(parents=True)
        raw_folder(tmp_path, name).symlink_to(raw_folder(REAL_FOLDER))
        assert len(faults(name, tmp_path)) == 4
        assert faults("mnist", REAL_FOLDER) == {}


# Repairing


@pytest.mark.parametrize("how", DAMAGES)
def test_fetch_replaces_what_is_wrong_keeps_it_under_another_name_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents)
    damage(raw / f"{IMAGES}.gz", contents[IMAGES], DAMAGES[how])
    bad = [line for line in listing(raw) if IMAGES in line[0]]
    [fault] = faults("mnist", tmp_path).values()
    notes: list[str] = []
    with serving(served(contents)) as server:
        datasets.fetch("mnist", tmp_path, mirror=server.url, note=notes.append)
        assert server.asked == [f"{IMAGES}.gz"]
        datasets.fetch("mnist", tmp_path, mirror=server.url)
        assert server.asked == [f"{IMAGES}.gz"]  # nothing was left to do
    assert faults("mnist", tmp_path) == {}
    assert len(datasets.load("mnist", tmp_path, offline=True).train.labels) == TRAIN
    if how != "missing":
        kept = f"{IMAGES}.gz.bad-1"
        assert f"{raw / IMAGES}.gz {fault}; it is now called {kept}" in notes
        assert [(path.replace(".bad-1", ""), *rest) for path, *rest in listing(raw) if ".bad-" in path] == bad


def test_a_second_repair_does_not_overwrite_what_the_first_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents)
    with serving(served(contents)) as server:
        for content in (b"one", b"two"):
            (raw / f"{IMAGES}.gz").write_bytes(content)
            datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert [(raw / f"{IMAGES}.gz.bad-{n}").read_bytes() for n in (1, 2)] == [b"one", b"two"]


def test_what_another_process_has_repaired_meanwhile_is_not_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    def other_process(_: str, done: int, total: int | None) -> None:
        if done == total and not (raw / f"{IMAGES}.gz.bad-1").exists():
            datasets.fetch("mnist", tmp_path, mirror=server.url)

    monkeypatch.setattr(filelock.FileLock, "acquire", no_lock)
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents)
    (raw / f"{IMAGES}.gz").write_bytes(b"bad")
    with serving(served(contents)) as server:
        datasets.fetch("mnist", tmp_path, mirror=server.url, progress=other_process)
        assert server.asked == [f"{IMAGES}.gz"] * 2
    assert faults("mnist", tmp_path) == {}
    assert [path.name for path in raw.glob("*.bad-*")] == [f"{IMAGES}.gz.bad-1"]


@pytest.mark.parametrize("bad_form", [IMAGES, f"{IMAGES}.gz"])
def test_a_good_form_beside_a_bad_one_needs_no_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_form: str
) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents)
    (raw / IMAGES).write_bytes(contents[IMAGES])
    (raw / bad_form).write_bytes(b"bad")
    datasets.fetch("mnist", tmp_path, offline=True)
    assert faults("mnist", tmp_path) == {}
    assert (raw / f"{bad_form}.bad-1").read_bytes() == b"bad"


def test_an_uncompressed_file_without_a_known_hash_does_not_replace_a_bad_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch, "kmnist", hashed=False)
    raw = put(tmp_path, contents, "kmnist")
    (raw / IMAGES).write_bytes(contents[IMAGES])
    (raw / f"{IMAGES}.gz").write_bytes(b"bad")
    with serving(served(contents)) as server:
        datasets.fetch("kmnist", tmp_path, mirror=server.url)
        assert server.asked == [f"{IMAGES}.gz"]
    assert faults("kmnist", tmp_path) == {}


def test_a_damaged_uncompressed_file_is_replaced_by_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents, gz=False)
    (raw / IMAGES).write_bytes(contents[IMAGES][:-1])
    with serving(served(contents)) as server:
        datasets.fetch("mnist", tmp_path, mirror=server.url)
    assert faults("mnist", tmp_path) == {}
    assert len(datasets.load("mnist", tmp_path, offline=True).train.labels) == TRAIN


@pytest.fixture(scope="module")
def mirror() -> Iterator[idx_server.Server]:
    with serving(served(miniature())) as server:
        yield server


@given(damages=st.dictionaries(st.sampled_from(list(miniature())), st.sampled_from(list(DAMAGES))), gz=st.booleans())
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_after_fetch_every_dataset_is_right_and_only_what_was_wrong_was_downloaded(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    mirror: idx_server.Server,
    damages: dict[str, str],
    gz: bool,
) -> None:
    contents = publish(monkeypatch)
    folder = tmp_path_factory.mktemp("data")
    raw = put(folder, contents, gz=gz)
    for name, how in damages.items():
        damage(raw / (name + ".gz" * gz), contents[name], DAMAGES[how])
    mirror.asked.clear()
    datasets.fetch("mnist", folder, mirror=mirror.url)
    assert faults("mnist", folder) == {}
    assert set(mirror.asked) == {f"{name}.gz" for name in damages}
    assert datasets.load("mnist", folder, offline=True).fingerprint


def test_a_repair_without_a_working_mirror_changes_nothing_and_says_what_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = publish(monkeypatch)
    raw = put(tmp_path, contents)
    (raw / f"{IMAGES}.gz").write_bytes(b"bad")
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    before = listing(tmp_path)
    for offline in (True, False):
        with pytest.raises(DataError) as failed:
            datasets.fetch("mnist", tmp_path, offline=offline)
        told = str(failed.value)
        assert told.startswith(f"mnist in {raw} is damaged or incomplete:\n  - {IMAGES}.gz is a damaged gzip file")
        assert "\n  - t10k-labels-idx1-ubyte.gz is missing\n" in told
        both = f"{IMAGES}.gz, t10k-labels-idx1-ubyte.gz"
        assert f"  - move {IMAGES}.gz away, then copy {both} into {raw}" in told.splitlines()
        assert "dataset: digits" in told
        assert ("--offline" in told) == offline
        assert listing(tmp_path) == before


@pytest.mark.parametrize("target", ["unmounted", "MNIST"])
def test_what_stands_where_a_folder_should_be_is_named_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    publish(monkeypatch)
    (tmp_path / "MNIST").symlink_to(target)
    with pytest.raises(DataError, match=f"{tmp_path / 'MNIST'} is not a folder"):
        datasets.fetch("mnist", tmp_path)
    assert (tmp_path / "MNIST").is_symlink()


@pytest.mark.parametrize("link", ["FashionMNIST", "FashionMNIST/raw"])
@pytest.mark.parametrize("missing", [False, True])
def test_the_files_of_a_dataset_are_safe_from_another_one_that_links_to_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, missing: bool
) -> None:
    raw = put(tmp_path, publish(monkeypatch))
    if missing:
        (raw / f"{IMAGES}.gz").unlink()
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(raw if link.endswith("raw") else raw.parent)
    before = listing(tmp_path)
    for use in (datasets.fetch, datasets.load) if missing else (datasets.fetch,):
        with pytest.raises(DataError, match=r"is a link to the folder of mnist .*; remove the link"):
            use("fashion_mnist", tmp_path)
    assert listing(tmp_path) == before


def test_a_link_to_another_file_system_can_hold_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    contents = publish(monkeypatch)
    (tmp_path / "elsewhere" / "raw").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MNIST").symlink_to(tmp_path / "elsewhere")
    renamed: list[tuple[Path, Path]] = []
    rename = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (renamed.append((self, to)), rename(self, to))[1])
    with serving(served(contents)) as server:
        datasets.fetch("mnist", tmp_path / "data", mirror=server.url)
    assert len(renamed) == 4
    assert all(path.parent.parent.resolve() == to.parent.resolve() for path, to in renamed)  # no rename across systems


@pytest.mark.parametrize("read_only", ["", "MNIST/raw"])
def test_a_damaged_dataset_in_a_read_only_folder_is_an_error_with_another_way(
    monkeypatch: pytest.MonkeyPatch, read_only: str
) -> None:
    contents = publish(monkeypatch)
    with serving(served(contents)) as server, folder_for_nobody() as folder:
        raw = put(folder, contents)
        (raw / f"{IMAGES}.gz").write_bytes(b"bad")
        for path in (folder, raw.parent, raw) if not read_only else (raw,):
            path.chmod(0o555)
        if read_only:
            folder.chmod(0o777)
        with as_nobody():
            with pytest.raises(DataError, match=r"cannot be written \(Permission denied\)") as failed:
                datasets.fetch("mnist", folder, mirror=server.url)
            assert "is a damaged gzip file" in str(failed.value)
            assert server.asked == []
            with pytest.raises(DataError, match="cannot be written, so fix this in another folder") as failed:
                datasets.load("mnist", folder)
            assert "actbench data fetch mnist --data-dir FOLDER" in str(failed.value)


def test_an_unreadable_file_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = publish(monkeypatch)
    with serving(served(contents)) as server, folder_for_nobody() as folder:
        raw = put(folder, contents)
        for path in (folder, raw.parent, raw):
            path.chmod(0o777)
        (raw / f"{IMAGES}.gz").chmod(0)
        with as_nobody():
            datasets.fetch("mnist", folder, mirror=server.url)
            assert faults("mnist", folder) == {}


def test_doctor_reports_a_folder_that_it_cannot_read_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch)
    with folder_for_nobody() as folder:
        raw_folder(folder).mkdir(parents=True)
        raw_folder(folder).chmod(0)
        with as_nobody():
            assert cli.run(["doctor", "--data-dir", str(folder), "--results", str(folder / "results")]) == 0
        told = capsys.readouterr()
        assert f"{raw_folder(folder)}: cannot be read: Permission denied" in told.err
        assert f"{folder} (digits)" in told.out


@pytest.mark.parametrize("command", ["train", "verify", "info", "doctor"])
def test_the_command_that_an_error_names_repairs_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    contents = publish(monkeypatch)
    folder = tmp_path / "my data; touch x"
    raw = put(folder, contents)
    (raw / f"{IMAGES}.gz").write_bytes(b"bad")
    (tmp_path / "relu.yaml").write_text("{name: relu, epochs: 1, batch_size: 10, hidden: [4], seeds: 1}")
    train = [
        "train",
        "-c",
        str(tmp_path / "relu.yaml"),
        "--results",
        str(tmp_path / "results"),
        "--data-dir",
        str(folder),
    ]
    arguments = {"train": train, "doctor": ["doctor", "--data-dir", str(folder)]}.get(
        command, ["data", command, "mnist", "--data-dir", str(folder)]
    )
    assert cli.run(arguments) == (0 if command == "doctor" else 2)
    told = capsys.readouterr()
    assert ("is damaged" if command == "doctor" else "is a damaged gzip file") in told.out + told.err
    [line] = [line for line in told.err.splitlines() if "To fix this: " in line]
    program, *advised = shlex.split(line.partition("To fix this: ")[2])
    assert program == "actbench"
    with serving(served(contents)) as server:
        monkeypatch.setenv("ACTBENCH_MIRROR", server.url)
        assert cli.run(advised) == 0
    assert f"{IMAGES}.gz.bad-1" in capsys.readouterr().err
    assert cli.run(arguments) == 0
