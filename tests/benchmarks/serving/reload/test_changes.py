from __future__ import annotations

import socketserver
from collections import Counter
from pathlib import Path
from threading import Thread

from benchmarks.serving.reload.changes import Change, Changer, script
from benchmarks.serving.reload.models import Versions
from offramp.load.connection import HOST
from offramp.load.outcomes import NO_ANSWER
from tests.serving.small_bundle import write_bundle

NO_PROCESS = -1


def test_the_script_has_the_changes_that_were_asked_for() -> None:
    kinds = list(script(50, 10, kill=True))
    assert Counter(kinds) == {"reload": 48, "kill": 2, "corrupt": 5, "rollback": 10}
    assert "kill" not in list(script(50, 10, kill=False))
    first = kinds.index("rollback")
    assert kinds[:first] == ["reload"] * first


def test_a_corrupt_version_must_be_refused() -> None:
    assert Change("reload", 200, 0.1).right
    assert not Change("rollback", 422, 0.1).right
    assert Change("corrupt", 422, 0.1).right
    assert not Change("corrupt", 200, 0.1).right


class Resets(socketserver.BaseRequestHandler):
    """Closes every other connection without an answer."""

    calls = 0

    def handle(self) -> None:
        Resets.calls += 1
        self.request.recv(65536)
        if Resets.calls % 2 == 0:
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_only_a_call_to_a_killed_worker_is_sent_again(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "models", write_bundle(tmp_path / "testnet"))
    with socketserver.TCPServer((HOST, 0), Resets) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        changer = Changer(server.server_address[1], NO_PROCESS, "key", versions)
        assert changer.make("kill").right
        lost = changer.make("reload")
        server.shutdown()
    assert (lost.status, lost.right) == (NO_ANSWER, False)
