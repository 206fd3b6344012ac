"""The module that the fork server of decoding processes imports first, and nothing else imports."""

from __future__ import annotations

import atexit
import os

import training.data.loading.loader  # noqa: F401 (its processes are forked with it)

# Without an orderly end of the interpreter, which takes seconds after torch was imported.
atexit.register(os._exit, 0)
