"""Keep tests out of the user's caches, turn telemetry off, and let Ctrl-C reach children.

Examples of Hypothesis have no time limit: other processes use the machine too. They are the same
in every run, so that a red suite tells about the change, and half as many as
`HYPOTHESIS_PROFILE=random` draws, so that the suite stays short.
"""

import gc
import os
import signal
import tempfile

import pytest
from hypothesis import HealthCheck, settings

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers use the cache of the process that starts them
    _cache = tempfile.TemporaryDirectory(prefix="offramp-tests-")
    os.environ["HF_HOME"] = _cache.name
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "same", settings.get_profile("random"), derandomize=True, database=None, max_examples=50
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# Background jobs ignore SIGINT, and `nohup` SIGHUP. Every child would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests marked `early` first: at the end, each idle worker would set their fixture up."""
    items.sort(key=lambda item: item.get_closest_marker("early") is None)


def pytest_collection_finish() -> None:
    """Keep what is imported by now out of all garbage collections: it is some million objects."""
    gc.collect()
    gc.freeze()
