"""Exit codes of every command: 0, 1 for a refusal, 2 for usage, 130 for Ctrl-C, 143 for SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from offramp.errors import OfframpError, UsageError

REFUSED = 1
USAGE = 2
INTERRUPTED = 130
TERMINATED = 143
OURS = frozenset({"exporter", "offramp", "serving", "training"})


class Terminated(BaseException):
    """SIGTERM came. Like KeyboardInterrupt, it is no error, and files and processes are closed."""


def exit_code(
    work: Callable[[], None], *, extra: str, stopped: str = "stopped", own_signals: bool = False
) -> int:
    """Run a command, and return its exit code. An error is one line on standard error.

    Args:
        work: The command. It reads its options, and imports late what is slow to import.
        extra: Extra of this package that the command needs, for the error text.
        stopped: Text that is shown after Ctrl-C or SIGTERM. An empty text shows nothing.
        own_signals: True for a command that handles SIGTERM itself.

    Raises:
        ModuleNotFoundError: A module of this package is missing.
    """
    try:
        with _terminable(own_signals=own_signals):
            work()
            _flush()
    except UsageError as error:
        return _fail(USAGE, f"error: {error}")
    except (OfframpError, OSError) as error:
        with suppress(OSError):
            _flush()
        return _fail(REFUSED, f"error: {error}")
    except ModuleNotFoundError as error:
        return _fail(REFUSED, f"error: {missing_extra(error, extra)}")
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, stopped)
    except Terminated:
        return _fail(TERMINATED, stopped)
    return 0


@contextmanager
def _terminable(*, own_signals: bool) -> Iterator[None]:
    """Raise Terminated at the first SIGTERM. A second one ends the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if own_signals or before is not signal.SIG_DFL or not in_main_thread:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def _flush() -> None:
    """Write what is buffered for standard output, so that an error is noticed.

    Raises:
        OSError: It cannot be written. It is dropped, or the interpreter would fail at its end.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OSError(f"standard output cannot be written: {error.strerror}") from error


def missing_extra(error: ModuleNotFoundError, extra: str) -> str:
    """Return a sentence that names the extra to install, or raise `error` if no extra helps."""
    module = (error.name or "").partition(".")[0]
    if module in OURS or not module:
        raise error
    if module == "onnxruntime":
        return (
            f'{extra} needs the extra "cpu" (with an NVIDIA GPU: "gpu"): '
            f"pip install 'offramp[{extra},cpu]'"
        )
    return f"{extra} needs the extra \"{extra}\": pip install 'offramp[{extra}]'"


def _fail(code: int, text: str) -> int:
    if text:
        sys.stderr.write(f"{' '.join(text.split())}\n")
    return code
