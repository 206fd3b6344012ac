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


def test_every_attribute_used_is_listed() -> None:
    own = vars(Connection).keys() - EXTENDED.keys() | Connection.__annotations__.keys()
    used = attributes_of("self", Connection) - own
    assert used == {name.partition(".")[0] for name in USED}
    assert attributes_of("super()", Connection) == EXTENDED.keys()
    for name in USED:
        owner, _, attribute = name.partition(".")
        assert not attribute or attribute in attributes_of(f"self.{owner}", Connection), name


def test_every_attribute_listed_is_on_a_connection(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(4096).startswith(STATUS_LINE[200])
        live = [each for each in server.server.server_state.connections if type(each) is Connection]
        assert live
        for each in live:
            for name in USED:
                attrgetter(name)(each)
    for name in EXTENDED:
        assert callable(vars(HttpToolsProtocol)[name]), name
        assert name in vars(Connection), name


def test_a_fast_cycle_has_each_attribute_that_uvicorn_reads() -> None:
    cycle = FastCycle(keep_alive=True)
    normal = {"body", "more_body"}  # only read for a request on the normal path
    read = attributes_of("self.cycle", HttpToolsProtocol)
    assert "response_complete" in read
    assert all(hasattr(cycle, name) for name in read - normal), read


def test_the_limit_of_a_head_is_that_of_an_idle_connection() -> None:
    assert connection.HEAD_SECONDS == KEEP_ALIVE
