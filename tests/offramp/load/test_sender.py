"""The load generator against real servers on loopback."""

from __future__ import annotations

import asyncio
import threading
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import accounting
from benchmarks.serving.accounting import account
from benchmarks.serving.mixture import all_queries, random_plan
from benchmarks.serving.offline import evaluate
from offramp.bundle.manifest import read_manifest
from offramp.cores import cores
from offramp.errors import TransportError
from offramp.load.outcomes import (
    HUNG_UP,
    NO_ANSWER,
    OK,
    Plan,
    closed,
    open_loop,
    poisson,
)
from offramp.load.sender import Load, send
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images, write_bundle

IMAGES = random_images(20, seed=3)
FILES = [png(image) for image in IMAGES]
ANSWER = b'{"answers": [{"index": 3, "probability": 0.5, "exit": 2, "flops": 7}]}'


@contextmanager
def scripted(
    *responses: Sequence[bytes | float], requests: list[bytes] | None = None
) -> Iterator[int]:
    """Start a server that sends each connection these responses in turn, and then closes it.

    A response is a sequence of bytes to send and seconds to sleep. The header blocks of the
    requests are appended to `requests`. Gives the port.
    """
    loop, ports, started = asyncio.new_event_loop(), list[int](), threading.Event()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError), closing(writer):  # clients can hang up
            for response in responses:
                await respond(reader, writer, response)

    async def respond(
        reader: StreamReader, writer: StreamWriter, response: Sequence[bytes | float]
    ) -> None:
        block = await reader.readuntil(b"\r\n\r\n")
        if requests is not None:
            requests.append(block)
        length = int(block.lower().split(b"content-length:")[1].split()[0])
        await reader.readexactly(length)
        for part in response:
            if isinstance(part, float):
                await asyncio.sleep(part)
            else:
                writer.write(part)
                await writer.drain()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ports.append(server.sockets[0].getsockname()[1])
        started.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert started.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def response(body: bytes = ANSWER, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + length + headers + b"\r\n" + body


def plan(requests: int, **options: Any) -> Plan:
    made = closed("/classify", requests, len(FILES), np.random.default_rng(0))
    return replace(made, **options)


def test_answers_are_parsed_in_one_piece_in_parts_and_in_chunks() -> None:
    whole = response()
    parts: list[bytes | float] = []
    for i in range(0, len(whole), 9):
        parts += [whole[i : i + 9], 0.001]
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    refused = response(b"{}", b"429 Too Many Requests")
    script: list[list[bytes | float]] = [
        [whole],
        parts,
        [chunked % (len(ANSWER), ANSWER)],
        [refused],
    ]
    with scripted(*script) as port:
        found = send(FILES, plan(4), Load(port, 1)).outcomes
    assert found.status.tolist() == [200, 200, 200, 429]
    assert found.index.tolist() == [3, 3, 3, -1]
    assert found.exit.tolist() == [2, 2, 2, -1]
    assert found.flops.tolist() == [7, 7, 7, -1]
    assert found.probability[:3].tolist() == [0.5] * 3
    assert (found.done > found.sent).all()


def test_an_answer_after_a_description_of_its_tensors_is_read() -> None:
    with scripted([response(b'{"outputs": [{"name": "{"}]}' + ANSWER)]) as port:
        found = send(FILES, plan(1), Load(port, 1)).outcomes
    assert (found.status[0], found.index[0], found.probability[0]) == (200, 3, 0.5)


def test_an_answer_can_end_with_a_newline() -> None:
    with scripted([response(ANSWER + b"\n")]) as port:
        assert send(FILES, plan(1), Load(port, 1)).outcomes.index.tolist() == [3]


@pytest.mark.parametrize("body", [b"", ANSWER + ANSWER, ANSWER + b"?"])
def test_a_body_that_is_not_one_answer_is_an_error(body: bytes) -> None:
    with scripted([response(body)]) as port, pytest.raises(TransportError, match="no answer"):
        send(FILES, plan(1), Load(port, 1))


def test_every_request_has_the_headers() -> None:
    requests: list[bytes] = []
    with scripted([response()], [response()], requests=requests) as port:
        send(FILES, plan(2), Load(port, 1, headers={"X-Raw": "0"}))
    assert [block.count(b"\r\nX-Raw: 0\r\n") for block in requests] == [1, 1]


def test_requests_continue_on_a_new_connection_after_the_server_closes() -> None:
    with scripted([response(headers=b"Connection: close\r\n")]) as port:
        found = send(FILES, plan(5), Load(port, 2)).outcomes
    assert found.status.tolist() == [200] * 5


def test_a_request_on_a_connection_closed_while_idle_is_sent_again() -> None:
    with scripted([response()]) as port:
        found = send(FILES, plan(4), Load(port, 1)).outcomes
    assert found.status.tolist() == [200] * 4


def test_a_response_that_breaks_off_is_no_answer() -> None:
    with scripted([response()[:-9]]) as port:
        found = send(FILES, plan(2), Load(port, 1)).outcomes
    assert found.status.tolist() == [NO_ANSWER] * 2


def test_a_later_response_that_breaks_off_is_no_answer() -> None:
    with scripted([response()], [response()[:-9]]) as port:
        found = send(FILES, plan(4), Load(port, 1)).outcomes
    assert found.status.tolist() == [OK, NO_ANSWER] * 2


def test_a_refused_connection_is_no_answer() -> None:
    found = send(FILES, plan(2), Load(1, 1)).outcomes
    assert found.status.tolist() == [NO_ANSWER] * 2


def test_a_stall_is_charged_to_every_request_that_was_due_meanwhile() -> None:
    due = np.linspace(0, 0.1, 11)
    with scripted([0.3, response()], *[[response()]] * 10) as port:
        found = send(FILES, plan(11, send=due), Load(port, 1)).outcomes
    assert found.answered.all()
    assert (found.latency > 0.3 - due - 0.01).all()
    assert (found.sent[1:] > 0.29).all()


def test_clients_hang_up_as_planned() -> None:
    hang_up = np.array([np.inf, 0.0, 0.01, np.inf])
    with scripted([1.0, response()]) as port:
        found = send(FILES, plan(4, hang_up=hang_up), Load(port, 4)).outcomes
    assert found.status.tolist() == [OK, HUNG_UP, HUNG_UP, OK]
    assert found.done[2] - found.sent[2] < 0.9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "testnet")


