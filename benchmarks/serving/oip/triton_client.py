"""Check tritonclient over HTTP and gRPC. Runs in the clients' environment."""

from __future__ import annotations

import base64
import sys
from functools import partial
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from numpy.typing import NDArray

from benchmarks.serving.oip.checks import (
    NAMES,
    Outputs,
    Task,
    check_all,
    check_error,
    check_true,
    read_task,
    texts,
)


class Client:
    """A client of one protocol, with the calls that the checks need."""

    def __init__(self, module: Any, address: str, task: Task) -> None:
        self.module = module
        self.own = module.InferenceServerClient(address)
        self.model = task.model
        self.headers = {"authorization": f"Bearer {task.key}"}
        self.binary: dict[str, Any] = {"binary_data": True} if module is over_http else {}

    def send(self, tensor: Any, outputs: list[Any] | None = None, **options: Any) -> Any:
        """Send an input and return the result."""
        # A copy: the client adds the length of this request's JSON to it.
        options = {"headers": dict(self.headers), "outputs": outputs, **options}
        return self.own.infer(options.pop("model", self.model), [tensor], **options)

    def arrays(self, result: Any) -> Outputs:
        """Return all outputs of a result."""
        return {name: result.as_numpy(name) for name in NAMES}

    def tensor(self, files: list[bytes], **options: Any) -> Any:
        """Return an input of image files."""
        made = self.module.InferInput("image", [len(files), 1], "BYTES")
        values = np.array(files, dtype=object).reshape(-1, 1)
        made.set_data_from_numpy(values, **options)
        return made

    def files(self, files: list[bytes]) -> Outputs:
        """Classify image files as BYTES."""
        return self.arrays(self.send(self.tensor(files, **self.binary)))

    def pixels(self, images: NDArray[np.uint8]) -> Outputs:
        """Classify pixels as UINT8."""
        tensor = self.module.InferInput("image", list(images.shape), "UINT8")
        tensor.set_data_from_numpy(images, **self.binary)
        return self.arrays(self.send(tensor))

    def numbers(self, images: NDArray[np.uint8]) -> Outputs:
        """Classify pixels as numbers, without any binary data."""
        tensor = self.module.InferInput("image", list(images.shape), "UINT8")
        tensor.set_data_from_numpy(images, binary_data=False)
        return self.arrays(self.send(tensor, self.in_json()))

    def in_json(self) -> list[Any]:
        """Return all outputs, requested in JSON."""
        return [self.module.InferRequestedOutput(name, binary_data=False) for name in NAMES]

    def json(self, files: list[bytes]) -> Outputs:
        """Classify image files as base64, without any binary data."""
        tensor = self.tensor([base64.b64encode(file) for file in files], binary_data=False)
        return self.arrays(self.send(tensor, self.in_json()))


def check(name: str, client: Client, task: Task) -> list[bool]:
    """Run the checks that both protocols have."""
    own, headers, model = client.own, client.headers, client.model
    first = list(task.files[:1])
    options = {"headers": headers}
    found = [
        check_true(f"{name} live, ready", own.is_server_live() and own.is_server_ready()),
        check_true(f"{name} model ready", own.is_model_ready(model, **options)),
        check_true(f"{name} server metadata", own.get_server_metadata(**options)),
        check_true(f"{name} model metadata", own.get_model_metadata(model, **options)),
        check_true(f"{name} model config", own.get_model_config(model, **options)),
        check_true(f"{name} statistics", own.get_inference_statistics(model, **options)),
        check_true(f"{name} index", own.get_model_repository_index(**options)),
        check_all(f"{name} BYTES", task, client.files),
        check_all(f"{name} UINT8", task, client.pixels, pixels=True),
        check_true(f"{name} class_count", classes_agree(client, first)),
        check_true(f"{name} parameters, id", parameters_hold(client, first)),
    ]
    send = partial(client.send, client.tensor(first, **client.binary))
    junk = client.tensor([b"?"], **client.binary)
    errors = {
        "not an image": (partial(client.send, junk), "this is not a JPEG"),
        "unknown model": (partial(send, model="other"), "there is no model 'other'"),
        "unknown parameter": (partial(send, parameters={"buget": "low"}), "'buget'"),
        "wrong budget": (partial(send, parameters={"budget": "cheap"}), "'cheap' is not one of"),
        "no key": (partial(send, headers={}), "the API key is missing or wrong"),
        "deadline": (partial(send, timeout=1), "deadline_ms"),
        "unknown output": (
            partial(send, [client.module.InferRequestedOutput("logits")]),
            "there is no output 'logits'",
        ),
    }
    return found + [check_error(f"{name} {kind}", *each) for kind, each in errors.items()]


def classes_agree(client: Client, files: list[bytes]) -> bool:
    """Return whether the first of some classes is the label."""
    wanted = [
        client.module.InferRequestedOutput("probabilities", class_count=3),
        client.module.InferRequestedOutput("label"),
    ]
    result = client.send(client.tensor(files, **client.binary), wanted)
    ranked = texts(result.as_numpy("probabilities"))
    return len(ranked) == 3 and ranked[0].split(":")[2] == texts(result.as_numpy("label"))[0]


def parameters_hold(client: Client, files: list[bytes]) -> bool:
    """Return whether full depth is reached, and the id is echoed."""
    tensor = client.tensor(files, **client.binary)
    result = client.send(tensor, request_id="seven", parameters={"budget": "full"})
    response = result.get_response()
    known = response["id"] if isinstance(response, dict) else response.id
    lower = client.send(tensor, parameters={"budget": "low"})
    deeper = result.as_numpy("exit")[0] >= lower.as_numpy("exit")[0]
    return known == "seven" and bool(deeper)


def main() -> int:
    """Run all checks and return 1 if one fails."""
    task = read_task()
    http = Client(over_http, task.http, task)
    found = check("tritonclient http", http, task)
    found.append(check_all("tritonclient http BYTES in JSON", task, http.json))
    found.append(check_all("tritonclient http UINT8 in JSON", task, http.numbers, pixels=True))
    found += check("tritonclient grpc", Client(over_grpc, task.grpc, task), task)
    return 0 if all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
