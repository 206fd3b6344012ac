"""`offramp pull` and `offramp push`: bundles from and to the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg, CliToggleFlag

from offramp.command_line.exit_codes import exit_code
from offramp.command_line.options import Options, read_options
from offramp.errors import UsageError
from offramp.hub.address import Address, address_in


class PullOptions(Options):
    """Copy a bundle from the Hugging Face hub to a folder. Each file is checked by its hash."""

    address: CliPositionalArg[str] = Field(description="hf://org/name, or hf://org/name@revision")
    out: Path = Field(description="folder to write, which must not exist")


class PushOptions(Options):
    """Copy a bundle to the Hugging Face hub, after each file is checked by its hash.

    The token is that of `hf auth login`, or HF_TOKEN in the environment.
    """

    bundle: CliPositionalArg[Path] = Field(description="folder of the bundle")
    address: CliPositionalArg[str] = Field(description="hf://org/name, or hf://org/name@branch")
    private: CliToggleFlag[bool] = Field(
        default=False, description="make the repository private if there is none yet"
    )


def pull(arguments: Sequence[str]) -> int:
    """Copy a bundle from the hub. Return the exit code: 0, 1 (refused), 2 (usage) or 130."""

    def work() -> None:
        options = read_options(PullOptions, arguments, "offramp pull")
        address = _address(options.address)
        from offramp.hub import transfer

        transfer.pull(address, options.out)
        print(f"{address} is in {options.out}")

    return exit_code(work, extra="serving")


def push(arguments: Sequence[str]) -> int:
    """Copy a bundle to the hub. Return the exit code: 0, 1 (refused), 2 (usage) or 130."""

    def work() -> None:
        options = read_options(PushOptions, arguments, "offramp push")
        address = _address(options.address)
        from offramp.hub import transfer

        print(transfer.push(options.bundle, address, private=options.private))

    return exit_code(work, extra="serving")


def _address(text: str) -> Address:
    address = address_in(text)
    if address is None:
        raise UsageError(f"{text}: not an address on the hub, as hf://org/name")
    return address
