"""MONAI is imported without packages of which it would use what is not used here, and only where nobody misses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from MRDiffusionLib import lean
lean.own_process = {own}
import MRDiffusionLib.networks.unet
print([name for name in lean.UNUSED if name in sys.modules])
import transformers, matplotlib
"""


@pytest.mark.parametrize(("own", "loaded"), [(True, []), (False, ["transformers", "matplotlib"])])
def test_packages_that_only_monai_would_use_are_not_loaded(own: bool, loaded: list[str]) -> None:
    """And can be loaded afterwards."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", PROGRAM.format(own=own)]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(loaded)


def test_the_command_line_is_such_a_process() -> None:
    program = (
        "import runpy, sys; sys.argv[1:] = ['packs', 'list']; runpy.run_module('MRDiffusionLib', run_name='__main__')"
    )
    told = f"""
import atexit
from MRDiffusionLib import lean
atexit.register(lambda: print(lean.own_process))
{program}
"""
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "True", done.stderr
