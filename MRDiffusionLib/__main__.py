"""`python -m MRDiffusionLib`: the command line."""

import sys

from . import lean
from .cli import main

if __name__ == "__main__":
    lean.own_process = True
    sys.exit(main())
