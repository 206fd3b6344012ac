"""The example of a proxy in front of the server."""

import re
import shutil
from pathlib import Path

import pytest

from deploy.nginx import check, proxy
from serving.http.problems import problem_types
from serving.settings import Settings

TEXT = proxy.EXAMPLE.read_text()
UNITS = {"k": 1 << 10, "m": 1 << 20, "s": 1}


def value(directive: str) -> int:
    """Return the last value of a directive, in bytes or seconds."""
    (found,) = re.findall(rf"^ *{directive} (?:\d+ )?(\d+)([kms]);", TEXT, re.MULTILINE)
    return int(found[0]) * UNITS[found[1]]


def test_bounds_are_at_most_those_of_the_server() -> None:
    default = {name: field.default for name, field in Settings.model_fields.items()}
    assert value("client_max_body_size") == default["max_body_bytes"] == check.LARGEST_BODY
    assert value("large_client_header_buffers") == check.LINE
    assert value("client_body_timeout") <= default["body_seconds"]
    assert value("client_header_timeout") <= 75


def test_limits_of_the_example_are_stated() -> None:
    limits = (proxy.EXAMPLE.parents[2] / "docs" / "limits.md").read_text()
    for directive in (
        "large_client_header_buffers",
        "client_max_body_size",
        "client_header_timeout",
    ):
        (line,) = re.findall(rf"^ *({directive} [^;]*);", TEXT, re.MULTILINE)
        assert f"`{line}`" in limits


def test_refusals_have_types_and_statuses_of_the_server() -> None:
    types = {(status, name) for status, names in problem_types().items() for name in names}
    refusals = re.findall(r"return (\d+) '\{\"type\":\"/problems/([\w-]+)\"", TEXT)
    assert len(refusals) == 5
    assert {(int(status), name) for status, name in refusals} - types == {(404, "not-found")}


@pytest.mark.skipif(shutil.which("nginx", path="/usr/sbin:/usr/bin") is None, reason="needs nginx")
def test_a_real_nginx_gives_the_servers_answers_and_problems(tmp_path: Path) -> None:
    assert check.run_check(tmp_path) == []


def test_an_example_without_the_lines_to_replace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "server 127.0.0.1:1;" in proxy.configured("127.0.0.1:1", 2)
    assert "listen 127.0.0.1:2;" in proxy.configured("127.0.0.1:1", 2)
    other = tmp_path / "other.conf"
    other.write_text(TEXT.replace("listen 80;", "listen 81;"))
    monkeypatch.setattr(proxy, "EXAMPLE", other)
    with pytest.raises(ValueError, match="no line `listen 80;`"):
        proxy.configured("127.0.0.1:1", 2)
