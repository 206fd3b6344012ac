"""Send requests that schemathesis generates from the OpenAPI document to a real server.

    make fuzz-api                     at least 10,000 cases, in an environment of its own
    python -m tests.fuzz.api --schemathesis .venv-fuzz/bin/schemathesis --examples 20 --cases 500

The generator gets slower with the number of examples, so it is run with one seed after the other
until there are enough cases. All checks are on. `api_hooks` gives valid requests a content that
the schema cannot describe: real images, and budgets of the model. Exit code 1: a check failed, or
there were too few cases.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.serving.promise_bundle import write_promise_bundle
from tests.serving.servers import started
from tests.serving.small_bundle import png, random_images

HOOKS = "tests.fuzz.api_hooks"
CONFIG = Path(__file__).with_name("schemathesis.toml")
LIMITS = ("--max-images", "2", "--max-body-bytes", "16384")  # so that cases are generated fast
FORMATS = ("JPEG", "PNG", "WEBP")
GENERATED = re.compile(r"(\d+) generated")


def main() -> int:
    """Run schemathesis, and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--schemathesis", default="schemathesis", help="path of the program")
    parser.add_argument("--examples", type=int, default=400, help="of an operation and a seed")
    parser.add_argument("--cases", type=int, default=10_000, help="cases at least")
    parser.add_argument("--seed", type=int, default=1, help="first seed of the generator")
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        images = folder / "images"
        images.mkdir()
        for number, image in enumerate(random_images(6, options.seed)):
            form = FORMATS[number % len(FORMATS)]
            (images / f"{number}.{form.lower()}").write_bytes(png(image, form))
        with started(write_promise_bundle(folder / "bundle"), *LIMITS) as server:
            code = cases = 0
            for seed in count(options.seed):
                code, more = run(options, seed, server.url, images)
                cases += more
                if code != 0 or not more or cases >= options.cases:
                    break
            alive = server.popen.poll() is None
    print(f"{cases} cases of at least {options.cases}; the server {'lives' if alive else 'ended'}")
    return int(code != 0 or cases < options.cases or not alive)


def run(options: argparse.Namespace, seed: int, url: str, images: Path) -> tuple[int, int]:
    """Run schemathesis with all checks, and return its exit code and the number of cases."""
    command = [options.schemathesis, "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
    command += ["--checks", "all"]
    command += ["--max-examples", str(options.examples), "--seed", str(seed)]
    command += ["--continue-on-failure", "--generation-database", "none", "--no-color"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "OFFRAMP_FUZZ_IMAGES": str(images)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        cases = 0
        for line in process.stdout:
            print(line, end="", flush=True)
            if found := GENERATED.search(line):
                cases = int(found[1])
    return process.returncode, cases


if __name__ == "__main__":
    sys.exit(main())
