"""`python -m dacsm` is the same as `dacsm`; the workflow uses it, so that a job needs no installed package."""

import sys

from dacsm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
