"""Run a module's self-test in the host: `python run_self_test.py .../MRDiffusion.py`. Exit code 0 if all cases pass.

The cases run twice: as Slicer's test runner collects them, and through `runTest` as "Reload and Test" calls it; with
`--collected` only the first way, as in Slicer's CTest.
"""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

import slicer_host


def main(path: Path, *, collected: bool = False) -> int:
    with tempfile.TemporaryDirectory() as folder:
        slicer_host.start(Path(folder))
        import slicer

        slicer_host.load_module(path)
        try:
            case = getattr(sys.modules[path.stem], path.stem + "Test")
            cases = unittest.defaultTestLoader.loadTestsFromTestCase(case)
            outcome = unittest.TextTestRunner(verbosity=2).run(cases)
            if not collected:
                slicer.selfTests[path.stem](msec=1)
        finally:
            slicer.app.moduleManager().unload(path.stem)
        print(f"{outcome.testsRun} cases, the library from {Path(sys.modules['MRDiffusionLib'].__file__).parent}")
        return 0 if outcome.wasSuccessful() and outcome.testsRun else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), collected="--collected" in sys.argv[2:]))
