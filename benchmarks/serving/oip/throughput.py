"""Compare the doors of one server: native API, the protocol over HTTP and over gRPC.

    python -m benchmarks.serving.oip.throughput --data cifar10

All get the same images, one in a request, in a closed loop over the same number of connections.
Rounds are interleaved. Throughput depends on what else the machine does. The CPU time of the server
for an answer hardly does. `--form pixels` sends pixels instead of files. The last lines are servers
of gRPC's Python library that answer at once. Exit status 1: a door has less than GOAL of the native
API's throughput, or needs more than 1 / GOAL of its CPU time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.goals import Goal, print_goals, spread
from benchmarks.serving.oip.__main__ import serving
from benchmarks.serving.oip.doors import BARE, GRPC, HTTP, NATIVE, bare_loads, loads_of, rounds
from benchmarks.serving.oip.forms import JPEG, PIXELS, forms_of
from benchmarks.serving.oip.load import Measured, table
from benchmarks.serving.servers.images import load_images
from benchmarks.serving.servers.subject import SHIPPED
from offramp.bundle.manifest import read_manifest

GOAL = 0.9
WARM_UP = 1.0  # seconds
Found = Mapping[str, Sequence[Measured]]


def goals(found: Found) -> list[Goal]:
    """Compare the doors with the native API, in throughput and in CPU time.

    Beside other load a server with more threads gets more of the machine, so throughput alone
    would not do.
    """
    made = []
    for name in (HTTP, GRPC):
        pairs = [*zip(found[name], found[NATIVE], strict=True)]
        answered = all(m.answered for m in found[name])
        for figure, ratios in {
            f"{name} / native API, answers/s": [m.throughput / n.throughput for m, n in pairs],
            f"native API / {name}, CPU time": [n.cpu / m.cpu for m, n in pairs],
        }.items():
            met = answered and median(ratios) >= GOAL
            made.append(Goal(f"{figure} >= {GOAL}", spread(ratios, 2), met))
    return made


def main() -> int:
    """Measure, print a table, and return 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description="Compare the doors of one server.")
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help="folder of the bundle")
    parser.add_argument("--data", default="cifar10", help="hub name, parquet or folder of images")
    parser.add_argument("--budget", default="medium", help="budget of every request")
    parser.add_argument("--form", choices=(JPEG, PIXELS), default=JPEG, help="form of the images")
    parser.add_argument("--images", type=int, default=2000, help="number of different images")
    parser.add_argument("--connections", type=int, default=16, help="of each load")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds")
    parser.add_argument("--seconds", type=float, default=5, help="length of a measurement")
    parser.add_argument("--option", action="append", default=[], help="option of the server")
    options = parser.parse_args()
    manifest = read_manifest(options.bundle)
    files = load_images(options.data, manifest).files[: options.images]
    forms = forms_of(files, options.form, manifest.input, options.budget)
    found: dict[str, list[Measured]] = {name: [] for name in (NATIVE, HTTP, GRPC, *BARE.values())}
    with (
        serving(options.bundle, *options.option) as doors,
        bare_loads(forms.grpc(manifest.name).bodies, options.connections) as bare,
    ):
        loads = loads_of(manifest.name, doors.ports, doors.pid, forms, options.connections)
        for each in rounds({**loads, **bare}, options.rounds, options.seconds, WARM_UP):
            found[each.name].append(each)
            print(each, file=sys.stderr, flush=True)
    print(f"{manifest.name} at {options.budget}, {options.form}, {options.connections} connections")
    print("\n".join(table("door", "native", found, lambda _: found[NATIVE])))
    return print_goals(goals(found))


if __name__ == "__main__":
    sys.exit(main())
