"""Early-exit inference: each request states what its answer may cost.

    from offramp import Classifier

    with Classifier.open("bundles/mine") as classifier:
        answers = classifier.classify(["cat.jpg"], budget="low")
    print(answers[0].label)

`Classifier` runs a bundle in this process. `Client` and `AsyncClient` send images to a server.
All three give the same records and raise the same errors. Importing this package imports neither
torch nor ONNX Runtime nor FastAPI: each name below is imported at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from offramp.answers import Answer
    from offramp.bundle.errors import BundleError
    from offramp.classifier import Classifier
    from offramp.client import AsyncClient, Client
    from offramp.errors import OfframpError, TransportError
    from offramp.evaluation.results import Evaluation
    from serving.errors import InvalidRequestError, ServingError

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AsyncClient",
    "BundleError",
    "Classifier",
    "Client",
    "Evaluation",
    "InvalidRequestError",
    "OfframpError",
    "ServingError",
    "TransportError",
    "__version__",
]

_MODULES = {
    "Answer": "offramp.answers",
    "AsyncClient": "offramp.client",
    "BundleError": "offramp.bundle.errors",
    "Classifier": "offramp.classifier",
    "Client": "offramp.client",
    "Evaluation": "offramp.evaluation.results",
    "InvalidRequestError": "serving.errors",
    "OfframpError": "offramp.errors",
    "ServingError": "serving.errors",
    "TransportError": "offramp.errors",
}
_EXTRAS = {
    "Classifier": "serving,cpu",
    "Client": "client",
    "AsyncClient": "client",
}


def __getattr__(name: str) -> object:
    """Import a public name at its first use.

    Raises:
        AttributeError: This package has no such name.
        ImportError: A package that the name needs is not installed. The text names the extra.
    """
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if name not in _EXTRAS:
            raise
        raise _without_extra(name, error) from error
    globals()[name] = value
    return value


def _without_extra(name: str, error: ModuleNotFoundError) -> ImportError:
    return ImportError(
        f"offramp.{name} needs the package {error.name}; "
        f"install it with: pip install 'offramp[{_EXTRAS[name]}]'",
        name=error.name,
    )


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
