"""The part that many requests of a client have in common: all but the id and the images."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from serving.http.oip.inputs import InputTensor
from serving.http.oip.parameters import Asked
from serving.http.oip.protocol import Wanted, read_outputs
from serving.http.query import ClassifyQuery

CACHED = 1024  # templates
MAX_CACHED_BYTES = 1 << 11  # of the bytes that a template is read from


@dataclass(slots=True)
class Template:
    """A request without its id and its images.

    Attributes:
        tensor: Head of the input.
        asked: Parameters, not resolved: a budget can change its meaning with time.
        named: Name and parameters of each requested output.
        binary: Default of `binary_data`.
        size: Bytes of the binary data, if the request states it.
        model: Name and version of the model, if the request has them.
        kept: It is in a cache.
    """

    tensor: InputTensor
    asked: Asked
    named: Sequence[tuple[object, Mapping[str, object]]]
    binary: bool
    size: int | None = None
    model: tuple[str, str] = ("", "")
    kept: bool = False
    _outputs: tuple[ClassifyQuery, tuple[Wanted, ...]] | None = None  # of the last query

    def outputs(self, query: ClassifyQuery) -> tuple[Wanted, ...]:
        """Return the requested outputs of a request with this query.

        Raises:
            MalformedBodyError: As `read_outputs` raises.
        """
        if self._outputs is None or self._outputs[0] is not query:
            self._outputs = query, read_outputs(self.named, query, binary=self.binary)
        return self._outputs[1]


class TemplateCache:
    """The templates of requests that came before, by the bytes they were read from. Bounded."""

    def __init__(self) -> None:
        self._templates: dict[Hashable, Template] = {}

    def find(self, key: Hashable) -> Template | None:
        """Return the template of the same bytes, if there is one."""
        return self._templates.get(key)

    def keep(self, key: Hashable, template: Template) -> None:
        """Keep the template of a request that was read: a wrong one could be large.

        A full cache starts again.
        """
        if len(self._templates) >= CACHED:
            self._templates.clear()
        self._templates[key] = template
        template.kept = True
