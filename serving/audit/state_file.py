"""The file in which audits survive a restart, bound to the bundle that they are of."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Self

from pydantic import Field, ValidationError, model_validator

from offramp.bundle.promises import Promises
from offramp.bundle.values import FrozenRecord
from offramp.errors import UnwritableFileError
from offramp.writing import replaced
from serving.audit.ledger import Kept, Ledger
from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence
from serving.audit.standing import AuditedPromise

MAX_BYTES = 1 << 20
log = logging.getLogger(__name__)


class _Counts(FrozenRecord):
    """The counts of a sequence."""

    trials: int = Field(ge=0)
    losses: int = Field(ge=0)
    unknown: int = Field(ge=0)
    marks: tuple[int, ...]

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        steps = (0, *self.marks, self.losses)
        if self.losses + self.unknown > self.trials or list(steps) != sorted(steps):
            raise ValueError("no audits have such counts")
        if len(self.marks) != min(self.trials // BLOCK, MARKS):
            raise ValueError("marks do not fit the number of trials")
        return self

    @classmethod
    def of(cls, sequence: ConfidenceSequence) -> Self:
        return cls(**asdict(sequence))

    @property
    def sequence(self) -> ConfidenceSequence:
        return ConfidenceSequence(self.trials, self.losses, self.unknown, self.marks)


class _Audits(_Counts):
    """The record of one promise. Files of earlier servers have no candidates, or no ladder."""

    point: str
    broken: bool
    candidates: tuple[_Counts, ...] = ()
    ladder: tuple[str, ...] = ()


class _State(FrozenRecord):
    """The content of the file."""

    bundle: str
    promises: dict[str, _Audits]


def bundle_hash(graphs: Sequence[str], promises: Promises | None) -> str:
    """Return a sha256 of the graphs (sha256 of each) and of the certificates of their promises."""
    certificates = None if promises is None else promises.model_dump(mode="json", exclude_none=True)
    return _sha256([[*graphs], certificates])


def earlier_hash(graphs: Sequence[str], promises: Sequence[AuditedPromise]) -> str:
    """Return the hash in files of earlier servers, which is the same after a new certification."""
    return _sha256([[*graphs], [[each.label, each.epsilon, each.alpha] for each in promises]])


class StateFile:
    """The file of one server.

    Args:
        path: The file. Its folder exists.
        bundle: Hash of the bundle.
        earlier: Its hash in files of earlier servers, which are read too.
    """

    def __init__(self, path: Path, bundle: str, earlier: str | None = None) -> None:
        self._path = path
        self._bundle = bundle
        self._earlier = earlier
        self._lock = Lock()
        self._saved: int | None = None

    def restore(self, ledger: Ledger) -> None:
        """Read the file into a new ledger, and write it, so that a wrong path shows at start.

        A file that is damaged, or of another bundle, is logged and begun anew.

        Raises:
            UnwritableFileError: The file cannot be written.
        """
        if ledger.restore(self._read()):
            self._write(ledger)

    def save(self, ledger: Ledger) -> None:
        """Write the file if something changed. An error is logged. Any thread can call this."""
        try:
            with self._lock:
                if ledger.revision != self._saved:
                    self._write(ledger)
        except UnwritableFileError:
            log.exception("the audits were not saved")

    def _read(self) -> dict[str, Kept]:
        try:
            with self._path.open("rb") as file:
                state = _State.model_validate_json(file.read(MAX_BYTES))
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning("%s cannot be read, audits begin anew: %s", self._path, _first(error))
            return {}
        if state.bundle not in (self._bundle, self._earlier):
            text = "%s has the audits of another bundle or of other promises, audits begin anew"
            log.warning(text, self._path)
            return {}
        return {label: _kept(each) for label, each in state.promises.items()}

    def _write(self, ledger: Ledger) -> None:
        """Write the newest counts of all workers, one worker at a time."""
        with ledger.writing:
            revision = ledger.revision
            promises = {label: _record(kept) for label, kept in ledger.kept().items()}
            text = _State(bundle=self._bundle, promises=promises).model_dump_json(indent=1)
            with replaced(self._path, durable=True, concurrent=True) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        self._saved = revision


def _kept(record: _Audits) -> Kept:
    candidates = tuple(each.sequence for each in record.candidates)
    return Kept(record.point, record.broken, record.sequence, candidates, record.ladder)


def _record(kept: Kept) -> _Audits:
    return _Audits(
        point=kept.point,
        broken=kept.broken,
        candidates=tuple(_Counts.of(each) for each in kept.candidates),
        ladder=kept.ladder,
        **asdict(kept.sequence),
    )


def _sha256(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _first(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    return str(error.errors(include_url=False)[0]["msg"])
