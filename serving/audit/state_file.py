"""The file in which audits survive a restart, bound to the bundle that they are of."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

from pydantic import Field, ValidationError, model_validator

from offramp.bundle.values import FrozenRecord
from offramp.errors import UnwritableFileError
from offramp.writing import replaced
from serving.audit.ledger import AuditedPromise, Kept, Ledger
from serving.audit.sequence import BLOCK, MARKS, ConfidenceSequence

MAX_BYTES = 1 << 20
log = logging.getLogger(__name__)


class _Audits(FrozenRecord):
    """The record of one promise."""

    point: str
    broken: bool
    trials: int = Field(ge=0)
    losses: int = Field(ge=0)
    unknown: int = Field(ge=0)
    marks: tuple[int, ...]

    @model_validator(mode="after")
    def _is_possible(self) -> _Audits:
        steps = (0, *self.marks, self.losses)
        if self.losses + self.unknown > self.trials or list(steps) != sorted(steps):
            raise ValueError("no audits have such counts")
        if len(self.marks) != min(self.trials // BLOCK, MARKS):
            raise ValueError("marks do not fit the number of trials")
        return self


class _State(FrozenRecord):
    """The content of the file."""

    bundle: str
    promises: dict[str, _Audits]


def bundle_hash(graphs: Sequence[str], promises: Sequence[AuditedPromise]) -> str:
    """Return a sha256 of the graphs (sha256 of each) and of the promises that are audited."""
    text = json.dumps([[*graphs], [[each.label, each.epsilon, each.alpha] for each in promises]])
    return hashlib.sha256(text.encode()).hexdigest()


class StateFile:
    """The file of one server.

    Args:
        path: The file. Its folder exists.
        bundle: Hash of the bundle.
    """

    def __init__(self, path: Path, bundle: str) -> None:
        self._path = path
        self._bundle = bundle
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
        if state.bundle != self._bundle:
            text = "%s has the audits of another bundle or of other promises, audits begin anew"
            log.warning(text, self._path)
            return {}
        return {label: _kept(each) for label, each in state.promises.items()}

    def _write(self, ledger: Ledger) -> None:
        """Write the newest counts of all workers, one worker at a time."""
        with ledger.writing():
            revision = ledger.revision
            promises = {label: _record(kept) for label, kept in ledger.kept().items()}
            text = _State(bundle=self._bundle, promises=promises).model_dump_json(indent=1)
            with replaced(self._path, durable=True) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        self._saved = revision


def _kept(record: _Audits) -> Kept:
    sequence = ConfidenceSequence(record.trials, record.losses, record.unknown, record.marks)
    return Kept(record.point, record.broken, sequence)


def _record(kept: Kept) -> _Audits:
    sequence = kept.sequence
    return _Audits(
        point=kept.point,
        broken=kept.broken,
        trials=sequence.trials,
        losses=sequence.losses,
        unknown=sequence.unknown,
        marks=sequence.marks,
    )


def _first(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    return str(error.errors(include_url=False)[0]["msg"])
