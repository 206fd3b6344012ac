"""A client that openapi-python-client generates from the OpenAPI document, against a server."""

from __future__ import annotations

import base64
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.serving.servers import Running
from tests.serving.small_bundle import png, random_images

PACKAGE = "generated_offramp_client"


@pytest.fixture(scope="module")
def folder(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Generate the client, without settings of its own."""
    folder = tmp_path_factory.mktemp("generated")
    document = folder / "openapi.json"
    document.write_bytes(client.get("/openapi.json").content)
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}), encoding="utf-8")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--meta", "none"]
    command += ["--path", str(document), "--config", str(folder / "config.json")]
    command += ["--output-path", str(folder / PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "duplicate" not in done.stdout
    assert "omitted" not in done.stdout
    sys.path.insert(0, str(folder))
    yield folder / PACKAGE
    sys.path.remove(str(folder))


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{PACKAGE}.{name}")


def found(folder: Path, server: Running, name: str, body: Any, **query: Any) -> Any:
    """Call an operation with a body, and return the parsed answer."""
    assert folder.is_dir()
    with module("client").Client(base_url=server.url) as client:
        return module(f"api.classification.{name}").sync(client=client, body=body, **query)


def file(data: bytes) -> Any:
    return module("types").File(payload=BytesIO(data))


def test_it_has_an_operation_for_each_name_and_one_problem(folder: Path) -> None:
    operations = {path.stem for path in folder.glob("api/*/*.py")} - {"__init__"}
    classifying = {"classify", "classify_pixels", "model_classify", "model_classify_pixels"}
    described = {"model", "models", "named_model"}
    assert operations == classifying | described | {"live", "ready", "metrics"}
    assert [path.stem for path in folder.glob("models/*problem*.py")] == ["problem"]


def test_every_kind_of_body_gives_the_same_answers(folder: Path, server: Running) -> None:
    images = random_images(3, 21)
    files = [png(image) for image in images]
    form = module("models").ClassifyForm(images=[file(each) for each in files])
    texts = [base64.b64encode(each).decode() for each in files]
    answers = [
        *(found(folder, server, "classify", file(each), top_k=2).answers[0] for each in files),
        *found(folder, server, "classify", form, top_k=2).answers,
        *found(
            folder, server, "classify", module("models").ClassifyImages(images=texts), top_k=2
        ).answers,
        *found(folder, server, "classify_pixels", file(images.tobytes()), top_k=2).answers,
    ]
    labels = [(answer.label, answer.exit_, len(answer.top_k)) for answer in answers]
    assert labels == labels[:3] * 4


def test_an_error_is_a_problem(folder: Path, server: Running) -> None:
    for body, status in ((b"?", 415), (b"", 400)):
        problem = found(folder, server, "classify", file(body))
        assert isinstance(problem, module("models").Problem)
        assert problem.status == status
    problem = found(folder, server, "classify", file(b"?"), budget="huge")
    assert problem.type_ == "/problems/unknown-budget"


def test_the_model_and_the_health_are_read(folder: Path, server: Running) -> None:
    assert folder.is_dir()
    with module("client").Client(base_url=server.url) as client:
        assert module("api.classification.model").sync(client=client).name == "testnet"
        assert module("api.operation.ready").sync(client=client).status == "ready"
        assert "offramp_" in module("api.operation.metrics").sync(client=client)
