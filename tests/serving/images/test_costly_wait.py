from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from serving.images.costly_wait import BUSY_REST, FEW_WORK, LEAST_OTHERS, MAX_REST, Rest


@dataclass
class Server:
    """The load of a server."""

    overloaded: bool = True
    ended: int = 0

    def rest(self) -> Rest:
        return Rest(lambda: self.overloaded, lambda: self.ended)

    def arrivals(self, rest: Rest, number: int, others: int) -> None:
        """Let dear calls arrive, each after the ends of so many others."""
        for _ in range(number):
            self.ended += others
            rest.arrived()


def test_dear_images_rest_while_requests_are_refused() -> None:
    server = Server()
    rest = server.rest()
    server.arrivals(rest, 100, others=20)
    assert rest.needed
    assert rest.after(0.1, 0.0) == BUSY_REST * 0.1
    assert rest.after(1e3, FEW_WORK) == MAX_REST


def test_dear_images_do_not_rest_while_all_requests_are_answered() -> None:
    server = Server(overloaded=False)
    rest = server.rest()
    server.arrivals(rest, 100, others=20)
    assert not rest.needed
    assert rest.after(0.1, 0.0) == 0.0


def test_dear_images_that_are_what_clients_send_do_not_rest() -> None:
    server = Server()
    rest = server.rest()
    server.arrivals(rest, 100, others=1)  # each ends, and no other
    assert not rest.needed
    assert rest.after(0.1, 0.0) == 0.0


def test_many_that_wait_do_not_rest_because_they_hold_slots() -> None:
    server = Server()
    rest = server.rest()
    server.arrivals(rest, 100, others=20)
    assert rest.after(0.1, FEW_WORK + 1) == 0.0


def test_a_burst_of_dear_calls_ends_the_rests_soon() -> None:
    server = Server()
    rest = server.rest()
    server.ended = 10**9  # before the first of them
    server.arrivals(rest, 100, others=20)
    server.arrivals(rest, 50, others=0)
    assert not rest.needed


def test_one_long_gap_says_little() -> None:
    server = Server()
    rest = server.rest()
    server.arrivals(rest, 100, others=0)
    server.arrivals(rest, 1, others=10**9)
    server.arrivals(rest, 4, others=0)
    assert not rest.needed


def test_a_decoder_of_its_own_never_rests() -> None:
    rest = Rest()
    rest.arrived()
    assert not rest.needed
    assert rest.after(1.0, 0.0) == 0.0


@given(st.lists(st.integers(0, 10**6)), st.floats(0, 1e6), st.floats(0, 1e9), st.booleans())
def test_a_rest_is_bounded(
    gaps: list[int], seconds: float, queued: float, overloaded: bool
) -> None:
    server = Server(overloaded)
    rest = server.rest()
    for gap in gaps:
        server.arrivals(rest, 1, gap)
    assert 0.0 <= rest.after(seconds, queued) <= MAX_REST
    assert not rest.needed or (overloaded and max(gaps) >= LEAST_OTHERS)
