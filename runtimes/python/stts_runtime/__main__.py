"""`python -m stts_runtime` is the command `stts-runtime`."""

import sys

from stts_runtime.cli import main


sys.exit(main())
