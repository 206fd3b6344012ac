"""Arguments of a call, checked and resolved as the server does it with a query."""

from __future__ import annotations

from pydantic import ValidationError

from offramp.bundle.manifest import Manifest
from offramp.in_process.settings import parameter_error
from serving.engine.budgets.milliseconds import Milliseconds
from serving.http.query import ClassifyQuery, ParsedQuery, with_policy


def read_arguments(manifest: Manifest, milliseconds: Milliseconds, **given: object) -> ParsedQuery:
    """Check arguments and resolve their policy.

    Args:
        manifest: Manifest of the bundle.
        milliseconds: Operating points by the times of this machine.
        **given: Values by field of `ClassifyQuery`.

    Raises:
        InvalidRequestError: An argument is not valid. Its subclass tells which.
    """
    try:
        query = ClassifyQuery.model_validate(given)
    except ValidationError as error:
        raise parameter_error(error) from error
    return with_policy(manifest, query, milliseconds)
