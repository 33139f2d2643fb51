"""The extension is configured, built and installed as Slicer does it; the installed tree is complete and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = Path("lib") / "Slicer-5.12" / "qt-scripted-modules"

pytestmark = [
    pytest.mark.skipif(shutil.which("cmake") is None, reason="CMake is not installed"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="CMake needs a C++ compiler for any project"),
]


def execute(*command: str | Path, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run([str(c) for c in command], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    stand_in = f"-DSlicer_DIR={ROOT / 'Testing' / 'CMake'}"
    execute("cmake", "-S", ROOT, "-B", folder, stand_in, f"-DSlicer_STAND_IN_PYTHON={sys.executable}")
    execute("cmake", "--build", folder)
    return folder


@pytest.fixture(scope="module")
def installed(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which Slicer would find the modules."""
    prefix = tmp_path_factory.mktemp("installed")
    execute("cmake", "--install", build, "--prefix", prefix)
    return prefix / MODULES


def files(folder: Path) -> set[str]:
    """Paths of all files that belong to the project."""
    found = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}
    return {str(path) for path in found if "__pycache__" not in path.parts and path.name != "CMakeLists.txt"}


def test_everything_is_installed_and_nothing_else(installed: Path) -> None:
    module = files(ROOT / "MRDiffusion")
    library = {f"MRDiffusionLib/{name}" for name in files(ROOT / "MRDiffusionLib")}
    assert files(installed) == module | library | {"MRDiffusionLib/requirements.txt"}


def test_install_button_finds_its_requirements(installed: Path) -> None:
    text = (installed / "MRDiffusionLib" / "requirements.txt").read_text(encoding="utf-8")
    assert text == (ROOT / "requirements.txt").read_text(encoding="utf-8")


def test_no_stray_module_beside_the_module(installed: Path) -> None:
    """Slicer takes every .py file there for a module, and a package named Testing would collide with others."""
    assert {path.name for path in installed.iterdir()} == {
        "MRDiffusion.py",
        "MRDiffusionPanel",
        "MRDiffusionLib",
        "Resources",
    }


def test_self_test_is_registered(build: Path) -> None:
    assert "py_MRDiffusion" in execute("ctest", "--test-dir", build, "-N")


def test_self_test_passes_from_the_installed_tree(installed: Path, tiny_pack: Path) -> None:
    script = ROOT / "Testing" / "Host" / "run_self_test.py"
    # First on the path, or an editable installation of the library would be tested instead.
    variables = {"PYTHONPATH": str(installed), "MRDIFFUSION_PACKS": str(tiny_pack.parent)}
    printed = execute(sys.executable, script, installed / "MRDiffusion.py", **variables)
    assert "9 cases" in printed and f"the library from {installed / 'MRDiffusionLib'}" in printed
