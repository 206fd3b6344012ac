"""Multipart forms: which parts are files, and the bounds of a form."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import MalformedBodyError
from serving.http.bodies.multipart import read_form
from tests.timing import least_cpu_seconds

MEGABYTE = 1 << 20
TYPE = b"multipart/form-data; boundary=B"
NAMED = b'Content-Disposition: form-data; name="photo"'
FILE = NAMED + b'; filename="a.png"'


def form(*parts: tuple[bytes, bytes], boundary: bytes = b"B") -> bytes:
    found = [b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, head, data) for head, data in parts]
    return b"".join(found) + b"--%s--\r\n" % boundary


@pytest.mark.parametrize(
    "head",
    [
        FILE,
        NAMED + b'; filename=""',
        b'Content-Disposition: form-data; name="images"',
        b"Content-Disposition: form-data; name=images\r\nContent-Type: text/plain",
        NAMED + b"; filename=a.png",
        b"Content-Disposition: form-data; filename=a.png",
        b"Content-Disposition: form-data\r\nContent-Type: image/jpeg",
        b"Content-Type: image/jpeg",
        NAMED + b"; FileName=a.png",
        NAMED + rb'; filename="a;\"name\".png"',
        NAMED + b'; filename="C:\\path\\"',
        NAMED + b"; filename*=UTF-8''%E7%8C%AB.jpg",
        NAMED + b"; filename*0=a; filename*1=.png",
        b"Content-Disposition: form-data; name=images; filename=a",
        b"content-disposition:form-data;name=images;filename=a",
        NAMED + b"\r\nContent-Type: image/jpeg",
        NAMED + b"\r\ncontent-type:Image/X-Unknown; q=1",
        b"Content-Type: application/octet-stream\r\n" + NAMED,
        NAMED + b"\r\nContent-Type: application/octet-stream",
        FILE + b"\r\nContent-Transfer-Encoding: Binary",
        FILE + b"\r\nContent-Transfer-Encoding: 8bit",
    ],
)
def test_a_part_with_a_file_name_or_the_type_of_an_image_is_a_file(head: bytes) -> None:
    data = b"\x00\r\n--\r\n\r\n--A\r\n\xff"
    assert read_form(TYPE, form((head, data), (FILE, b""), (head, b"\r\n")), 3) == [
        data,
        b"",
        b"\r\n",
    ]


@pytest.mark.parametrize("head", [NAMED, NAMED + b"\r\nContent-Type: text/plain; filename=a"])
def test_any_other_part_is_a_field_and_refused(head: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="'photo' is not a file; use the query"):
        read_form(TYPE, form((FILE, b"x"), (head, b"low")), 3)


@pytest.mark.parametrize(
    "content_type",
    [
        b'multipart/form-data; boundary="B"',
        b"multipart/form-data;BOUNDARY=B",
        b"multipart/form-data; charset=utf-8; boundary=B",
        b'multipart/form-data; other="; boundary=C"; boundary=B ; charset=undefined',
        *(
            b"multipart/form-data; boundary=B; charset=" + charset
            for charset in (
                b"undefined",
                b"idna",
                b"punycode",
                b"utf-7",
                b"rot13",
                b"zlib",
                b"\xff",
            )
        ),
    ],
)
def test_other_parameters_of_the_content_type_have_no_effect(content_type: bytes) -> None:
    assert read_form(content_type, form((FILE, b"data")), 1) == [b"data"]
    with pytest.raises(MalformedBodyError, match="is not a file"):
        read_form(
            content_type, form((b'Content-Disposition: form-data; name="xn--a-\xff"', b"")), 1
        )


@pytest.mark.parametrize(
    "body", [b"preamble\r\n" + form((FILE, b"x")), form((FILE, b"x")) + b"\r\n--B"]
)
def test_bytes_before_and_after_the_form_are_ignored(body: bytes) -> None:
    assert read_form(TYPE, body, 1) == [b"x"]


def test_spaces_after_a_boundary_are_ignored() -> None:
    assert read_form(TYPE, form((FILE, b"x")).replace(b"--B\r\n", b"--B \t\r\n"), 1) == [b"x"]


def test_every_cut_form_is_refused() -> None:
    whole = form((FILE, b"some data"), (FILE, b"more"))
    end = whole.rindex(b"--")
    for length in range(end + 1):
        with pytest.raises(MalformedBodyError):
            read_form(TYPE, whole[:length], 2)
    assert read_form(TYPE, whole[: end + 2], 2) == [b"some data", b"more"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "boundary is not in it"),
        (b"nothing", "boundary is not in it"),
        (b"--B", "ends before its last boundary"),
        (b"--B\r\n", "ends before its last boundary"),
        (b"--B\r\n" + FILE + b"\r\n\r\nhalf", "ends before its last boundary"),
        (b"--Bx\r\n", "has more bytes"),
        (form((FILE, b"\r\n--Bx")), "has more bytes"),
        (form((b"X: y", b"")), "no Content-Disposition with a name"),
        (form((b"Content-Disposition: form-data", b"")), "with a name"),
        (form((b"no colon", b"")), "without a colon"),
        (
            form((FILE + b"\r\nContent-Transfer-Encoding: Base64", b"eA==")),
            "Content-Transfer-Encoding 'base64' is not read; send the bytes of files",
        ),
        (b"--B\r\n\r\nx\r\n--B--\r\n", "a part has no headers"),
        (form((b"\r\n".join([FILE] * 17), b"")), "more than 16 headers"),
        (form((FILE + b"x" * 8192, b"")), "more than 8192 bytes of headers"),
        (form(*[(FILE, b"x")] * 4), "more than 3 images; send 1 to 3"),
    ],
)
def test_a_damaged_form_is_refused_with_the_reason(body: bytes, says: str) -> None:
    with pytest.raises(MalformedBodyError) as raised:
        read_form(TYPE, body, 3)
    assert str(raised.value).startswith("multipart form: ")
    assert says in str(raised.value)


@pytest.mark.parametrize("content_type", [b"multipart/form-data", TYPE[:-1], TYPE + 256 * b"B"])
def test_the_boundary_has_bounds(content_type: bytes) -> None:
    with pytest.raises(MalformedBodyError, match="no boundary of 1 to 256 bytes"):
        read_form(content_type, form((FILE, b"x")), 1)


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "parts": lambda size: form(*[(FILE, b"")] * (size // 60)),
    "fields": lambda size: form(*[(NAMED, b"")] * (size // 60)),
    "headers": lambda size: b"--B\r\n" + b"a:b\r\n" * (size // 5),
    "a header": lambda size: b"--B\r\na:" + b"b" * size,
    "parameters": lambda size: b"--B\r\n" + NAMED + b";a=b" * (size // 4),
    "boundaries": lambda size: b"--B\r\n" + FILE + b"\r\n\r\n" + b"\r\n--BX" * (size // 6),
    "almost boundaries": lambda size: b"--B\r\n" + FILE + b"\r\n\r\n" + b"\r\n--" * (size // 4),
    "preamble": lambda size: b"\r\n--\r\n" * (size // 6),
    "spaces": lambda size: b"--B" + b" " * size,
    "epilogue": lambda size: form((FILE, b"x")) + b"--B\r\n" * (size // 5),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_time_and_memory_of_a_megabyte_are_bounded(attack: str) -> None:
    body = HOSTILE[attack](MEGABYTE)

    def read() -> None:
        with suppress(MalformedBodyError):
            assert read_form(TYPE, body, 16) == [b"x"]

    tracemalloc.start()
    read()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * MEGABYTE
    assert least_cpu_seconds(read, 0.1) < 0.1


@given(st.lists(st.tuples(st.text(min_size=1), st.binary(max_size=100)), min_size=1, max_size=4))
def test_forms_of_a_real_client_come_back(parts: list[tuple[str, bytes]]) -> None:
    files = [("images", (name, data)) for name, data in parts]
    request = httpx.Request("POST", "http://x", files=files)
    content_type = request.headers["content-type"].encode()
    assert read_form(content_type, request.read(), 4) == [data for _, data in parts]


@given(
    st.lists(st.sampled_from([b"--", b"B", b"\r\n", FILE, NAMED, b":", b"x", b" "]), max_size=30)
)
def test_any_sequence_of_pieces_is_read_or_refused(pieces: list[bytes]) -> None:
    try:
        files = read_form(TYPE, b"".join(pieces), 3)
    except MalformedBodyError:
        return
    assert len(files) <= 3
