"""The base of all errors that serving raises."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from offramp.errors import OfframpError


class ServingError(OfframpError):
    """Base of the tree. `status`, `type` and `headers` define the response to the client."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "internal"
    headers: Mapping[str, str] = MappingProxyType({})
