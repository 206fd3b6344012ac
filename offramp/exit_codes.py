"""Exit codes of every command: 0, 1 for a refusal, 2 for usage, 130 for Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable

from offramp.errors import OfframpError, UsageError

REFUSED = 1
USAGE = 2
INTERRUPTED = 130
OURS = frozenset({"exporter", "offramp", "serving", "training"})


def exit_code(work: Callable[[], None], *, extra: str, stopped: str = "stopped") -> int:
    """Run a command, and return its exit code. An error is one line on standard error.

    Args:
        work: The command. It reads its options, and imports late what is slow to import.
        extra: Extra of this package that the command needs, for the error text.
        stopped: Text that is shown after Ctrl-C. An empty text shows nothing.

    Raises:
        ModuleNotFoundError: A module of this package is missing.
    """
    try:
        work()
    except UsageError as error:
        return _fail(USAGE, f"error: {error}")
    except (OfframpError, OSError) as error:
        return _fail(REFUSED, f"error: {error}")
    except ModuleNotFoundError as error:
        return _fail(REFUSED, f"error: {missing_extra(error, extra)}")
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, stopped)
    return 0


def missing_extra(error: ModuleNotFoundError, extra: str) -> str:
    """Return a sentence that names the extra to install, or raise `error` if no extra helps."""
    module = (error.name or "").partition(".")[0]
    if module in OURS or not module:
        raise error
    if module == "onnxruntime":
        name = "cpu" if extra == "serving" else f"{extra},cpu"
        wanted = f"{extra},{name}" if extra == "serving" else name
        return (
            f'{extra} needs the extra "cpu" (with an NVIDIA GPU: "gpu"): '
            f"pip install 'offramp[{wanted}]'"
        )
    return f"{extra} needs the extra \"{extra}\": pip install 'offramp[{extra}]'"


def _fail(code: int, text: str) -> int:
    if text:
        sys.stderr.write(f"{' '.join(text.split())}\n")
    return code
