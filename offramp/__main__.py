"""The command `offramp`, as `python -m offramp`."""

import sys

from offramp.cli import main

sys.exit(main(sys.argv[1:]))
