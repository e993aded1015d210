"""`python -m dsm` is the `dsm` command."""

import sys

from dsm.cli import main

sys.exit(main())
