"""A file of rows is whole after any interruption, and never half used."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import DataError
from training.fit.features.store import Rows, Store, check_room

LENGTH, PIECE = 3, 4


def expected(rows: int) -> Rows:
    return np.arange(rows * LENGTH, dtype=np.float16).reshape(rows, LENGTH)


class Computation:
    """Computes rows in pieces, and is interrupted before piece `stop_at`."""

    def __init__(self, rows: int, stop_at: int | None = None) -> None:
        self.rows, self.stop_at = rows, stop_at
        self.computed: list[int] = []

    def __call__(self, first: int) -> Iterator[Rows]:
        for number, start in enumerate(range(first, self.rows, PIECE)):
            if number == self.stop_at:
                raise KeyboardInterrupt
            self.computed.append(start)
            yield expected(self.rows)[start : start + PIECE]


@settings(deadline=None, max_examples=50)
@given(rows=st.integers(1, 30), stops=st.lists(st.integers(0, 3), max_size=4), torn=st.binary())
def test_interruptions_change_nothing_and_no_piece_is_computed_twice(
    rows: int, stops: list[int], torn: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "rows.f16", rows, LENGTH)
        computed: list[int] = []
        for stop in stops:
            interrupted = Computation(rows, stop)
            try:
                store.complete(interrupted)
            except KeyboardInterrupt:
                with store.path.open("ab") as file:
                    file.write(torn)
            computed += interrupted.computed
        last = Computation(rows)
        found = store.complete(last)
        assert np.array_equal(found, expected(rows))
        assert computed + last.computed == list(range(0, rows, PIECE))


@pytest.mark.parametrize("state", ["", "{", "[]", '{"rows": "3"}', '{"rows": -1}', '{"rows": 99}'])
def test_a_damaged_state_is_as_none(tmp_path: Path, state: str) -> None:
    store = Store(tmp_path / "rows.f16", 10, LENGTH)
    store.complete(Computation(10))
    assert store.done() == 10
    store.state.write_text(state, encoding="utf-8")
    assert store.done() == 0
    assert np.array_equal(store.complete(again := Computation(10)), expected(10))
    assert again.computed == [0, 4, 8]


def test_rows_that_the_file_has_lost_are_computed_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "rows.f16", 10, LENGTH)
    store.complete(Computation(10))
    with store.path.open("r+b") as file:
        file.truncate(50)
    assert np.array_equal(store.complete(Computation(10)), expected(10))


def test_a_file_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "rows.f16", 10, LENGTH)

    assert np.array_equal(
        store.complete(lambda first: compute_then_refuse(store, first)), expected(10)
    )


def compute_then_refuse(store: Store, first: int) -> Iterator[Rows]:
    with pytest.raises(DataError, match=r"another run writes .*rows\.f16"):
        store.complete(Computation(10))
    yield expected(10)[first:]


def test_files_that_the_disk_has_no_room_for_are_refused(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    store = Store(tmp_path / "new folder" / "rows.f16", free, LENGTH)
    with pytest.raises(DataError, match=r"--cache: the features take .* GB more, .* GB free"):
        check_room([store])
    small = Store(tmp_path / "rows.f16", 10, LENGTH)
    assert check_room([small, small]) == 2 * 10 * LENGTH * 2
