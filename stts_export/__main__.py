"""`python -m stts_export`: the command, for hosts where nothing can be installed."""

import sys

from stts_export.cli import main


sys.exit(main())
