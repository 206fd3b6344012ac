"""Parts of prometheus_client that it does not export from its package, each with the reason.

A new version can change them. `pyproject.toml` therefore bounds the version, and a test
checks each part. Other modules import them from here only.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import values
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

__all__ = ["choose_encoder", "floatToGoString", "write_metrics_of_worker"]

# `choose_encoder` selects the text format by the header `Accept`, as the package's own app does.
# `floatToGoString` formats bucket bounds as the package's own histograms do.


def write_metrics_of_worker(number: Callable[[], int]) -> None:
    """Name the files of this process's metrics by worker number instead of process id.

    A metric looks up `values.ValueClass` when it is created. The documented multiprocess mode
    has no other way to replace the process id. Needs `PROMETHEUS_MULTIPROC_DIR`.
    """
    values.ValueClass = values.MultiProcessValue(number)
