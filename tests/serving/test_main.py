"""`python -m serving`, started as a process."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import numpy as np
import pytest

from serving.__main__ import main
from tests.serving.images.pictures import chunk
from tests.serving.servers import Process, refused

Start = Callable[..., AbstractContextManager[Process]]


def bomb() -> bytes:
    """Return a valid PNG of 19000 x 19000 pixels in 44 kB."""
    squeeze = zlib.compressobj(9)
    row = bytes(1 + 19000 // 8)
    data = b"".join(squeeze.compress(row) for _ in range(19000)) + squeeze.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 19000, 19000, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_the_banner_a_bomb_and_a_drain(
    bundle: Path,
    start: Start,
    images: Callable[[int, int], np.ndarray],
    encode: Callable[..., bytes],
    wait_until: Callable[..., None],
) -> None:
    good = encode(images(1, 0)[0])
    with start(bundle, "--threads", "2", OFFRAMP_SLOTS="32") as process:
        for part in ("testnet 1", "4 exits", "low", "full 100%", "cpu", "2 threads", "32 slots"):
            assert part in process.banner
        with httpx.Client(base_url=process.url, timeout=30) as client:
            assert client.post("/classify", content=good).status_code == 200
            data = bomb()
            assert len(data) < 45_000
            assert client.post("/classify", content=b"?").status_code == 415
            peak = process.memory("VmHWM")
            answer = client.post("/classify", content=data)
            assert answer.status_code == 413
            assert answer.json()["type"] == "/problems/image-too-large"
            assert process.memory("VmHWM") - peak < 1 << 20  # decoded it is 45 MB at least

        host, port = process.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(good)}\r\n\r\n"
            raw.sendall(head.encode() + good[:50])
            httpx.get(f"{process.url}/health/live")  # by now it has begun to read the other
            process.popen.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(host, port))
            raw.sendall(good[50:])
            assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.popen.stderr is not None
        log = process.popen.stderr.read()
        assert process.popen.wait(20) in (0, -signal.SIGTERM)
    assert "Traceback" not in log
    assert all(line.startswith('{"time"') for line in log.splitlines())


@pytest.mark.parametrize(
    ("damage", "workers", "says"),
    [
        (lambda b: (b / "stage2.onnx").write_bytes(b"?"), 1, "stage2.onnx: its sha256"),
        (lambda b: (b / "stage2.onnx").write_bytes(b"?"), 2, "stage2.onnx: its sha256"),
        (lambda b: (b / "manifest.json").write_text("{"), 2, "json: manifest: Invalid JSON"),
    ],
)
def test_a_damaged_bundle_ends_in_one_line(
    damaged: Path, damage: Callable[[Path], object], workers: int, says: str
) -> None:
    damage(damaged)
    command = [sys.executable, "-m", "serving", "--bundle", str(damaged), "--port", "0"]
    command += ["--workers", str(workers)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
    assert says in ended.stderr


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        ([], 2, "--bundle or OFFRAMP_BUNDLE: a value is required"),
        (["--bundle", "b", "--prot", "80"], 2, "--prot: no such option; did you mean --port?"),
        (["--bundle", "b", "--port", "x"], 2, "--port: x: input should be a valid integer"),
        (["--bundle", "nowhere"], 1, "nowhere/manifest.json: cannot be read"),
        (["--models", "nowhere"], 1, "nowhere: cannot be read"),
        (["--models", "deploy"], 1, "deploy: has no model; one is in NAME/VERSION/manifest.json"),
        (["--bundle", "b", "--admin-key-file", "nowhere"], 2, "the key cannot be read"),
    ],
)
def test_wrong_options_end_in_one_line(
    flags: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(flags) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_ends_in_one_line(
    bundle: Path, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ["--bundle", str(bundle), "--port", str(port), "--workers", str(workers)]
        assert main(flags) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_drains_and_ends_with_130(bundle: Path, start: Start, workers: str) -> None:
    with start(bundle, "--threads", "1", "--workers", workers) as process:
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
        process.popen.send_signal(signal.SIGINT)
        assert process.popen.wait(30) == 130
        assert process.popen.stderr is not None
        assert "Traceback" not in process.popen.stderr.read()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_that_closes_drains_all_processes(
    bundle: Path,
    start: Start,
    images: Callable[[int, int], np.ndarray],
    encode: Callable[..., bytes],
    wait_until: Callable[..., None],
    workers: str,
) -> None:
    body = encode(images(1, 0)[0])
    with start(bundle, "--threads", "1", "--workers", workers) as process:
        host, port = process.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as raw:
            head = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            raw.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert raw.recv(65536).startswith(b"HTTP/1.1 100"), "a worker reads it"
            raw.sendall(body[:50])
            for pid in (process.popen.pid, *process.workers):
                os.kill(pid, signal.SIGHUP)
            wait_until(lambda: refused(host, port))
            raw.sendall(body[50:])
            assert raw.recv(65536).startswith(b"HTTP/1.1 200")
        assert process.popen.wait(20) in (0, -signal.SIGTERM)


def test_a_server_under_nohup_serves_on_after_sighup(bundle: Path, start: Start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # which the server inherits
    try:
        with start(bundle, "--threads", "1") as process:
            process.popen.send_signal(signal.SIGHUP)
            time.sleep(0.2)
            assert httpx.get(f"{process.url}/health/ready").status_code == 200
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_unknown_variable_is_logged_with_the_nearest_name(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "serving", "--bundle", str(tmp_path)]
    environment = os.environ | {"OFFRAMP_SLOT": "3", "OFFRAMP_SLOTS": "32"}
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    warning, error = ended.stderr.splitlines()
    assert json.loads(warning)["level"] == "warning"
    assert json.loads(warning)["message"] == (
        "OFFRAMP_SLOT is not a setting and has no effect; did you mean OFFRAMP_SLOTS?"
    )
    assert error.startswith("error: ")
