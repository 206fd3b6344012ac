"""KServe: its model server, a process a core, each with one thread. Listens on all addresses.

The V1 protocol hands over a body that is not JSON as it is. The server has no batches.
"""

from __future__ import annotations

import logging
import sys
from functools import cache

from kserve import Model, ModelServer

from benchmarks.serving.peers.common import FullDepth, setting
from benchmarks.serving.peers.settings import WORKERS

logging.disable(logging.INFO)  # in each process: a line a request, and more

full = cache(FullDepth)  # in each process, which gets the model by pickle


class Classifier(Model):
    """The network at full depth."""

    def predict(self, payload: bytes, headers: dict[str, str] | None = None) -> bytes:  # noqa: ARG002
        """One image file as the body."""
        return full().answer(payload)


if __name__ == "__main__":
    model = Classifier("classifier")
    model.ready = True
    ModelServer(
        http_port=int(sys.argv[1]),
        workers=setting(WORKERS),
        enable_grpc=False,
        enable_latency_logging=False,
    ).start([model])
