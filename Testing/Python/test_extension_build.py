"""The extension is configured, built and installed as Slicer does it; the installed tree is complete and works."""

from __future__ import annotations

import json
import os
import re
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


def test_ctest_runs_the_self_test(build: Path, tiny_pack: Path) -> None:
    """As Slicer's build machines do, on the tree that is packed."""
    scripts = build / MODULES
    variables = {"PYTHONPATH": str(scripts), "MRDIFFUSION_PACKS": str(tiny_pack.parent)}
    printed = execute("ctest", "--test-dir", build, "--verbose", "--timeout", "500", **variables)
    assert "py_MRDiffusion" in printed and "100% tests passed" in printed and "0 tests failed" in printed
    assert "10 cases" in printed and f"the library from {scripts / 'MRDiffusionLib'}" in printed


SCHEMA = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
"""What Slicer's schema of catalogue entries 1.0.1 allows; the first three must be there."""


def described(name: str) -> str:
    """A variable of the extension as it stands in CMakeLists.txt, where the Extensions Index looks for it."""
    found = re.findall(rf'set\(EXTENSION_{name} "([^"]+)"\)', (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert len(found) == 1
    return found[0]


def test_entry_of_the_extensions_index() -> None:
    path = ROOT / "docs" / "ExtensionsIndex" / "MRDiffusion.json"
    entry = json.loads(path.read_text(encoding="utf-8"))
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(SCHEMA) and b"\r" not in path.read_bytes()
    assert all(type(value) is SCHEMA[name] for name, value in entry.items())
    assert entry["$schema"].endswith("/Slicer/main/Schemas/slicer-extension-catalog-entry-schema-v1.0.1.json#")
    assert entry["tier"] in (1, 3, 5) and all(type(name) is str for name in entry["build_dependencies"])
    # What the Index checks beside it.
    assert f"project({path.stem})" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert not path.stem.lower().startswith("slicer") and (ROOT / "LICENSE").is_file()
    assert re.fullmatch(rf"https://github\.com/[^/]+/Slicer{path.stem}\.git", entry["scm_url"])
    assert described("CATEGORY") == entry["category"]
    assert described("DEPENDS").split() == entry["build_dependencies"]


def test_icon_and_screenshots_are_where_their_addresses_say() -> None:
    entry = json.loads((ROOT / "docs" / "ExtensionsIndex" / "MRDiffusion.json").read_text(encoding="utf-8"))
    home = entry["scm_url"].removesuffix(".git")
    assert described("HOMEPAGE") == home
    raw = home.replace("github.com", "raw.githubusercontent.com") + f"/{entry['scm_revision']}/"
    for address in [described("ICONURL"), *described("SCREENSHOTURLS").split()]:
        assert address.startswith(raw), address
        assert (ROOT / address.removeprefix(raw)).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_self_test_passes_from_the_installed_tree(installed: Path, tiny_pack: Path) -> None:
    script = ROOT / "Testing" / "Host" / "run_self_test.py"
    # First on the path, or an editable installation of the library would be tested instead.
    variables = {"PYTHONPATH": str(installed), "MRDIFFUSION_PACKS": str(tiny_pack.parent)}
    printed = execute(sys.executable, script, installed / "MRDiffusion.py", "--collected", **variables)
    assert "10 cases" in printed and f"the library from {installed / 'MRDiffusionLib'}" in printed
