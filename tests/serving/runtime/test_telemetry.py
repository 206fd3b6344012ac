"""The libraries report nothing about their users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["serving.runtime.cpu", "exporter.stages.runner"])
def test_onnx_runtime_is_loaded_without_its_telemetry(module: str, tmp_path: Path) -> None:
    """Otherwise it writes an identifier of the device to the user's cache when it is loaded."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for switch in ("ORT_DISABLE_TELEMETRY", "CI"):
        environment.pop(switch, None)
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)
    assert [file for file in tmp_path.rglob("*") if file.name == "deviceid"] == []
