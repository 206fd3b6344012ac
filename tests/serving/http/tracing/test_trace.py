"""Sampling and the end of a request, with a recorder in this process."""

from __future__ import annotations

import logging

import pytest

from serving.http.tracing.trace import End, Trace, Tracing

PARENT = b"00-%032x-%016x-%b"


class Kept:
    """A recorder that keeps what it gets."""

    def __init__(self) -> None:
        self.ends: list[End] = []

    def record(self, trace: Trace, end: End) -> None:
        assert trace.answers == ()
        self.ends.append(end)

    async def close(self) -> None:
        pass


class Broken(Kept):
    def record(self, trace: Trace, end: End) -> None:
        super().record(trace, end)
        raise ValueError("no memory for spans")


def begin(share: float, traceparent: bytes = b"", recorder: Kept | None = None) -> Trace | None:
    tracing = Tracing(share, recorder or Kept())
    return tracing.begin("POST /classify", (traceparent, b""), 1.0, b"")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_flag_of_a_parent_decides_and_else_the_share(share: float) -> None:
    sampled, other = PARENT % (1, 2, b"01"), PARENT % (1, 2, b"00")
    assert begin(share, sampled) is not None
    assert begin(share, other) is None
    for header in (b"", b"not one"):
        assert (begin(share, header) is not None) == bool(share)


def test_about_the_share_of_the_requests_is_sampled() -> None:
    tracing = Tracing(0.2, Kept())
    found = [tracing.begin("POST /classify", (b"", b""), 1.0, b"") for _ in range(4000)]
    assert 600 < sum(trace is not None for trace in found) < 1000


@pytest.mark.parametrize(
    ("status", "error"), [(200, ""), (422, ""), (429, ""), (500, "500"), (504, "504")]
)
def test_errors_of_the_server_over_http_are_errors_of_the_span(status: int, error: str) -> None:
    kept = Kept()
    trace = begin(1.0, recorder=kept)
    assert trace is not None
    trace.end_http(status, b"7")
    (end,) = kept.ends
    assert (end.attributes["http.response.status_code"], end.error) == (status, error)
    assert trace.request_id == b"7"


def test_a_request_without_a_response_is_cancelled() -> None:
    kept = Kept()
    trace = begin(1.0, recorder=kept)
    assert trace is not None
    trace.end_http(0, b"")
    assert "http.response.status_code" not in kept.ends[0].attributes
    trace.end_grpc("CANCELLED")
    assert [end.error for end in kept.ends] == ["cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("status", "error"), [("OK", ""), ("INVALID_ARGUMENT", ""), ("INTERNAL", "INTERNAL")]
)
def test_errors_of_the_server_over_grpc_are_errors_of_the_span(status: str, error: str) -> None:
    kept = Kept()
    trace = begin(1.0, recorder=kept)
    assert trace is not None
    trace.end_grpc(status)
    (end,) = kept.ends
    assert (end.attributes["rpc.response.status_code"], end.error) == (status, error)


def test_an_error_in_tracing_is_logged_and_fails_no_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trace = begin(1.0, recorder=Broken())
    assert trace is not None
    with caplog.at_level(logging.ERROR):
        trace.end_http(200, b"")
    assert "no memory for spans" in caplog.text