def test_answers_of_our_server_equal_the_offline_evaluation(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    expected = evaluate(bundle, manifest, IMAGES)
    thresholds = manifest.budgets["medium"].thresholds
    exits = expected.exits(thresholds)
    rng = np.random.default_rng(0)
    times = poisson(300, 1, rng)
    with serving(bundle) as running:
        path = "/classify?budget=medium"
        arrived = send(FILES, open_loop(path, times, 20, rng), Load(running.port, 64))
        looped = send(FILES, closed(path, 200, 20, rng), Load(running.port, 8))
        timed = send(FILES, closed(path, 10**6, 20, rng), Load(running.port, 8, seconds=0.3))
    assert len(arrived.outcomes) == len(times)
    assert len(looped.outcomes) == 200
    assert 0 < len(timed.outcomes) < 10**6
    for report in (arrived, looped, timed):
        found = report.outcomes
        assert found.answered.all()
        assert (found.exit == exits[found.image] + 1).all()
        assert (found.index == expected.index[exits, np.arange(20)][found.image]).all()
        assert 0 < report.cpu < report.wall * 1.1 * cores()  # the server runs in this process too


def test_every_request_is_accounted_for(bundle: Path) -> None:
    queries, rng = all_queries(read_manifest(bundle)), np.random.default_rng(0)
    mixture = random_plan(queries, 1200, len(FILES), 400, rng)
    with serving(bundle, slots=16) as running:
        goals = account(bundle, FILES, partial(send, FILES), running.port, mixture, queries)
    _, *exact = goals  # the number of each outcome depends on the machine's speed
    assert len(exact) == 4
    for goal in exact:
        assert goal.met, goal


def test_a_wrong_count_or_answer_is_found(bundle: Path) -> None:
    manifest, queries = read_manifest(bundle), all_queries(read_manifest(bundle))
    policies = [query.policy(manifest) for query in queries]
    expected = evaluate(bundle, manifest, IMAGES)
    with serving(bundle) as running:
        full = closed(queries[0].path(), 50, len(FILES), np.random.default_rng(0))
        found = send(FILES, full, Load(running.port, 4)).outcomes
        samples = accounting.settled(running.port)
    assert accounting.check_answers(found, policies, expected, manifest) == accounting.Checked(
        50, 0, 0
    )
    for field in ("index", "exit", "flops", "probability"):
        wrong = replace(found, **{field: getattr(found, field) + 1})
        assert accounting.check_answers(wrong, policies, expected, manifest).wrong == 50
    budget = policies[0].name
    assert accounting.seen_by_server(samples) == Counter({(budget, "answered"): 50})
    assert accounting.seen_by_clients(found, policies) == accounting.seen_by_server(samples)
    assert found.status.tolist() == [OK] * 50
