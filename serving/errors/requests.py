"""Errors of what a request asks for: its key, its model, its budget and parameters."""

from __future__ import annotations

from types import MappingProxyType

from serving.errors.base import ServingError


class InvalidRequestError(ServingError):
    """Base of the errors that the client can correct."""

    status = 422
    type = "invalid-request"


class UnauthorizedError(InvalidRequestError):
    """The API key is missing or wrong."""

    status = 401
    type = "unauthorized"
    headers = MappingProxyType({"WWW-Authenticate": "Bearer"})


class UnknownModelError(InvalidRequestError):
    """The server has no model of this name and version."""

    status = 404
    type = "unknown-model"


ONE_MODEL = "this server has one model for good; start it with --models to change models"


class NoAdminError(InvalidRequestError):
    """The server has no admin key, so that no call can change its models."""

    status = 403
    type = "no-admin"


class ModelLoadError(InvalidRequestError):
    """A model cannot be loaded. What served before still does."""

    type = "model-load"


class ParameterError(InvalidRequestError):
    """A query parameter has a wrong value, or excludes another one."""

    type = "invalid-parameter"


class UnknownParameterError(InvalidRequestError):
    """There is no query parameter of this name."""

    type = "unknown-parameter"


class UnknownBudgetError(InvalidRequestError):
    """The budget is neither a name in the manifest nor a number."""

    type = "unknown-budget"


class UnknownPromiseError(InvalidRequestError):
    """The promise is not written as one, or no certified promise of the bundle holds it."""

    type = "unknown-promise"


class BudgetTooLowError(InvalidRequestError):
    """The budget is below the cheapest operating point, or below that of the promise."""

    type = "budget-too-low"
