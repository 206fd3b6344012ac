from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import offramp

HEAVY = ("torch", "onnxruntime", "fastapi", "starlette", "httpx", "PIL", "pydantic", "pyarrow")


def output_of(program: str) -> str:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def imported(code: str) -> set[str]:
    """The heavy modules that a new interpreter has imported after this code."""
    program = f"{code}\nimport sys\nprint(*[m for m in {HEAVY!r} if m in sys.modules])"
    return set(output_of(program).split())


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert imported("import offramp; offramp.__version__; dir(offramp)") == set()


def test_the_errors_are_light() -> None:
    assert imported("from offramp import InvalidRequestError, OfframpError, ServingError") == set()


def test_the_client_needs_neither_server_nor_network() -> None:
    heavy = imported("from offramp import AsyncClient, Client, TransportError")
    assert heavy <= {"httpx", "PIL", "pydantic"}


def test_the_classifier_needs_no_torch_and_no_web_framework() -> None:
    assert not imported("from offramp import Classifier") & {"torch", "fastapi", "httpx"}


def test_every_public_name_is_there() -> None:
    assert all(getattr(offramp, name) is not None for name in offramp.__all__)
    assert set(offramp.__all__) <= set(dir(offramp))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Clasifier'"):
        offramp.Clasifier  # noqa: B018


def test_a_missing_package_is_named_with_its_extra() -> None:
    program = (
        "import sys; sys.modules['httpx'] = None\n"
        "try:\n    from offramp import Client\n"
        "except ImportError as error:\n    print(error)"
    )
    assert output_of(program).strip() == (
        "offramp.Client needs the package httpx; install it with: pip install 'offramp[client]'"
    )


def test_the_version_is_that_of_the_distribution() -> None:
    assert offramp.__version__ == version("offramp")
