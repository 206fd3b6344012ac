from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from offramp.command_line.options import read_options
from offramp.cores import cores
from offramp.errors import UsageError
from serving.processes.environment import key_warnings
from serving.settings import ENVIRONMENT, Settings


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OFFRAMP_")]:
        monkeypatch.delenv(name)


def settings(*flags: str) -> Settings:
    return read_options(Settings, ["--bundle", "b", *flags], "offramp serve", ENVIRONMENT)


def test_every_field_has_a_sentence_that_help_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        settings("--help")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description is not None
        assert field.description in shown


def test_help_shows_defaults_choices_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings("--help")
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "--order {deepest,fullest}",
        "--rebatch {true,false}",
        "in milliseconds (default: 100)",
        "in seconds (default: 30)",
        "in bytes (default: 16777216)",
        "(default: 16 on cpu, 64 on cuda)",
        "(default: cores / workers)",
        "as `offramp export` writes it (default: null)",
        "OFFRAMP_MAX_BATCH sets --max-batch",
    ):
        assert text in shown


def test_flags_beat_the_environment_which_beats_the_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OFFRAMP_PORT", "81")
    monkeypatch.setenv("OFFRAMP_SLOTS", "82")
    read = settings("--port", "80")
    assert (read.port, read.slots, read.max_images) == (80, 82, 16)


def test_the_bundle_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_BUNDLE", "somewhere")
    assert str(read_options(Settings, [], "offramp serve").bundle) == "somewhere"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_API_KEY", "")
    assert settings().api_key is None


@pytest.mark.parametrize(("text", "value"), [("false", False), ("true", True), ("0", False)])
def test_rebatch_takes_a_value(text: str, value: object) -> None:
    assert settings("--rebatch", text).rebatch is value
    assert settings(f"--rebatch={text}").rebatch is value


@pytest.mark.parametrize(("provider", "batch"), [("cpu", 16), ("cuda", 64)])
def test_max_batch_goes_with_the_provider(provider: str, batch: int) -> None:
    assert settings("--provider", provider).max_batch == batch
    assert settings("--provider", provider, "--max-batch", "5").max_batch == 5


def test_threads_are_the_cores() -> None:
    assert settings().threads == cores()


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.settings.cores", lambda: 9)
    assert [settings("--workers", n).threads for n in ("1", "4", "64")] == [9, 2, 1]
    assert settings("--workers", "4", "--threads", "5").threads == 5
    monkeypatch.setenv("OFFRAMP_WORKERS", "3")
    assert (settings().workers, settings().threads) == (3, 3)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--port", "70000"), "--port: 70000: input should be less than or equal to 65535"),
        (("--threads", "0"), "--threads: 0: "),
        (("--workers", "0"), "--workers: 0: "),
        (("--provider", "tpu"), "--provider: tpu: input should be 'cpu' or 'cuda'"),
        (("--slots", "4"), "max_images (16) must be at most slots (4)"),
        (("--max-held-bytes", "9"), "must be at most max_held_bytes (9)"),
        (("--body-seconds", "0"), "--body-seconds: 0: "),
        (("--body-seconds", "inf"), "--body-seconds: inf: input should be less than or equal to"),
        (("--drain-seconds", "10000000000"), "should be less than or equal to 86400"),
        (("--host", ""), "--host: : the address is empty, which would be every address"),
        (("--host", " "), "Give 127.0.0.1 to listen on this machine only, or 0.0.0.0 for every"),
        (("--budget", "low"), "--budget: no such option"),
        (("--max_batch", "4"), "--max_batch: no such option; did you mean --max-batch?"),
        (("--port",), "--port: a value is missing"),
        (("other",), "other: not expected here; see --help"),
    ],
)
def test_a_wrong_option_is_named(flags: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings(*flags)
    assert says in str(caught.value)


def test_a_wrong_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_PORT", "x")
    with pytest.raises(UsageError, match=r"^OFFRAMP_PORT: x: input should be a valid integer"):
        settings()


def test_the_key_is_not_shown_and_nothing_changes_later() -> None:
    read = settings("--api-key", "secret")
    assert "secret" not in repr(read)
    with pytest.raises(ValidationError):
        read.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("text", ["key\n", "key\r\n", " key", "\tkey \n\n"])
def test_white_space_around_the_key_is_removed_with_a_warning(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFFRAMP_API_KEY", text)
    key = settings().api_key
    assert key is not None
    assert key.get_secret_value() == "key"
    (warning,) = key_warnings(os.environ)
    assert warning.startswith("OFFRAMP_API_KEY begins or ends with white space")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("\n", "has only white space"),
        (" \t\r\n", "has only white space"),
        ("schlüssel", "outside ASCII"),
        ("key\nkey", "has a control character"),
        ("key\x7f", "has a control character"),
        ("\x00key", "has a control character"),
        ("key\udcff", "outside ASCII"),  # a byte of the environment that is not UTF-8
    ],
)
@pytest.mark.parametrize("by_option", [False, True])
def test_a_key_that_clients_cannot_send_is_refused_and_not_shown(
    text: str, says: str, by_option: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--api-key", text) if by_option or "\x00" in text else ()
    if not flags:
        monkeypatch.setenv("OFFRAMP_API_KEY", text)
    with pytest.raises(UsageError, match="OFFRAMP_API_KEY") as caught:
        settings(*flags)
    assert says in str(caught.value)
    assert text.strip() not in str(caught.value) or not text.strip()


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("", ()),
        ("*", ("*",)),
        ("https://Shop.example", ("https://shop.example",)),
        (
            "http://localhost:3000 , https://[::1]:8443",
            ("http://localhost:3000", "https://[::1]:8443"),
        ),
        ("https://a:443,http://b:80", ("https://a", "http://b")),
        (
            "https://a:80,http://b:443,http://[::1]:80",
            ("https://a:80", "http://b:443", "http://[::1]"),
        ),
    ],
)
def test_origins_are_separated_by_commas(given: str, origins: tuple[str, ...]) -> None:
    assert settings("--cors-origins", given).origins == origins


