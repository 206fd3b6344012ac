from __future__ import annotations

import pytest

from serving.http.anytime.events import asks_for_events, event, wants_events


@pytest.mark.parametrize(
    ("accept", "asks"),
    [
        (b"text/event-stream", True),
        (b"Text/Event-Stream; charset=utf-8, application/json", True),
        (b"application/json, text/event-stream", False),
        (b"text/event-stream;q=0, application/json", False),
        (b"text/event-stream; q=0.00;x=1", False),
        (b"text/event-stream;q=0.1, application/json;q=0", True),
        (b"text/event-stream ;q=0.1", True),
        (b"text/event-streams", False),
        (b"*/*", False),
        (b"", False),
    ],
)
def test_the_first_media_type_decides(accept: bytes, asks: bool) -> None:
    assert asks_for_events(accept) is asks
    scope = {"headers": [(b"host", b"x"), (b"accept", accept)]}
    assert wants_events({**scope, "http_version": "1.1"}) is asks
    assert not wants_events({**scope, "http_version": "1.0"})


def test_several_headers_are_one_list() -> None:
    names = b"text/event-stream", b"application/json"
    for pair, asks in ((names, True), (names[::-1], False)):
        headers = [(b"accept", value) for value in pair]
        assert wants_events({"headers": headers, "http_version": "1.1"}) is asks


def test_an_event_has_a_name_and_data() -> None:
    assert event("exit", b'{"exit":1}') == b'event: exit\ndata: {"exit":1}\n\n'
