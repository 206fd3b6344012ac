from __future__ import annotations

from collections import Counter

from benchmarks.serving.reload.changes import Change, script


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
