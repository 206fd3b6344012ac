"""The memory that a header states is that which decoding takes, measured in other processes.

These are forks of one process, in which no image was decoded yet.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks.serving.attacks.images import png
from offramp.images.header import read_header
from tests.offramp.images.jpeg2000.streams import Stream, Style

SIDE = 1600
SLACK = 3_000_000  # bytes: the file, buffers of a decoder, and the allocator
TURNED = Image.Exif()
TURNED[0x0112] = 6
PEAK = """
import ctypes, os, sys
from pathlib import Path
from offramp.bundle.manifest import ImageInput
from offramp.images.decode import decode_essence
from offramp.images.header import read_header
target = ImageInput(height=32, width=32, fit="crop", filter="bilinear")

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

def measure(folder):
    for name in ("small", "large"):
        file = (folder / name).read_bytes()
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = peak()
        header = read_header(file, 64)
        decode_essence(header, header.essence(file), target)
    return peak() - before

for line in sys.stdin:
    if os.fork() == 0:
        print(measure(Path(line.rstrip("\\n"))), flush=True)
        os._exit(0)
    if os.wait()[1]:
        print("the process failed", flush=True)
"""
Kind = tuple[str, str, dict[str, Any]]
KINDS: tuple[Kind, ...] = (
    ("RGB", "PNG", {}), ("RGBA", "PNG", {}), ("L", "PNG", {}), ("P", "PNG", {}), ("LA", "PNG", {}),
    ("P", "PNG", {"transparency": 0}), ("L", "PNG", {"transparency": 0}),
    ("RGB", "PNG", {"transparency": (0, 0, 0)}), ("RGBA", "PNG", {"exif": TURNED}),
    ("RGB", "PNG", {"transparency": (0, 0, 0), "exif": TURNED}),
    ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}), ("RGB", "WEBP", {"exif": TURNED}),
    ("RGB", "AVIF", {"subsampling": "4:4:4"}), ("RGBA", "AVIF", {"subsampling": "4:4:4"}),
    ("RGB", "AVIF", {"exif": TURNED}), ("P", "GIF", {"transparency": 0}),
    ("RGB", "TIFF", {"compression": "tiff_lzw", "strip_size": 1 << 30}),
    ("RGBA", "TIFF", {"compression": "tiff_lzw"}), ("I;16", "TIFF", {"compression": "tiff_lzw"}),
    ("F", "TIFF", {"compression": "tiff_lzw"}), ("I", "TIFF", {"compression": "tiff_lzw"}),
    ("RGB", "TIFF", {"compression": "jpeg", "strip_size": 1 << 30}), ("1", "BMP", {}),
    ("RGB", "JPEG2000", {}), ("RGBA", "JPEG2000", {"irreversible": True}),
    ("RGB", "JPEG2000", {"codeblock_size": (8, 8)}), ("L", "JPEG2000", {"tile_size": (64, 64)}),
    ("RGB", "JPEG2000", {"precinct_size": (32, 32), "codeblock_size": (8, 8)}),
)  # fmt: skip


def encoded(side: int, mode: str, form: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, form, **options)
    return buffer.getvalue()


Peak = Callable[[bytes, bytes], int]


@pytest.fixture(scope="module")
def measuring() -> Iterator[subprocess.Popen[str]]:
    command, pipe = [sys.executable, "-c", PEAK], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield process


@pytest.fixture
def peak(measuring: subprocess.Popen[str], tmp_path: Path) -> Peak:
    """Return the peak of the memory to decode an image, after a small one of its kind."""

    def measure(small: bytes, large: bytes) -> int:
        (tmp_path / "small").write_bytes(small)
        (tmp_path / "large").write_bytes(large)
        assert measuring.stdin is not None
        assert measuring.stdout is not None
        print(tmp_path, file=measuring.stdin, flush=True)
        return int(measuring.stdout.readline())

    return measure


def described(kind: Kind) -> str:
    """Return the same name in each process: an Exif object has no name."""
    mode, name, options = kind
    shown = [key if key == "exif" else f"{key}={value}" for key, value in options.items()]
    return "-".join((mode, name, *shown))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", KINDS, ids=described)
def test_decoding_takes_no_more_memory_than_the_header_states(kind: Kind, peak: Peak) -> None:
    file = encoded(SIDE, *kind)
    assert peak(encoded(64, *kind), file) <= read_header(file, 64).memory + SLACK


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (4, 2), (6, 4)])
def test_a_png_of_16_bits_takes_no_more(colour: int, channels: int, peak: Peak) -> None:
    file = png(SIDE, 16, colour, channels)
    taken = peak(png(64, 16, colour, channels), file)
    assert taken <= read_header(file, 64).memory + SLACK


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "stream",
    [
        Stream(32, style=Style(65_535)),
        Stream(64, style=Style(6_000, precincts=b"\xff\x44\x44\x44\x44\x44")),
        Stream(500, style=Style(block=(2, 2))),
        Stream(250, style=Style(precincts=b"\x22" * 6)),
        Stream(500, tile=16, style=Style(levels=32)),
    ],
)
def test_a_jpeg_2000_of_many_parts_takes_no_more(stream: Stream, peak: Peak) -> None:
    file = stream.encoded()
    assert peak(Stream().encoded(), file) <= read_header(file, 64).memory + SLACK


def test_a_tile_larger_than_the_image_counts_whole() -> None:
    file = bytearray(encoded(64, "RGB", "TIFF", {"compression": "tiff_lzw"}))
    # the directory of a tiled image: three tags of strips become those of tiles
    for old, new in ((273, 324), (278, 322), (279, 323)):
        at = (
            file.find(old.to_bytes(2, "little") + b"\x04") + 1
            or file.find(old.to_bytes(2, "little") + b"\x03") + 1
        )
        assert at
        file[at - 1 : at + 1] = new.to_bytes(2, "little")
        if new != 324:
            file[at + 1 : at + 11] = b"\x04\0\1\0\0\0" + (4096).to_bytes(4, "little")
    assert read_header(bytes(file), 64).memory >= 3 * 4096 * 4096
