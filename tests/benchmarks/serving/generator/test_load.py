"""The generator against real servers on loopback."""

import asyncio
import threading
from collections import Counter
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from benchmarks.serving import accounting
from benchmarks.serving.accounting import account
from benchmarks.serving.generator.load import Load, send
from benchmarks.serving.generator.outcomes import HUNG_UP, NO_ANSWER, OK, closed, open_loop, poisson
from benchmarks.serving.mixture import asks, random_plan
from benchmarks.serving.offline import evaluate
from offramp.bundle.manifest import read_manifest
from serving.settings import cores
from tests.serving.servers import serving
from tests.serving.small_bundle import png, random_images, write_bundle

IMAGES = random_images(20, seed=3)
FILES = [png(image) for image in IMAGES]
ANSWER = b'{"answers": [{"index": 3, "probability": 0.5, "exit": 2, "flops": 7}]}'


@contextmanager
def scripted(*responses, heads=None):
    """A server that gives each connection these responses in turn, and then closes it.

    A response is a list of bytes to send and seconds to wait. `heads` gets those of requests.
    """
    loop, ports, over = asyncio.new_event_loop(), [], threading.Event()

    async def serve(reader, writer) -> None:
        with suppress(asyncio.IncompleteReadError), closing(writer):  # clients may hang up
            for response in responses:
                await answer(reader, writer, response)

    async def answer(reader, writer, response) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if heads is not None:
            heads.append(head)
        length = int(head.lower().split(b"content-length:")[1].split()[0])
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
        over.set()
        async with server:
            await stop.wait()

    stop = asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    assert over.wait(10)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


def response(body=ANSWER, status=b"200 OK", headers=b""):
    length = b"Content-Length: %d\r\n" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + length + headers + b"\r\n" + body


def plan(calls, **options):
    return replace(closed("/classify", calls, len(FILES), np.random.default_rng(0)), **options)


def test_answers_are_parsed_however_they_arrive() -> None:
    whole = response()
    parts = [part for i in range(0, len(whole), 9) for part in (whole[i : i + 9], 0.001)]
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    refused = response(b"{}", b"429 Too Many Requests")
    script = [[whole], parts, [chunked % (len(ANSWER), ANSWER)], [refused]]
    with scripted(*script) as port:
        found = send(FILES, plan(4), Load(port, 1)).outcomes
    assert found.status.tolist() == [200, 200, 200, 429]
    assert found.index.tolist() == [3, 3, 3, -1]
    assert found.exit.tolist() == [2, 2, 2, -1]
    assert found.flops.tolist() == [7, 7, 7, -1]
    assert found.probability[:3].tolist() == [0.5] * 3
    assert (found.done > found.sent).all()


def test_an_answer_behind_a_description_of_its_tensors_is_read() -> None:
    with scripted([response(b'{"outputs": [{"name": "{"}]}' + ANSWER)]) as port:
        found = send(FILES, plan(1), Load(port, 1)).outcomes
    assert (found.status[0], found.index[0], found.probability[0]) == (200, 3, 0.5)


def test_an_answer_may_end_in_a_line() -> None:
    with scripted([response(ANSWER + b"\n")]) as port:
        assert send(FILES, plan(1), Load(port, 1)).outcomes.index.tolist() == [3]


@pytest.mark.parametrize("body", [b"", ANSWER + ANSWER, ANSWER + b"?"])
def test_what_is_no_answer_is_an_error(body) -> None:
    with scripted([response(body)]) as port, pytest.raises(ValueError, match=r"document|Expecting"):
        send(FILES, plan(1), Load(port, 1))


def test_headers_go_with_every_request() -> None:
    heads = []
    with scripted([response()], [response()], heads=heads) as port:
        send(FILES, plan(2), Load(port, 1, headers={"X-Raw": "0"}))
    assert [head.count(b"\r\nX-Raw: 0\r\n") for head in heads] == [1, 1]


