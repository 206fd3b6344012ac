"""The internals of uvicorn that the server uses are there, and are named in one place."""

from __future__ import annotations

import ast
import inspect
import socket
import textwrap
from operator import attrgetter

from serving.http import connection
from serving.http.connection import Connection
from serving.http.uvicorn_internals import (
    EXTENDED,
    OF_CYCLE,
    REPLACED,
    STATUS_LINE,
    USED,
    FastCycle,
    HttpToolsProtocol,
)
from serving.processes.server import KEEP_ALIVE
from tests.internals import check_bounds, importers
from tests.serving.servers import Running


def attributes_of(name: str, owner: type) -> set[str]:
    """Return the attributes of a variable that the source of a class reads or writes."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == name
    }


def test_the_installed_version_is_within_bounds() -> None:
    check_bounds("uvicorn")


def test_one_module_imports_the_protocol() -> None:
    assert importers("uvicorn.protocols") == {"serving/http/uvicorn_internals.py"}


def own_classes() -> list[type]:
    """Return `Connection` and its bases, up to uvicorn's protocol."""
    classes = Connection.__mro__
    return list(classes[: classes.index(HttpToolsProtocol)])


def used_on(name: str) -> set[str]:
    return set().union(*(attributes_of(name, each) for each in own_classes()))


def test_every_attribute_used_is_listed() -> None:
    methods = EXTENDED.keys() | REPLACED.keys()
    defined = set[str]().union(*(vars(each) for each in own_classes()))
    declared = set[str]().union(*(inspect.get_annotations(each) for each in own_classes()))
    named = {name.partition(".")[0] for name in USED}
    own = (defined | declared) - methods
    assert used_on("self") - own == named
    assert used_on("super()") - own == EXTENDED.keys()
    assert used_on("self.cycle") | {"response_complete"} == OF_CYCLE.keys()  # read by getattr
    for name in USED:
        owner, _, attribute = name.partition(".")
        assert not attribute or attribute in used_on(f"self.{owner}"), name


def test_every_attribute_listed_is_on_a_connection(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(STATUS_LINE[200])
        live = [each for each in server.server.server_state.connections if type(each) is Connection]
        assert live
        for each in live:
            for name in USED:
                attrgetter(name)(each)
            for name in OF_CYCLE:
                attrgetter(name)(each.cycle)
    for name in EXTENDED.keys() | REPLACED.keys():
        assert callable(vars(HttpToolsProtocol)[name]), name
        assert any(name in vars(each) for each in own_classes()), name


def test_a_fast_cycle_has_each_attribute_that_uvicorn_reads() -> None:
    cycle = FastCycle(keep_alive=True)
    normal = {"body", "more_body"}  # only read for a request on the normal path
    read = attributes_of("self.cycle", HttpToolsProtocol)
    assert "response_complete" in read
    assert all(hasattr(cycle, name) for name in read - normal), read


def test_the_limit_of_a_head_is_that_of_an_idle_connection() -> None:
    assert connection.HEAD_SECONDS == KEEP_ALIVE
