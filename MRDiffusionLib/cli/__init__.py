"""The command line. It imports torch only when a command computes.

main          arguments to a command, exceptions to exit codes
superresolve  superresolve
synthesize    synthesize
quality       degrade, enhance
pairs         pairs build
rerun         rerun from a provenance
dicom         dicom
training      simulate, prepare, train
commands      packs, evaluate, worker, check, demo
bar           the progress bar on a terminal
"""

from .main import main

__all__ = ["main"]
