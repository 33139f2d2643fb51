"""The layer rule of docs/architecture.md, what may be imported where, and what a package holds."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "monai", "dask", "distributed")
TORCH_FREE = (
    "MRDiffusionLib",
    "MRDiffusionLib.errors",
    "MRDiffusionLib.settings",
    "MRDiffusionLib.request",
    "MRDiffusionLib.workload",
    "MRDiffusionLib.packs",
    "MRDiffusionLib.imaging.volume",
    "MRDiffusionLib.worker.protocol",
    "MRDiffusionLib.worker.client",
    "MRDiffusionLib.worker.remote",
    "MRDiffusionLib.worker.check",
    "MRDiffusionLib.cohort.build",
    "MRDiffusionLib.cohort.slurm",
    "MRDiffusionLib.cli.main",
)


def run(*command: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def imported(path: Path) -> set[str]:
    """Top-level names of all packages that a file imports, at whatever depth."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def lint_imports(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    return run(sys.executable, "-c", code, str(config), folder=folder)


def test_imports_point_downwards() -> None:
    done = lint_imports(ROOT / "pyproject.toml", ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_layer_rule_finds_an_import_that_points_upwards(tmp_path: Path) -> None:
    """The same contract on a copy in which the lowest layer imports the highest."""
    contracts = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text(contracts, encoding="utf-8")
    for source in (ROOT / "MRDiffusionLib").rglob("*.py"):
        copy = tmp_path / source.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    with (tmp_path / "MRDiffusionLib" / "diffusion" / "noise.py").open("a", encoding="utf-8") as stream:
        stream.write("\nimport MRDiffusionLib.tasks\n")
    done = lint_imports(tmp_path / "pyproject.toml", tmp_path)
    assert done.returncode != 0
    assert "MRDiffusionLib.diffusion is not allowed to import MRDiffusionLib.tasks" in done.stdout


@pytest.mark.parametrize("module", ["imaging.geometry", "imaging.dicom", "imaging.checksum"])
def test_what_the_panel_takes_of_imaging_loads_no_simpleitk(module: str) -> None:
    """Of two SimpleITKs in one process one would not work: Slicer has its own."""
    code = f"import sys, MRDiffusionLib.{module}; print('SimpleITK' in sys.modules, 'pydicom' in sys.modules)"
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, "False False"), done.stderr


@pytest.mark.parametrize("module", TORCH_FREE)
def test_light_parts_load_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = run(sys.executable, "-c", code)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_the_panel_imports_no_backend() -> None:
    """Slicer would load torch with the module, and its SimpleITK belongs to the worker's side."""
    files = sorted((ROOT / "MRDiffusion").rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): imported(f) & {"torch", "monai", "SimpleITK"} for f in files}
    assert not {name: found for name, found in wrong.items() if found}


def test_the_module_folder_has_one_python_file() -> None:
    """Slicer loads every top-level .py of a module's folder as a module of its own; helpers live in packages."""
    assert [path.name for path in (ROOT / "MRDiffusion").glob("*.py")] == ["MRDiffusion.py"]


def test_slicer_gets_what_the_package_asks_for() -> None:
    """requirements.txt is a part of pyproject.toml's dependencies, with the same versions and without torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {line for line in lines if line and not line.startswith("#")}
    assert wanted
    assert wanted <= set(project["dependencies"])
    assert not any(line.startswith("torch") for line in wanted)


def test_a_wheel_holds_the_configurations_and_packs_and_no_tests(tmp_path: Path) -> None:
    build = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "MRDiffusionLib"):
        (source / name).symlink_to(ROOT / name)
    done = run(sys.executable, "-c", build, str(tmp_path), folder=source)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        held = set(wheel.namelist())
    data = [*ROOT.glob("MRDiffusionLib/training/configs/*"), *ROOT.glob("MRDiffusionLib/packs/shipped/*/*")]
    code = (ROOT / "MRDiffusionLib").rglob("*.py")
    assert {path.relative_to(ROOT).as_posix() for path in [*data, *code]} <= held
    assert {name.partition("/")[0].partition("-")[0].lower() for name in held} == {"mrdiffusionlib", "mrdiffusion"}
