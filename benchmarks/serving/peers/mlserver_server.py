"""MLServer with one process for HTTP and one worker process per core. Raw bodies.

It batches requests of the V2 protocol only, where an image is base64 in JSON. Raw bodies go to a
custom handler, one by one. Annotations of a handler are read at run time, so `annotations` from
`__future__` would break it.
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
    """Network at full depth."""

    async def load(self) -> bool:
        """Load the network in each worker."""
        self.model = FullDepth()
        return True

    @custom_handler(rest_path="/classify")
    async def classify(self, file: Annotated[bytes, Body(media_type=JPEG)]) -> Response:
        """Classify the image file in the body. Runs in a worker."""
        return Response(self.model.answer(file), media_type="application/json")


async def serve(port: int, folder: str) -> None:
    """Serve until a signal. gRPC cannot be switched off and gets any free port of loopback."""
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