@pytest.mark.parametrize(
    "flags",
    [
        *(
            ("--cors-origins", given)
            for given in ("shop.example", "https://a/", "https://a,*", "https://*.a", "null", ",")
        ),
        *(("--cors-origins", f"https://a:{port}") for port in ("0", "65536", "99999", "0443", "")),
        *(
            ("--otlp-endpoint", f"http://{given}")
            for given in ("[::1", "a:abc", "a:99999", ":4317", "a?x=1", "a:b:c", "a/b", "u@a", "")
        ),
        *(
            ("--root-path", given)
            for given in ("api", "/api/", "/", "//a", "/a b", "/a?b", "http://a", "/..", "/a/./b")
        ),
    ],
)
def test_origins_and_prefixes_that_no_request_can_have_are_refused(flags: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match=flags[0]):
        settings(*flags)


@pytest.mark.parametrize(
    "given", ["collector:4317", "otel_collector", "[::1]:1/", "10.0.0.1:65535"]
)
def test_a_receiver_of_traces_is_a_host_with_or_without_a_port(given: str) -> None:
    assert settings("--otlp-endpoint", f"http://{given}").otlp_endpoint == f"http://{given}"


def test_a_key_has_the_length_that_a_header_can_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFRAMP_API_KEY", "k" * 4096)
    assert settings().api_key
    monkeypatch.setenv("OFFRAMP_API_KEY", "k" * 4097)
    with pytest.raises(UsageError, match=r"OFFRAMP_API_KEY: .* at most 4096"):
        settings()


@pytest.mark.parametrize("prefix", ["", "/api", "/a/b-c_d.e~1"])
def test_a_prefix_is_kept_as_given(prefix: str) -> None:
    assert settings("--root-path", prefix).root_path == prefix


@pytest.mark.parametrize(("text", "share"), [("1%", 0.01), ("0.5", 0.5), ("100 %", 1), ("0", 0)])
def test_the_share_of_audits_can_be_a_percentage(text: str, share: float) -> None:
    assert settings("--audit", text).audit == pytest.approx(share)


@pytest.mark.parametrize("text", ["101%", "2", "-1%", "often%", "%"])
def test_a_share_that_is_not_one_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--audit"):
        settings(f"--audit={text}")
