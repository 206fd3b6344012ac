"""Restrict this process and its children to the loopback network.

Some peers listen on every address of the host, and some send telemetry.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1


def isolate() -> bool:
    """Move into a new network namespace that has loopback only.

    Affects the calling thread and the processes that it starts later. Needs Linux and root.

    Returns:
        True on success. False where the system does not permit it, and the network is unchanged.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare") or os.geteuid() != 0 or libc.unshare(CLONE_NEWNET) != 0:
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return True
