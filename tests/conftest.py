"""Fixtures and rules that all tests share: one thread's worth of torch, the real MNIST where it lies, no network."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest


def _mnist_folder() -> Path | None:
    folder = os.environ.get("ACTBENCH_DATA_DIR")
    return Path(folder) if folder and (Path(folder) / "MNIST" / "raw").is_dir() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say why; with ACTBENCH_REQUIRE_MNIST a missing MNIST fails."""
    missing = _mnist_folder() is None
    if missing and os.environ.get("ACTBENCH_REQUIRE_MNIST"):
        pytest.exit("ACTBENCH_REQUIRE_MNIST is set, but ACTBENCH_DATA_DIR names no folder with MNIST/raw", 1)
    no_browser = shutil.which("chromium") is None
    if no_browser and os.environ.get("ACTBENCH_REQUIRE_BROWSER"):
        pytest.exit("ACTBENCH_REQUIRE_BROWSER is set, but there is no chromium on the PATH", 1)
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
def _no_network_and_no_settings_of_the_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no test reach beyond this machine or see the environment's own actbench settings."""
    for name in ("ACTBENCH_RESULTS", "ACTBENCH_MIRROR", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
