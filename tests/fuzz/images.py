"""Send damaged images to a real server, and measure CPU time, memory and answers.

    python -m tests.fuzz.images --bundle deploy/bundles/cifar10-msdnet --images 50000

The seeds are small images of every format that is read. Each is changed in 1 to 8 places, cut or
extended. Exit code 1: an answer of 5xx, a worker that died, or memory above 1.2 x that after the
first tenth.
"""

from __future__ import annotations

import argparse
import http.client
import io
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.serving.servers.processes import usage
from tests.serving.servers import until

GROWTH = 1.2
SEEDS: tuple[tuple[str, dict[str, object]], ...] = (
    ("JPEG", {}), ("JPEG", {"progressive": True}),
    ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ("PNG", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("BMP", {}), ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}), ("JPEG2000", {}),
    ("AVIF", {}), ("PPM", {}),
)  # fmt: skip


def seeds() -> list[bytes]:
    """Return the images that are damaged."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((96, 72), Image.Resampling.BICUBIC)
    files = []
    for form, options in SEEDS:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        files.append(buffer.getvalue())
    return files


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """Yield `count` damaged images."""
    rng, corpus = np.random.default_rng(seed), seeds()
    for _ in range(count):
        content = bytearray(corpus[rng.integers(len(corpus))])
        for _ in range(rng.integers(1, 9)):
            # headers decide most, so half of the changes are there
            most = min(64, len(content)) if rng.random() < 0.5 else len(content)
            content[rng.integers(most)] = int(
                rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))])
            )
        if rng.random() < 0.1:
            content = content[: rng.integers(1, len(content))]
        if rng.random() < 0.05:
            content += content[rng.integers(len(content)) :] * 20
        yield bytes(content)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.images")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=9380)
    options = parser.parse_args()
    command = [sys.executable, "-m", "serving", "--bundle", str(options.bundle)]
    command += ["--port", str(options.port), "--threads", "1", "--log-level", "error"]
    server = subprocess.Popen(command)
    try:
        return _fuzz(server, options.port, options.images, options.seed)
    finally:
        server.terminate()
        server.wait(60)


def _fuzz(server: subprocess.Popen[bytes], port: int, images: int, seed: int) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    until(lambda: _ready(client), 60)
    statuses: Counter[int] = Counter()
    worst, size, before = 0.0, 0, 0
    for number, file in enumerate(damaged(images, seed)):
        if number == images // 10:
            before = usage(server.pid).memory
        used, started = usage(server.pid).cpu, time.perf_counter()
        client.request("POST", "/classify", file)
        response = client.getresponse()
        response.read()
        statuses[response.status] += 1
        used = usage(server.pid).cpu - used
        if used > worst:
            worst, size = used, len(file)
            print(f"{used:.2f} s of CPU for {size} bytes, {response.status}, image {number}, "
                  f"{time.perf_counter() - started:.2f} s", flush=True)  # fmt: skip
    after = usage(server.pid).memory
    print(f"answers: {dict(sorted(statuses.items()))}")
    print(f"memory: {before / 1e6:.0f} MB after a tenth, {after / 1e6:.0f} MB at the end")
    # bodies below a megabyte count as one, as in the server's own bound
    print(f"worst: {worst / max(1.0, size / 1e6):.2f} s of CPU for a megabyte")
    failed = any(status >= 500 for status in statuses) or server.poll() is not None
    return int(failed or after > GROWTH * before)


def _ready(client: http.client.HTTPConnection) -> bool:
    try:
        client.request("GET", "/health/ready")
        response = client.getresponse()
        response.read()
    except OSError:
        client.close()
        return False
    return response.status == 200


if __name__ == "__main__":
    sys.exit(main())
