import errno
import os
from pathlib import Path

import pytest

from offramp.errors import UnwritableFileError
from offramp.writing import check_folder, new_folder, replaced, write_text


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for text in ("one", "two\r\n"):
        write_text(path, text)
        assert path.read_bytes() == text.encode()
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_after_an_error_the_file_before_stays_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a"
    write_text(path, "before")
    expected = UnwritableFileError if isinstance(error, OSError) else KeyboardInterrupt

    def fail() -> None:
        with replaced(path, durable=True) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(expected) as raised:
        fail()
    if isinstance(error, OSError):
        assert str(raised.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFileError, match=r"gone/a: cannot be written: No such file"):
        write_text(tmp_path / "gone" / "a", "text")


def test_a_place_is_checked_and_nothing_is_written(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / "deep", "--out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "deep"):
        with pytest.raises(UnwritableFileError, match=r"^--out: .*file is not a folder"):
            check_folder(path, "--out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableFileError, match="is read-only"):
        check_folder(tmp_path / "new", "--out")


def test_one_process_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with new_folder(path) as partial:
        (partial / "a").touch()
        with pytest.raises(UnwritableFileError, match="folder: another process"), new_folder(path):
            pass
    assert [each.name for each in path.iterdir()] == ["a"]
    with pytest.raises(UnwritableFileError, match="not empty"), new_folder(path):
        pass
    assert [each.name for each in path.parent.iterdir()] == ["folder"]


def test_what_is_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / ".a.partial").touch()
    says = r"\.a\.partial: cannot be written: File exists"
    with pytest.raises(UnwritableFileError, match=says), new_folder(tmp_path / "a"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == [".a.partial"]


def test_a_folder_of_another_with_a_similar_name_stays(tmp_path: Path) -> None:
    (tmp_path / "a.partial").mkdir()
    with new_folder(tmp_path / "a"):
        pass
    assert {each.name for each in tmp_path.iterdir()} == {"a", "a.partial"}


def test_a_folder_is_written_where_there_are_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", flock)
    with new_folder(tmp_path / "folder"):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
