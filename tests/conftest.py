"""Fixtures and rules that all tests share: the real MNIST if it is there, no network, slow tests first."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Each worker has one processor to itself. torch reads this when it is loaded, so it must be set before.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def _mnist_folder() -> Path | None:
    folder = os.environ.get("ACTBENCH_DATA_DIR")
    return Path(folder) if folder and (Path(folder) / "MNIST" / "raw").is_dir() else None


def pytest_configure() -> None:
    """Fail at once if the environment says that the real MNIST or a browser must be there, and it is not."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, processes that tests start would ignore it, too
    if os.environ.get("ACTBENCH_REQUIRE_MNIST") and _mnist_folder() is None:
        raise pytest.UsageError("ACTBENCH_REQUIRE_MNIST is set, but ACTBENCH_DATA_DIR names no folder with MNIST/raw")
    if os.environ.get("ACTBENCH_REQUIRE_BROWSER") and shutil.which("chromium") is None:
        raise pytest.UsageError("ACTBENCH_REQUIRE_BROWSER is set, but there is no chromium on the PATH")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why.

    Files with slow tests come first, so that no worker is left with one at the end.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    missing, no_browser = _mnist_folder() is None, shutil.which("chromium") is None
    for item in items:
        if missing and item.get_closest_marker("mnist"):
            item.add_marker(pytest.mark.skip(reason="needs ACTBENCH_DATA_DIR, a folder with the real MNIST/raw"))
        if no_browser and item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason="needs a chromium on the PATH"))
        if item.get_closest_marker("cuda"):
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def mnist_folder() -> Path:
    """The folder with the real MNIST; only for tests marked `mnist`."""
    folder = _mnist_folder()
    assert folder is not None
    return folder


@pytest.fixture(autouse=True)
def _no_network_and_no_personal_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep every test from reaching beyond this machine and from seeing the user's own actbench settings."""
    for name in ("ACTBENCH_RESULTS", "ACTBENCH_MIRROR", "NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
