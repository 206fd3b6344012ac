from __future__ import annotations

import pytest

from serving.http.tracing.parent import Parent, fields_of, parent_of

TRACE, SPAN = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7"
VALID = b"00-%b-%b-01" % (TRACE, SPAN)


def test_a_valid_header_names_the_parent() -> None:
    trace, span = int(TRACE, 16), int(SPAN, 16)
    assert parent_of(VALID, b"a=1") == Parent(trace, span, True, "a=1")
    assert parent_of(b"00-%b-%b-02" % (TRACE, SPAN), b"") == Parent(trace, span, False, "")
    assert parent_of(b" %b-later" % VALID.replace(b"00-", b"7f-", 1), b"") is not None
    assert parent_of(VALID, b"a" * 513) == Parent(trace, span, True, "")


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"00",
        VALID + b"-more",  # only of a later version
        VALID.replace(b"00-", b"ff-", 1),
        VALID.upper(),
        VALID[:-1],
        VALID + b"0",
        b"00-%b-%b-01" % (b"0" * 32, SPAN),
        b"00-%b-%b-01" % (TRACE, b"0" * 16),
        VALID.replace(b"a", b"g"),
        b"%b\n" % VALID.replace(b"-", b"_"),
    ],
)
def test_any_other_header_names_none(header: bytes) -> None:
    assert parent_of(header, b"a=1") is None


def test_a_header_that_is_given_twice_is_ignored_and_states_are_joined() -> None:
    pairs = [(b"traceparent", VALID), (b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert fields_of(pairs) == (VALID, b"a=1,b=2")
    assert fields_of([*pairs, pairs[0]])[0] == b""
    assert fields_of([(b"host", b"x")]) == (b"", b"")
