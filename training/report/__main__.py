"""Write the report of a finished run: `python -m training.report --checkpoint FILE`."""

import sys

from training.report.report import main

sys.exit(main())
