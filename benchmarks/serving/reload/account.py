"""The account of random requests over models that change: its sums, and its goals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.goals import Goal
from benchmarks.serving.accounting import EXPECTED, Checked, check_answers
from benchmarks.serving.offline import ExitOutputs, evaluate, pixels
from benchmarks.serving.reload.parts import Changes
from benchmarks.serving.reload.tally import (
    UNKNOWN,
    WRONG,
    Asked,
    Key,
    Named,
    hasty,
    patient,
    seen_by_clients,
)
from offramp.bundle.manifest import Manifest, read_manifest

MEMORY_RATIO = 1.1


@dataclass(frozen=True, slots=True)
class Reference:
    """A bundle with its outputs for all images."""

    manifest: Manifest
    outputs: ExitOutputs


@dataclass(slots=True)
class Account:
    """The sums of all parts.

    Attributes:
        clients: Counts of the clients.
        server: Counts of the metrics.
        unknown: Problems of the type of a version that is not loaded.
        checked: Answers compared with an evaluation.
        misnamed: Answers whose label is not of the model and version that they name.
        held: Slots in use and queued requests after each part.
        memory: Resident bytes of the server after each part.
    """

    clients: Counter[Key] = field(default_factory=Counter)
    server: Counter[Key] = field(default_factory=Counter)
    unknown: int = 0
    checked: Checked = field(default_factory=lambda: Checked(0, 0, 0))
    misnamed: int = 0
    held: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    def add(self, found: Named, asked: Sequence[Asked], references: Sequence[Reference]) -> None:
        """Add what the clients of a part saw, and compare their answers."""
        policies = [
            [each.query.policy(reference.manifest) for each in asked] for reference in references
        ]
        self.clients += seen_by_clients(found, asked, [policy.name for policy in policies[0]])
        self.misnamed += int((found.outcomes.index == WRONG).sum())
        for odd, reference in enumerate(reversed(references)):
            part = found.outcomes.where((found.version >= 0) & (found.version % 2 == odd))
            of = policies[1 - odd]
            one = check_answers(part, of, reference.outputs, reference.manifest)
            before = self.checked
            self.checked = Checked(
                before.compared + one.compared,
                before.ties + one.ties,
                before.wrong + one.wrong,
            )


def goals(account: Account, changes: Changes) -> list[Goal]:
    """Return the goals: everything is accounted for and given back."""
    counts = Counter(outcome for *_, outcome in account.clients.elements())
    missing = (EXPECTED | {UNKNOWN}) - counts.keys()
    there, counted = patient(account.clients), patient(account.server)
    versions = {key[:2] for key in there if key[1]}
    seen, asked = hasty(account.server), hasty(account.clients)
    failed = sum(n for key, n in account.server.items() if key[3] == "failed")
    made = ", ".join(f"{count} {kind}" for kind, count in sorted(changes.made.items()))
    ratio = account.memory[-1] / account.memory[0]
    return [
        Goal("every change ends as it has to", f"{made}; {len(changes.wrong)} wrong",
             not changes.wrong),
        Goal("every outcome occurred", f"missing: {', '.join(sorted(missing)) or '-'}",
             not missing),
        Goal("clients and metrics count the same, by model, version, budget and outcome",
             f"{sum((there - counted).values())} + {sum((counted - there).values())} of "
             f"{there.total()} differ, {len(versions)} versions: "
             + ", ".join(f"{n} {name}" for name, n in sorted(counts.items())), there == counted),
        Goal("requests for versions that are not loaded are all counted",
             f"{account.unknown} of {counts[UNKNOWN]}", account.unknown == counts[UNKNOWN]),
        Goal("requests of clients that hang up are counted at most once, and no request fails",
             f"{seen} of {asked}, {failed} failed", seen <= asked and not failed),
        Goal("slots in use, queue after each part: 0", f"{max(account.held):.0f} at most",
             not any(account.held)),
        Goal("answers equal the evaluation of the version that they name",
             f"{account.checked.wrong} of {account.checked.compared} differ, "
             f"{account.checked.ties} at a threshold, {account.misnamed} with labels of another",
             not account.checked.wrong and not account.misnamed and account.checked.compared > 0),
        Goal(f"memory after the last part at most {MEMORY_RATIO} x that after the first",
             f"{account.memory[-1] / 1e6:.0f} MB, {ratio:.3f} x", ratio <= MEMORY_RATIO),
    ]  # fmt: skip


def read_reference(bundle: Path, files: Sequence[bytes]) -> Reference:
    """Evaluate a bundle on images, without a server."""
    manifest = read_manifest(bundle)
    return Reference(manifest, evaluate(bundle, manifest, pixels(files, manifest)))
