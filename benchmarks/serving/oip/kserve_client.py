"""Check KServe's REST and gRPC clients. Runs in the clients' environment."""

from __future__ import annotations

import asyncio
import base64
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from benchmarks.serving.oip.checks import (
    NAMES,
    Outputs,
    Task,
    check_all,
    check_error,
    check_true,
    read_task,
)

Send = Callable[..., Awaitable[Any]]
logging.disable(logging.ERROR)  # the client logs each error that it raises


def request_of(task: Task, images: Any, *, binary: bool = True, **options: Any) -> Any:
    """Return a request with image files or pixels."""
    if isinstance(images, np.ndarray):
        tensor, values = InferInput("image", list(images.shape), "UINT8"), images
    else:
        tensor = InferInput("image", [len(images), 1], "BYTES")
        values = np.array(images, dtype=object).reshape(-1, 1)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return InferRequest(options.pop("model", task.model), [tensor], **options)


def arrays(response: Any) -> Outputs:
    """Return all outputs of a response."""
    return {each.name: each.as_numpy() for each in response.outputs}


def check(name: str, task: Task, send: Send, run: Callable[[Awaitable[Any]], Any]) -> list[bool]:
    """Run the checks that both protocols have.

    Args:
        name: Name of the client.
        task: Images and answers.
        send: Function that sends a request, and by `key` another key.
        run: Function that runs a coroutine.
    """

    def infer(images: Any) -> Outputs:
        return arrays(run(send(request_of(task, images))))

    def outputs() -> bool:
        wanted = [RequestedOutput(each) for each in ("exit", "label")]
        response = run(send(request_of(task, first, request_outputs=wanted)))
        return [each.name for each in response.outputs] == ["exit", "label"]

    first = list(task.files[:1])
    found = [
        check_all(f"{name} BYTES", task, infer),
        check_all(f"{name} UINT8", task, infer, pixels=True),
        check_true(f"{name} outputs", outputs()),
        check_true(f"{name} all outputs", list(infer(first)) == list(NAMES)),
    ]
    plain = request_of(task, first)
    unknown = request_of(task, first, parameters={"buget": "low"})
    cheap = request_of(task, first, parameters={"budget": "cheap"})
    other = request_of(task, first, model="other")
    junk = request_of(task, [b"?"])
    errors: dict[str, tuple[Callable[[], object], str]] = {
        "not an image": (lambda: run(send(junk)), "this is not a JPEG"),
        "unknown parameter": (lambda: run(send(unknown)), "'buget'"),
        "wrong budget": (lambda: run(send(cheap)), "'cheap' is not one of"),
        "unknown model": (lambda: run(send(other)), "there is no model 'other'"),
        "no key": (lambda: run(send(plain, key="wrong")), "the API key is missing or wrong"),
    }
    return found + [check_error(f"{name} {kind}", *each) for kind, each in errors.items()]


async def rest(task: Task, loop_run: Callable[[Awaitable[Any]], Any]) -> list[bool]:
    """Check the REST client."""
    url = f"http://{task.http}"
    client = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def send(request: Any, key: str = task.key) -> Any:
        headers = {"authorization": f"Bearer {key}"}
        return await client.infer(url, request, model_name=request.model_name, headers=headers)

    def json_only(files: list[bytes]) -> Outputs:
        encoded = [base64.b64encode(file) for file in files]
        return arrays(loop_run(send(request_of(task, encoded, binary=False))))

    ready = await client.is_server_ready(url) and await client.is_server_live(url)
    found = [
        check_true("kserve REST live, ready", ready),
        check_true("kserve REST model ready", await client.is_model_ready(url, task.model)),
    ]
    found += await asyncio.to_thread(check, "kserve REST", task, send, loop_run)
    name = "kserve REST JSON only"
    found.append(await asyncio.to_thread(check_all, name, task, json_only))
    return found


async def grpc(task: Task, loop_run: Callable[[Awaitable[Any]], Any]) -> list[bool]:
    """Check the gRPC client."""
    client = InferenceGRPCClient(task.grpc)

    async def send(request: Any, key: str = task.key) -> Any:
        return await client.infer(request, headers=(("authorization", f"Bearer {key}"),))

    ready = await client.is_server_ready() and await client.is_server_live()
    found = [
        check_true("kserve gRPC live, ready", ready),
        check_true("kserve gRPC model ready", await client.is_model_ready(task.model)),
    ]
    return found + await asyncio.to_thread(check, "kserve gRPC", task, send, loop_run)


async def check_both(task: Task) -> bool:
    """Check both clients on this event loop. The checks themselves run on a thread."""
    loop = asyncio.get_running_loop()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    return all([*await rest(task, run), *await grpc(task, run)])


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(check_both(read_task())) else 1)
