"""`python -m serving`, really started."""

import signal
import socket
import struct
import subprocess
import sys
import zlib

import httpx
import pytest

from serving.__main__ import main


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb():
    """A whole, valid PNG of 19000 x 19000 in 44 kB."""
    squeeze = zlib.compressobj(9)
    row = bytes(1 + 19000 // 8)
    data = b"".join(squeeze.compress(row) for _ in range(19000)) + squeeze.flush()
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 19000, 19000, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def refused(host, port):
    """Whether the server takes no more connections."""
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) != 0


def test_the_banner_a_bomb_and_a_drain(bundle, start, images, encode, wait_until) -> None:
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
def test_a_damaged_bundle_ends_in_one_line(damaged, damage, workers, says) -> None:
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
        ([], 2, "bundle: Field required"),
        (["--bundle", "b", "--port", "x"], 2, "port: "),
        (["--bundle", "nowhere"], 1, "nowhere/manifest.json: cannot be read"),
    ],
)
def test_options_that_will_not_do_end_in_one_line(flags, code, says, capsys) -> None:
    assert main(flags) == code
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use_ends_in_one_line(bundle, workers, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = ["--bundle", str(bundle), "--port", str(port), "--workers", str(workers)]
        assert main(flags) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err
