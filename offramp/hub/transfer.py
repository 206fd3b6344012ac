"""Download and upload of bundles, by huggingface_hub.

The hub's own cache is used, with its token and its variables (`HF_HOME`, `HF_TOKEN`,
`HF_ENDPOINT`, `HF_HUB_OFFLINE`). Only the files that the manifest names are read.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from offramp.bundle.manifest import MANIFEST, read_manifest
from offramp.bundle.stage_files import read_graph
from offramp.hub.address import Address, HubError
from offramp.writing import check_folder, new_folder

FURTHER = ("budgets.svg", "README.md")  # files that a bundle can have
EXTRA = "pip install 'offramp[hub]'"


def fetch(address: Address) -> Path:
    """Download a bundle into the hub's cache, check each hash, and return its folder.

    Raises:
        HubError: The hub cannot be reached, or has no such bundle.
        BundleError: A file of the bundle is damaged.
    """
    folder = _download(address, MANIFEST, address.revision).parent
    commit = folder.name
    for stage in read_manifest(folder).stages:
        _download(address, stage.file, commit)
        read_graph(folder, stage)
    for name in FURTHER:
        with suppress(HubError):
            _download(address, name, commit)
    return folder


def pull(address: Address, folder: Path) -> None:
    """Copy a bundle from the hub to a new folder. The folder is complete, or does not exist.

    Raises:
        HubError: The hub cannot be reached, or has no such bundle. Or the folder exists.
        BundleError: A file of the bundle is damaged.
        UnwritableFileError: The folder cannot be written, or another process writes it.
    """
    if folder.exists():
        raise HubError(f"{folder} exists; choose another --out")
    check_folder(folder, "--out")
    found = fetch(address)
    with new_folder(folder) as partial:
        for name in files_of(found):
            shutil.copyfile(found / name, partial / name)


def push(folder: Path, address: Address, *, private: bool) -> str:
    """Upload a bundle, after each hash is checked. Return the URL of the commit.

    The repository is made if there is none.

    Raises:
        BundleError: A file of the bundle is damaged.
        HubError: The hub cannot be reached, or does not allow it.
    """
    manifest = read_manifest(folder)
    for stage in manifest.stages:
        read_graph(folder, stage)
    with _errors(address):
        from huggingface_hub import CommitOperationAdd, HfApi

        hub = HfApi(library_name="offramp")
        hub.create_repo(address.repository, private=private, exist_ok=True)
        made = hub.create_commit(
            address.repository,
            [CommitOperationAdd(name, folder / name) for name in files_of(folder)],
            commit_message=f"{manifest.name} {manifest.version}",
            revision=address.revision,
        )
    return str(made.commit_url)


def files_of(folder: Path) -> list[str]:
    """Return the names of the files of a bundle."""
    named = [MANIFEST, *(stage.file for stage in read_manifest(folder).stages)]
    return [*named, *(name for name in FURTHER if (folder / name).is_file())]


def _download(address: Address, name: str, revision: str) -> Path:
    with _errors(address):
        from huggingface_hub import hf_hub_download

        return Path(
            hf_hub_download(address.repository, name, revision=revision, library_name="offramp")
        )


@contextmanager
def _errors(address: Address) -> Iterator[None]:
    """Raise the errors of the hub as HubError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise HubError(f"{address} needs the extra hub: {EXTRA}") from error
    except (OSError, ValueError, RuntimeError) as error:  # also those of HTTP
        raise HubError(f"{address}: {' '.join(str(error).split())}") from error
