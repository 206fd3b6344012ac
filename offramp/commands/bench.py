"""`offramp bench`: throughput and latency of a server that classifies images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import CliPositionalArg

from offramp.authorization import authorization
from offramp.bounds import NonNegativeInt
from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import KeyOptions, read_options
from offramp.commands.progress import report_left_out
from offramp.errors import OfframpError

if TYPE_CHECKING:
    from offramp.load.sender import Load
    from offramp.load.summary import Summary
    from offramp.load.targets import Target

CLIENTS = (1, 16)  # of closed loops, if no load is given
MANY = 200_000  # most requests of a closed loop, which mostly ends by time
MAX_CLIENTS = 4096
MAX_RATE = 100_000.0  # times of all requests are drawn before a load
MOST_IMAGES = 256  # different files that are sent
MAX_FILE = 64 << 20
MILLION = 1e6
LATE = 5.0  # milliseconds above which a warning is printed


class BenchOptions(KeyOptions):
    """Measure answers per second and latency of a server.

    The server speaks the native API, or the Open Inference Protocol v2 over HTTP, as Triton,
    KServe and MLServer do. Each --rate is an open loop: requests come at random times (Poisson),
    whether or not the server keeps up, and latency counts from the time at which a request was due.
    Each --clients is a closed loop: a client sends its next request after the answer to its last.
    """

    url: CliPositionalArg[str] = Field(description="URL of the server, as http://localhost:8000")
    images: list[Path] = Field(
        [],
        description="image files, folders or parquet files to send; repeat it for several. The "
        "first 256 are sent; without it random images",
    )
    rate: list[Annotated[float, Field(gt=0, le=MAX_RATE)]] = Field(
        [], description="requests per second of an open loop; repeat it for several loads"
    )
    clients: list[Annotated[int, Field(gt=0, le=MAX_CLIENTS)]] = Field(
        [],
        description="clients of a closed loop; repeat it for several loads (default: 1 and 16, "
        "unless there is a --rate)",
    )
    seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="length of each load. A closed loop ends after 200,000 requests",
    )
    warm_up: float = Field(
        1, ge=0, le=3600, description="seconds of load before the first, which are not counted"
    )
    connections: int = Field(
        256, ge=1, le=MAX_CLIENTS, description="maximum connections of an open loop"
    )
    protocol: Literal["auto", "native", "oip"] = Field(
        "auto", description="protocol; auto: the native API if the server has it"
    )
    model: str | None = Field(
        None, description="model, for the Open Inference Protocol; null: the only one"
    )
    query: str = Field("", description="query of each request, as in budget=low")
    encoding: Literal["binary", "json"] = Field(
        "binary", description="form of the input, for the Open Inference Protocol"
    )
    api_key: SecretStr | None = Field(
        None,
        description="API key of the server; the environment variable OFFRAMP_API_KEY is safer, "
        "because other users can see options",
    )
    seed: NonNegativeInt = Field(0, description="seed of random times and images")
    format: Literal["table", "json"] = Field("table", description="form of the result")


def main(arguments: Sequence[str]) -> int:
    """Measure a server. Return the exit code: 0, 1 (no answer at all), 2 (usage) or 130."""

    def work() -> None:
        _run(read_options(BenchOptions, arguments, "offramp bench"))

    return exit_code(work, extra="serving")


def _run(options: BenchOptions) -> None:
    from offramp.load.targets import Wanted, address_of, find_target

    address = address_of(options.url, _headers(options))
    wanted = Wanted(_files(options.images), options.query, options.model, options.encoding)
    target = find_target(address, options.protocol, replace(wanted, seed=options.seed))
    load = _load(options, target, address.host, address.port, tls=address.tls)
    measured = _measured(options, target, load)
    if options.format == "json":
        found = list(measured)
        _print_json(options, target, found)
    else:
        found = list(_printed(options, target, measured))
    if not any(summary.statuses.get("200") for summary in found):
        raise OfframpError(f"no request was answered: {found[-1].statuses}")


def _headers(options: BenchOptions) -> dict[str, str]:
    key = options.api_key
    return authorization(None if key is None else key.get_secret_value())


def _printed(
    options: BenchOptions, target: Target, measured: Iterable[Summary]
) -> Iterator[Summary]:
    """Print a table of loads, each as soon as it is measured."""
    print(f"{target.model} at {options.url}, {target.protocol} protocol, {target.path}")
    print(HEAD, flush=True)
    for summary in measured:
        print("\n".join(_lines(summary, target.full_flops)), flush=True)
        yield summary


def _print_json(options: BenchOptions, target: Target, found: Sequence[Summary]) -> None:
    described = {"url": options.url, "protocol": target.protocol, "model": target.model}
    loads = [asdict(summary) for summary in found]
    print(json.dumps({**described, "full_flops": target.full_flops, "loads": loads}, indent=1))


def _files(paths: Sequence[Path]) -> list[bytes]:
    """Return the first image files."""
    if not paths:
        return []
    from offramp.inputs.datasets import find_images
    from offramp.inputs.images import file_of

    images = find_images(paths)
    report_left_out(images.left_out, images.hidden)
    return [file_of(each.image, MAX_FILE) for each in islice(images, MOST_IMAGES)]


def _load(options: BenchOptions, target: Target, host: str, port: int, *, tls: bool) -> Load:
    from offramp.load.sender import Load

    return Load(port, options.connections, options.seconds, target.headers, host, tls)


def _measured(options: BenchOptions, target: Target, load: Load) -> Iterator[Summary]:
    """Yield the numbers of each load: closed loops, then open ones by their rates."""
    import numpy as np

    from offramp.load.outcomes import closed, open_loop, poisson
    from offramp.load.sender import send
    from offramp.load.summary import summarize

    rng = np.random.default_rng(options.seed)
    images = len(target.bodies)
    looped = closed(target.path, MANY, images, rng)
    clients = options.clients or ([] if options.rate else CLIENTS)
    if options.warm_up:
        most = max([*clients, 1])
        warm = replace(load, connections=most, seconds=options.warm_up)
        send(target.bodies, looped, warm, target.read)
    for count in clients:
        report = send(target.bodies, looped, replace(load, connections=count), target.read)
        all_sent = len(report.outcomes) == MANY
        seconds = min(report.wall, options.seconds) if all_sent else options.seconds
        yield summarize(report.outcomes, seconds, count, None)
    for rate in options.rate:
        due = poisson(rate, options.seconds, rng)
        report = send(target.bodies, open_loop(target.path, due, images, rng), load, target.read)
        yield summarize(report.outcomes, options.seconds, None, rate)


HEAD = f"{'load':22}{'answers/s':>10}{'p50':>9}{'p95':>9}{'p99':>9}{'longest':>9}  ms   errors"


def _lines(summary: Summary, full_flops: int | None) -> Iterator[str]:
    if summary.rate is None:
        load = f"{summary.clients} client" + ("" if summary.clients == 1 else "s")
    else:
        load = f"{summary.rate:g} requests/s"
    times = (summary.p50, summary.p95, summary.p99, summary.longest)
    columns = "".join(f"{'-' if each is None else f'{each:.2f}':>9}" for each in times)
    yield f"{load:22}{summary.answers_per_second:10.1f}{columns}      {summary.errors:7.2%}"
    if summary.exits:
        shares = [f"{exit_}: {share:.1%}" for exit_, share in summary.exits.items()]
        yield f"  exits {', '.join(shares)}"
    if summary.mean_flops is not None:
        share = f", {summary.mean_flops / full_flops:.1%} of full depth" if full_flops else ""
        yield f"  flops {summary.mean_flops / MILLION:.2f} M{share}"
    if summary.errors:
        yield "  statuses " + ", ".join(f"{name}: {n}" for name, n in summary.statuses.items())
    if summary.late is not None and summary.late > LATE:
        yield f"  requests were sent late, by {summary.late:.1f} ms at p99: more --connections?"
