"""MLServer: one process for HTTP, and a worker process a core behind it. Raw bodies.

Its batches are of the V2 protocol's requests only, where an image is base64 in JSON; raw bodies
go to a handler of our own, one by one. Annotations of a handler are read as they stand: no
`annotations` from `__future__`.
"""

import asyncio
import sys
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import Body, Response
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.handlers import custom_handler
from mlserver.utils import install_uvloop_event_loop

from benchmarks.serving.peers.common import HOST, FullDepth, setting
from benchmarks.serving.peers.settings import WORKERS

JPEG = "image/jpeg"


class Classifier(MLModel):
    """The network at full depth."""

    async def load(self) -> bool:
        """In each worker."""
        self.model = FullDepth()
        return True

    @custom_handler(rest_path="/classify")
    async def classify(self, file: Annotated[bytes, Body(media_type=JPEG)]) -> Response:
        """One image file as the body; runs in a worker."""
        return Response(self.model.answer(file), media_type="application/json")


async def serve(port: int, folder: str) -> None:
    """Until a signal; gRPC, which cannot be switched off, gets any port of loopback."""
    server = MLServer(
        Settings(
            debug=False,
            parallel_workers=setting(WORKERS),
            host=HOST,
            http_port=port,
            grpc_port=0,
            metrics_endpoint=None,
            gzip_enabled=False,
            metrics_dir=folder,
            environments_dir=folder,
        )
    )
    await server.start([ModelSettings(name="classifier", implementation=Classifier)])


if __name__ == "__main__":
    install_uvloop_event_loop()
    with TemporaryDirectory() as scratch:
        asyncio.run(serve(int(sys.argv[1]), scratch))
