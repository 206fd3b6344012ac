"""Bundles on the Hugging Face hub, as `hf://org/name` or `hf://org/name@revision`.

- `address`: the address of a bundle.
- `transfer`: download with every hash checked, and upload. Needs the extra `hub`.
"""

from pathlib import Path

from offramp.hub.address import Address, HubError, address_in

__all__ = ["Address", "HubError", "address_in", "local_bundle"]


def local_bundle(place: Path) -> Path:
    """Return the folder of a bundle: the place itself, or where the hub's cache has it.

    Raises:
        HubError: The hub cannot be reached, or has no such bundle.
        BundleError: A file of the bundle is damaged.
    """
    address = address_in(place)
    if address is None:
        return place
    from offramp.hub.transfer import fetch  # late: most bundles are folders

    return fetch(address)
