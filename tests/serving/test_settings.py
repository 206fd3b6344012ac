import os

import pytest
from pydantic import ValidationError

from serving.settings import Settings


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("OFFRAMP_")]:
        monkeypatch.delenv(name)


def settings(*flags):
    return Settings(_cli_parse_args=["--bundle", "b", *flags])


def test_every_field_has_a_sentence_that_help_shows(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        settings("--help")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in shown
        assert field.description.split(";")[0][:40] in shown


def test_flags_beat_the_environment_which_beats_the_defaults(monkeypatch) -> None:
    monkeypatch.setenv("OFFRAMP_PORT", "81")
    monkeypatch.setenv("OFFRAMP_SLOTS", "82")
    read = settings("--port", "80")
    assert (read.port, read.slots, read.max_images) == (80, 82, 16)


def test_an_empty_variable_is_none(monkeypatch) -> None:
    monkeypatch.setenv("OFFRAMP_API_KEY", "")
    assert settings().api_key is None


@pytest.mark.parametrize(("provider", "batch"), [("cpu", 16), ("cuda", 64)])
def test_max_batch_goes_with_the_provider(provider, batch) -> None:
    assert settings("--provider", provider).max_batch == batch
    assert settings("--provider", provider, "--max-batch", "5").max_batch == 5


def test_threads_are_the_cores() -> None:
    assert settings().threads == len(os.sched_getaffinity(0))


def test_workers_share_the_cores(monkeypatch) -> None:
    monkeypatch.setattr("serving.settings.cores", lambda: 9)
    assert [settings("--workers", n).threads for n in ("1", "4", "64")] == [9, 2, 1]
    assert settings("--workers", "4", "--threads", "5").threads == 5
    monkeypatch.setenv("OFFRAMP_WORKERS", "3")
    assert (settings().workers, settings().threads) == (3, 3)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--port", "70000"), "port"),
        (("--threads", "0"), "threads"),
        (("--workers", "0"), "workers"),
        (("--provider", "tpu"), "provider"),
        (("--slots", "4"), "max_images (16) must be at most slots (4)"),
        (("--max-held-bytes", "9"), "must be at most max_held_bytes (9)"),
        (("--body-seconds", "0"), "body_seconds"),
    ],
)
def test_what_will_not_do_is_named(flags, says) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(*flags)
    assert says in str(caught.value)


def test_an_unknown_flag_is_refused(capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        settings("--budget", "low")
    assert caught.value.code == 2
    assert "--budget" in capsys.readouterr().err


def test_the_key_is_not_shown_and_nothing_changes_later() -> None:
    read = settings("--api-key", "secret")
    assert "secret" not in repr(read)
    with pytest.raises(ValidationError):
        read.port = 1


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
    ],
)
def test_origins_are_separated_by_commas(given, origins) -> None:
    assert settings("--cors-origins", given).origins == origins


@pytest.mark.parametrize(
    "flags",
    [
        *(
            ("--cors-origins", given)
            for given in ("shop.example", "https://a/", "https://a,*", "https://*.a", "null", ",")
        ),
        *(
            ("--root-path", given)
            for given in ("api", "/api/", "/", "//a", "/a b", "/a?b", "http://a")
        ),
    ],
)
def test_origins_and_prefixes_that_no_request_can_have_are_refused(flags) -> None:
    with pytest.raises(ValidationError, match=flags[0].strip("-").replace("-", "_")):
        settings(*flags)


@pytest.mark.parametrize("prefix", ["", "/api", "/a/b-c_d.e~1"])
def test_a_prefix_is_kept_as_given(prefix) -> None:
    assert settings("--root-path", prefix).root_path == prefix
