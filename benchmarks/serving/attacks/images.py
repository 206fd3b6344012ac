"""Small bodies that are dear to decode: CPU seconds, memory and answers of a real server.

    python -m benchmarks.serving.attacks.images --port 8000 --pid 1234

Each attack is sent once, with health checks beside it. `--door` sends it to the Open Inference
Protocol instead, over HTTP (`protocol`) or gRPC (`grpc`, at `--grpc-port`). Exit code 1: more than
.5 s of CPU or 64 MB for a megabyte sent, where a body below a megabyte counts as one, or a health
check over .2 s.
"""

from __future__ import annotations

import argparse
import http.client
import io
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmarks.serving.attacks.inference import files_message, send_message
from benchmarks.serving.attacks.target import HOST, PATIENCE, model_of
from benchmarks.serving.servers.processes import usage
from offramp.load.bodies import LENGTH, binary_body, element

MOST_SECONDS, MOST_MEGABYTES, MOST_HEALTH = 0.5, 64.0, 0.2
BOUNDARY = b"attack"


def png(side: int, depth: int, colour: int, channels: int) -> bytes:
    """Return a PNG of zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    row = 1 + side * channels * depth // 8
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(row)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(side: int, scans: int, *, refining: bool = False) -> bytes:
    """Return a progressive JPEG of zeros with many scans of a few bytes each."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    def zeros(bits: int) -> bytes:
        return bytes(bits // 8) + (bytes([0xFF >> bits % 8]) if bits % 8 else b"")

    blocks = (-(-side // 8)) ** 2
    components = bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    file = (
        b"\xff\xd8" + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + segment(0xDB, b"\0" + b"\1" * 64)
    )
    file += segment(0xC2, struct.pack(">BHHB", 8, side, side, 3) + components)
    file += segment(0xC4, b"\0\1" + bytes(15) + b"\0") + segment(
        0xC4, b"\x10\1" + bytes(15) + b"\xe0"
    )
    file += segment(0xDA, bytes([3, 1, 0, 2, 0, 3, 0, 0, 0, 0])) + zeros(blocks * 3)
    empty = zeros(15 * -(-blocks // 16384))  # runs of 16,384 blocks without a coefficient
    first = segment(0xDA, bytes([1, 1, 0, 1, 63, 0x0D])) + empty
    again = segment(0xDA, bytes([1, 1, 0, 1, 63, 0xDC])) + empty if refining else first
    return file + first + again * (scans - 1) + b"\xff\xd9"


def jpeg2000(side: int, layers: int, block: int, precincts: int) -> bytes:
    """Return a JPEG 2000 of one colour, with so many layers and sizes of parts in its header."""
    file = bytearray(
        flat("JPEG2000", side, precinct_size=(256, 256), codeblock_size=(block, block))
    )
    at = file.index(b"\xff\x52")
    file[at + 6 : at + 8] = layers.to_bytes(2)
    end = at + 2 + int.from_bytes(file[at + 2 : at + 4])
    file[at + 14 : end] = bytes([precincts]) * (end - at - 14)
    return bytes(file)


def flat(form: str, side: int, frames: int = 1, mode: str = "RGB", **options: object) -> bytes:
    """Return an image of one colour, or an animation."""
    colours = [(i % 256, i // 256, 0, 99)[: len(mode)] for i in range(frames)]
    images = [Image.new(mode, (side, side), colour) for colour in colours]
    buffer = io.BytesIO()
    more = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    images[0].save(buffer, form, **more, **options)
    return buffer.getvalue()


def flat_jpeg(width: int, height: int, exif: Image.Exif) -> bytes:
    """Return a JPEG too narrow to be decoded at a reduced size."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def attacks() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the name and the images of each attack."""
    yield "progressive JPEG, 5000 x 5000, 3,000 scans", [jpeg(5000, 3000)]
    yield "progressive JPEG, 3200 x 3200, 80 scans", [jpeg(3200, 80)]
    yield "progressive JPEG, 3200 x 3200, 9 refining scans", [jpeg(3200, 9, refining=True)]
    yield "PNG, 5000 x 5000", [png(5000, 8, 2, 3)]
    yield "PNG, 4000 x 4000, RGB", [png(4000, 8, 2, 3)]
    yield "PNG, 3600 x 3600, RGBA of 16 bits", [png(3600, 16, 6, 4)]
    yield "16 PNGs, 1000 x 1000", [png(1000, 8, 2, 3)] * 16
    yield "16 PNGs, 4000 x 4000, 1 bit", [png(4000, 1, 0, 1)] * 16
    yield "WebP, 3500 x 3500", [flat("WEBP", 3500)]
    yield "AVIF, 3500 x 3500", [flat("AVIF", 3500, speed=10)]
    turned = Image.Exif()
    turned[0x0112] = 6  # the largest images that are decoded: of each format, and turned
    yield "WebP, 2000 x 2000, turned", [flat("WEBP", 2000, exif=turned)]
    yield "AVIF, 2150 x 2150, turned", [flat("AVIF", 2150, exif=turned, speed=10)]
    yield (
        "AVIF, 1800 x 1800, alpha",
        [flat("AVIF", 1800, mode="RGBA", subsampling="4:4:4", speed=10)],
    )
    yield "PNG, 2850 x 2850, RGBA", [flat("PNG", 2850, mode="RGBA")]
    yield "PNG, 2000 x 2000, a transparent colour", [flat("PNG", 2000, transparency=(0, 0, 0))]
    yield "JPEG, 65000 x 100, turned", [flat_jpeg(65000, 100, turned)]
    yield "JPEG 2000, 1000 x 1000", [flat("JPEG2000", 1000)]
    yield "JPEG 2000, 64 x 64, 65,535 layers", [jpeg2000(64, 65_535, 4, 0x11)]
    yield "JPEG 2000, 64 x 64, 1,000 layers", [jpeg2000(64, 1000, 4, 0x33)]
    yield "JPEG 2000, 800 x 800, precincts of 2 x 2", [jpeg2000(800, 1, 4, 0x11)]
    yield "JPEG 2000, 400 x 400, code blocks of 4 x 4", [jpeg2000(400, 1, 4, 0x88)]
    for form in ("GIF", "WEBP", "PNG"):
        yield f"{form}, 2,000 frames", [flat(form, 64, 2000)]


def send(options: argparse.Namespace, port: int, images: list[bytes]) -> tuple[int, int | str]:
    """Send images by a door. Return the bytes sent, and the status."""
    if options.door == "grpc":
        message = files_message(model_of(port), images)
        return len(message), send_message(options.grpc_port, message, PATIENCE)
    path, (body, kind), headers = "/classify", body_of(images), {}
    if options.door == "protocol":
        path = f"/v2/models/{model_of(port)}/infer"
        data = b"".join(map(element, images))
        body, length = binary_body("image", "BYTES", [len(images)], data)
        headers = {LENGTH: str(length)}
    client = http.client.HTTPConnection(HOST, port, timeout=PATIENCE)
    client.request("POST", path, body, {"content-type": kind, **headers})
    status = client.getresponse().status
    client.close()
    return len(body), status


def body_of(images: list[bytes]) -> tuple[bytes, str]:
    """Return the body and the content type of a call."""
    if len(images) == 1:
        return images[0], "application/octet-stream"
    part = b'--%b\r\ncontent-disposition: form-data; name="images"; filename="a"\r\n\r\n%b\r\n'
    body = b"".join(part % (BOUNDARY, image) for image in images) + b"--%b--\r\n" % BOUNDARY
    return body, f"multipart/form-data; boundary={BOUNDARY.decode()}"


def peak(process: int) -> float:
    """Return the peak of the resident memory since `forget_peak`, in megabytes."""
    lines = (
        Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    )
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def forget_peak(process: int) -> float:
    """Set the peak of the resident memory to its present value, and return it in megabytes."""
    Path(f"/proc/{process}/clear_refs").write_text("5", encoding="ascii")
    return peak(process)


class HealthCheck(threading.Thread):
    """Asks for the health of the server until it is stopped, and keeps the longest time."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(daemon=True)
        self._address, self._stopped, self.longest = (host, port), threading.Event(), 0.0

    def run(self) -> None:
        """Ask every 10 ms."""
        client = http.client.HTTPConnection(*self._address, timeout=60)
        while not self._stopped.wait(0.01):
            started = time.perf_counter()
            client.request("GET", "/health/live")
            client.getresponse().read()
            self.longest = max(self.longest, time.perf_counter() - started)

    def stop(self) -> float:
        """Stop, and return the longest time in seconds."""
        self._stopped.set()
        self.join()
        return self.longest


def build_parser() -> argparse.ArgumentParser:
    """Return the command-line parser."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.attacks.images")
    parser.add_argument("--port", type=int, required=True, help="of the server, on 127.0.0.1")
    parser.add_argument("--grpc-port", type=int, help="of its gRPC, for --door grpc")
    parser.add_argument("--door", choices=("native", "protocol", "grpc"), default="native")
    parser.add_argument("--pid", type=int, required=True, help="process of the server")
    return parser


def is_bounded(sent: float, seconds: float, megabytes: float, health: float) -> bool:
    """Return True if all bounds hold for so many megabytes that were sent."""
    within = seconds <= MOST_SECONDS * sent and megabytes <= MOST_MEGABYTES * sent
    return within and health <= MOST_HEALTH


def main() -> int:
    """Run the command."""
    options = build_parser().parse_args()
    print("| attack | bytes | status | CPU s | MB | longest health check, s |\n" + "|---" * 6 + "|")
    failed = False
    for name, images in attacks():
        health = HealthCheck(HOST, options.port)
        memory, used = forget_peak(options.pid), usage(options.pid).cpu
        health.start()
        size, status = send(options, options.port, images)
        longest = health.stop()
        used, memory = usage(options.pid).cpu - used, peak(options.pid) - memory
        failed |= not is_bounded(max(1.0, size / 1e6), used, memory, longest)
        print(
            f"| {name} | {size} | {status} | {used:.2f} | {memory:.0f} | {longest:.2f} |",
            flush=True,
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
