from __future__ import annotations

from serving.processes.environment import key_warnings, unknown_variables


def test_a_key_without_white_space_around_it_gives_no_warning() -> None:
    assert not list(key_warnings({"OFFRAMP_API_KEY": "a key", "OFFRAMP_HOST": "x\n"}))


def test_unknown_variables_are_listed_with_the_nearest_name() -> None:
    names = ["PATH", "OFFRAMP_PORT", "offramp_slots", "OFFRAMP_MAX_BATCHES", "OFFRAMP_XYZ"]
    assert list(unknown_variables(names)) == [
        "OFFRAMP_MAX_BATCHES is not a setting and has no effect; did you mean OFFRAMP_MAX_BATCH?",
        "OFFRAMP_XYZ is not a setting and has no effect; offramp serve --help lists them",
    ]
