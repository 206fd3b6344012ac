"""Check that a batch run on Ray loses and doubles nothing. `deploy.check.ray` starts it.

`offramp classify` answers all images first. Then a run on a Ray cluster answers them. After a
quarter of its parts an actor is killed with SIGKILL, after half of them the driver. The same
command continues the run. All rows must then be those of `offramp classify`, each once and in
order, and no part that was there before may have been written again.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import read_table

from deploy.check.ray import IN_NAMESPACE
from deploy.ray.output_folder import SUCCESS
from deploy.ray.processes import titled
from offramp.inputs.datasets import find_images

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "deploy" / "bundles" / "cifar10-msdnet"
IMAGES = ROOT / "tests" / "data" / "cifar10-500.parquet"
ACTORS, PARTS, TRIES = 2, 100, 5
TITLE = b"ray::MapWorker(MapBatches(PartClassifier))"
PATIENCE = {  # for machines that do other work, where processes start slowly
    "RAY_worker_register_timeout_seconds": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_health_check_failure_threshold": "100",
}
CLOSE = 1e-6  # probabilities differ in the last digit between batches of other sizes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the check in the namespace of `deploy.check.ray` and return the exit status.

    Raises:
        RuntimeError: This is another namespace.
    """
    options = _options(arguments)
    if not os.environ.get(IN_NAMESPACE):
        raise RuntimeError("python -m deploy.check.ray batch starts this check, in a namespace")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    words = [str(options.data.absolute()), "--bundle", str(options.bundle)]
    images = len(find_images([options.data]))
    print(f"{images} images, {PARTS} parts, {ACTORS} actors", flush=True)
    with TemporaryDirectory(prefix="offramp-") as folder:
        found = _check([*words, "--budget", options.budget], images, Path(folder))
    print("\n".join(found) or "nothing lost, nothing doubled, all rows equal")
    return 1 if found else 0


def _check(words: Sequence[str], images: int, folder: Path) -> list[str]:
    """Return what is wrong after an interrupted and a second run."""
    expected, out = folder / "expected.parquet", folder / "rows"
    _run("offramp classify", ["offramp", "classify", *words, "--out", str(expected)])
    batch = ["deploy.ray.batch", *words, "--out", str(out), "--actors", str(ACTORS)]
    batch += ["--part-images", str(-(-images // PARTS))]
    with _cluster(folder / "ray"):
        written = _interrupted(batch, out)
        _run("second run", batch)
    found = differences(read_table(expected), _rows_of(out))
    if again := [file for file, changed in written.items() if _changed(file) != changed]:
        found.append(f"{len(again)} parts were written again")
    if not (out / SUCCESS).exists():
        found.append("the run is not marked as complete")
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Check that a batch run on Ray loses nothing.")
    parser.add_argument("--data", type=Path, default=IMAGES, help="images, as `offramp classify`")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--budget", default="medium")
    return parser.parse_args(arguments)


def differences(expected: pa.Table, rows: pa.Table) -> list[str]:
    """Return the differences of two tables of rows: names, order, and each column.

    Args:
        expected: Rows of `offramp classify`.
        rows: Rows of the run, in the order of its parts.
    """
    names, others = (table["file"].to_pylist() for table in (expected, rows))
    if names != others:
        lost, extra = set(names) - set(others), len(others) - len(set(others))
        return [f"{len(lost)} images lost, {extra} doubled, {len(others)} rows of {len(names)}"]
    if rows.column_names != expected.column_names:
        return [f"columns {rows.column_names}, not {expected.column_names}"]
    found = []
    for column in expected.column_names:
        differ = _differ(expected[column], rows[column], column)
        if differ.any():
            found.append(
                f"{column} differs for {differ.sum()} images, first {names[differ.argmax()]}"
            )
    return found


def _differ(expected: pa.ChunkedArray, found: pa.ChunkedArray, name: str) -> NDArray[np.bool_]:
    """Return True for the rows in which two columns differ. Floats can differ by `CLOSE`."""
    one, other = (np.array(each.to_pylist(), dtype=object) for each in (expected, found))
    if not pa.types.is_floating(expected.type):
        return np.asarray(one != other)
    one, other = one.astype(float), other.astype(float)
    gap = np.abs(one - other)
    print(f"largest difference of {name}: {np.nanmax(gap):.1e}")
    return np.asarray((gap > CLOSE) | (np.isnan(one) != np.isnan(other)))


def _interrupted(words: Sequence[str], out: Path) -> dict[Path, int]:
    """Start a run, kill an actor and then the driver. Return the parts, with times of change."""
    started = time.monotonic()
    with subprocess.Popen([sys.executable, "-m", *words]) as driver:

        def parts() -> int:
            assert driver.poll() is None, "the run ended before it was interrupted: use more images"
            return len(list(out.glob("part-*.parquet")))

        _wait(lambda: parts() >= PARTS // 4)
        actor = titled(TITLE)[0]
        os.kill(actor, signal.SIGKILL)
        print(f"killed actor {actor} after {parts()} parts", flush=True)
        _wait(lambda: parts() >= PARTS // 2)
        driver.kill()
    _wait(lambda: not titled(TITLE))  # Ray ends the actors of a driver that is gone
    written = {file: _changed(file) for file in out.glob("part-*.parquet")}
    seconds = time.monotonic() - started
    print(f"killed the driver after {seconds:.0f} s, with {len(written)} parts", flush=True)
    assert not (out / SUCCESS).exists()
    return written


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns


def _run(name: str, words: Sequence[str]) -> None:
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", *words], check=True)
    print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


@contextmanager
def _cluster(folder: Path) -> Iterator[None]:
    """Run a cluster of one node, to which drivers connect by RAY_ADDRESS."""
    import ray  # late: the comparison of rows is tested without it

    os.environ.update(PATIENCE)
    os.environ["RAY_ADDRESS"] = _start(folder)
    try:
        yield
    finally:
        ray.shutdown()


def _start(folder: Path) -> str:
    """Start a node, and return its address. Try again: Ray gives its own processes 15 s."""
    import ray  # late, as above

    for number in range(TRIES):
        try:
            node = ray.init(
                num_cpus=ACTORS,
                include_dashboard=False,
                log_to_driver=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(folder / str(number)),
            )
        except Exception as error:
            if number == TRIES - 1:
                raise
            print(f"Ray did not start, another try: {error}", flush=True)
            ray.shutdown()
        else:
            address: str = node.address_info["gcs_address"]
            return address
    raise AssertionError("the last try returned or raised")


def _wait(condition: Callable[[], bool], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def _rows_of(out: Path) -> pa.Table:
    rows = pa.concat_tables(read_table(file) for file in sorted(out.glob("part-*.parquet")))
    assert read_table(out).num_rows == rows.num_rows  # the folder is a data set
    return rows


if __name__ == "__main__":
    sys.exit(main())
