"""Arguments of a call, checked and resolved as the server does it with a query."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import ValidationError

from offramp.bundle.manifest import Manifest
from offramp.in_process.settings import parameter_error
from offramp.inputs.query import Query
from serving.engine.budgets.milliseconds import Milliseconds
from serving.http.query import ClassifyQuery, ParsedQuery, with_policy


def read_arguments(manifest: Manifest, milliseconds: Milliseconds, query: Query) -> ParsedQuery:
    """Check arguments and resolve their policy.

    Args:
        manifest: Manifest of the bundle.
        milliseconds: Operating points by the times of this machine.
        query: Arguments of the call.

    Raises:
        InvalidRequestError: An argument is not valid. Its subclass tells which.
    """
    try:
        checked = ClassifyQuery.model_validate(asdict(query))
    except ValidationError as error:
        raise parameter_error(error) from error
    return with_policy(manifest, checked, milliseconds)
