"""The arguments of a call."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Query:
    """The arguments of a call, as for `Client.classify`."""

    budget: str | None
    min_confidence: float | None
    deadline_ms: float | None
    top_k: int
    explain: bool
    reject: bool = False
    promise: str | None = None

    @property
    def parameters(self) -> dict[str, str]:
        """The query parameters of `POST /classify`."""
        given = {
            "budget": self.budget,
            "min_confidence": self.min_confidence,
            "deadline_ms": self.deadline_ms,
            "top_k": self.top_k,
            "promise": self.promise,
        }
        parameters = {name: str(value) for name, value in given.items() if value is not None}
        flags = {"explain": self.explain, "reject": self.reject}
        return parameters | {name: "true" for name, value in flags.items() if value}