def test_a_server_that_closes_is_called_again_on_a_new_connection() -> None:
    with scripted([response(headers=b"Connection: close\r\n")]) as port:
        found = send(FILES, plan(5), Load(port, 2)).outcomes
    assert found.status.tolist() == [200] * 5


def test_a_connection_closed_while_idle_is_no_fault_of_the_call() -> None:
    with scripted([response()]) as port:
        found = send(FILES, plan(4), Load(port, 1)).outcomes
    assert found.status.tolist() == [200] * 4


def test_a_call_that_breaks_off_has_no_answer() -> None:
    with scripted([response()[:-9]]) as port:
        found = send(FILES, plan(2), Load(port, 1)).outcomes
    assert found.status.tolist() == [NO_ANSWER] * 2


def test_nobody_there_is_no_answer() -> None:
    found = send(FILES, plan(2), Load(1, 1)).outcomes
    assert found.status.tolist() == [NO_ANSWER] * 2


def test_a_stall_is_charged_to_all_that_were_due_in_it() -> None:
    due = np.linspace(0, 0.1, 11)
    with scripted([0.3, response()], *[[response()]] * 10) as port:
        found = send(FILES, plan(11, send=due), Load(port, 1)).outcomes
    assert found.answered.all()
    assert (found.latency > 0.3 - due - 0.01).all()
    assert (found.sent[1:] > 0.29).all()


def test_clients_hang_up_as_planned() -> None:
    hang_up = np.array([np.inf, 0.0, 0.01, np.inf])
    with scripted([0.1, response()]) as port:
        found = send(FILES, plan(4, hang_up=hang_up), Load(port, 4)).outcomes
    assert found.status.tolist() == [OK, HUNG_UP, HUNG_UP, OK]
    assert found.done[2] - found.sent[2] < 0.09


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundles") / "testnet")


def test_our_server_gives_what_the_bundle_says(bundle) -> None:
    manifest = read_manifest(bundle)
    opinions = evaluate(bundle, manifest, IMAGES)
    thresholds = manifest.budgets["medium"].thresholds
    exits = opinions.exits(thresholds)
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
        assert (found.index == opinions.index[exits, np.arange(20)][found.image]).all()
        assert 0 < report.cpu < report.wall * 1.1 * cores()  # the server is in this process too


def test_every_request_is_accounted_for(bundle) -> None:
    ways, rng = asks(read_manifest(bundle)), np.random.default_rng(0)
    calls = random_plan(ways, 1200, len(FILES), 400, rng)
    with serving(bundle, slots=16) as running:
        goals = account(bundle, FILES, partial(send, FILES), running.port, calls, ways)
    _, *exact = goals  # how many of each kind there are depends on the machine's speed
    assert len(exact) == 4
    for goal in exact:
        assert goal.met, goal


def test_a_wrong_count_or_answer_is_found(bundle) -> None:
    manifest, ways = read_manifest(bundle), asks(read_manifest(bundle))
    policies = [ask.policy(manifest) for ask in ways]
    opinions = evaluate(bundle, manifest, IMAGES)
    with serving(bundle) as running:
        full = closed(ways[0].path(), 50, len(FILES), np.random.default_rng(0))
        found = send(FILES, full, Load(running.port, 4)).outcomes
        samples = accounting.settled(running.port)
    assert accounting.check_answers(found, policies, opinions, manifest) == accounting.Checked(
        50, 0, 0
    )
    for field in ("index", "exit", "flops", "probability"):
        wrong = replace(found, **{field: getattr(found, field) + 1})
        assert accounting.check_answers(wrong, policies, opinions, manifest).wrong == 50
    budget = policies[0].name
    assert accounting.seen_by_server(samples) == Counter({(budget, "answered"): 50})
    assert accounting.seen_by_clients(found, policies) == accounting.seen_by_server(samples)
    assert found.status.tolist() == [OK] * 50
