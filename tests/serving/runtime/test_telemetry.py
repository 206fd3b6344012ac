"""What the libraries below would tell others of their users."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["serving.runtime.cpu", "exporter.verify"])
def test_onnx_runtime_is_loaded_without_its_telemetry(module, tmp_path) -> None:
    """Else it keeps an identifier of the device in the user's cache as soon as it is loaded."""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for switch in ("ORT_DISABLE_TELEMETRY", "CI"):
        environment.pop(switch, None)
    subprocess.run([sys.executable, "-c", f"import {module}"], env=environment, check=True)
    assert [file for file in tmp_path.rglob("*") if file.name == "deviceid"] == []
