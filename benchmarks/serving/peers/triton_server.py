"""Triton, NVIDIA's server in C++, with its Python backend, from the wheel of PyTriton.

The wheel has no ONNX Runtime backend. PyTriton's own mode would add a hop: a Python process fetches
each batch from the server. Requests are raw: the body is the only input.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.serving.peers.common import HOST, setting
from benchmarks.serving.peers.settings import BATCH, WAIT_MS, WORKERS

NAME = "classifier"
CONFIG = """
backend: "python"
max_batch_size: {batch}
input [{{ name: "file" data_type: TYPE_UINT8 dims: [-1] allow_ragged_batch: true }}]
output [{{ name: "answer" data_type: TYPE_UINT8 dims: [-1] }}]
instance_group [{{ kind: KIND_CPU count: {workers} }}]
dynamic_batching {{ max_queue_delay_microseconds: {wait} }}
"""


def _installed() -> Path:
    """Return the server's folder in the wheel."""
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "tritonserver"


def _backends(installed: Path, scratch: Path) -> Path:
    """Copy the Python backend and put the stub of this Python version beside it."""
    folder = scratch / "backends" / "python"
    shutil.copytree(installed / "backends" / "python", folder)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(installed / "python_backend_stubs" / version / "triton_python_backend_stub", folder)
    return folder.parent


def _repository(scratch: Path) -> Path:
    folder = scratch / "models" / NAME
    (folder / "1").mkdir(parents=True)
    config = CONFIG.format(
        batch=setting(BATCH), workers=setting(WORKERS), wait=setting(WAIT_MS) * 1000
    )
    (folder / "config.pbtxt").write_text(config, encoding="ascii")
    shutil.copy(Path(__file__).with_name("triton_model.py"), folder / "1" / "model.py")
    return folder.parent


def _environment(installed: Path) -> dict[str, str]:
    """Return the server's environment.

    `PATH` selects the virtual environment of its Python. `LD_LIBRARY_PATH` names the wheel's
    libraries, because the backend is copied away from them.
    """
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(installed.parent.parent / "nvidia_pytriton.libs"),
    }


def serve(port: int, scratch: Path, grpc_port: int | None = None) -> None:
    """Serve until a signal, then let the server remove its shared memory."""
    grpc = ["--allow-grpc=false"]
    if grpc_port is not None:
        grpc = [f"--grpc-address={HOST}", f"--grpc-port={grpc_port}"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    installed = _installed()
    command = [
        str(installed / "bin" / "tritonserver"),
        f"--model-repository={_repository(scratch)}",
        f"--backend-directory={_backends(installed, scratch)}",
        f"--http-address={HOST}",
        f"--http-port={port}",
        *grpc,
        "--allow-metrics=false",
    ]
    with subprocess.Popen(command, env=_environment(installed)) as server:
        try:
            server.wait()
        finally:
            server.terminate()


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        serve(int(sys.argv[1]), Path(folder), *map(int, sys.argv[2:]))
