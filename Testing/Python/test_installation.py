"""Installing into Slicer, with a fake pip, a fake PyTorch extension and a Python that lacks what a test wants."""

from __future__ import annotations

import ssl
import subprocess
import sys
import types
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
import slicer.util
from MRDiffusionPanel.installation import plan, remembered, steps
from MRDiffusionPanel.installation.plan import InstallationError
from panel_support import add_volume, select

from MRDiffusionLib.worker import libraries as found_libraries
from MRDiffusionLib.worker.libraries import NEEDED, Library, fits

pytest_plugins = ["panel_fixtures"]

GOOD = {"torch": "2.9.0+cu130", "monai": "1.6.1", "einops": "0.8.1", "SimpleITK": "2.5.5", "safetensors": "0.6"}


class FakePython:
    """What Slicer's Python has, and a pip and a PyTorch extension that change it.

    Attributes:
        versions, there: what pip knows of, and what can be imported.
        calls: what was asked of pip and of the extension, in order.
        fails: raised instead of installing.
        begun: whether each call found the mark of a begun installation.
    """

    def __init__(self) -> None:
        self.versions, self.there = dict(GOOD), set(GOOD)
        self.calls: list[tuple[str, Any]] = []
        self.constraints: list[str] = []
        self.fails: Exception | None = None
        self.begun: list[bool] = []

    def lose(self, *names: str) -> None:
        for name in names:
            self.versions.pop(name, None)
            self.there.discard(name)

    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def _do(self, name: str, what: Any, installed: list[str]) -> None:
        self.calls.append((name, what))
        self.begun.append(bool(remembered.recall(remembered.BEGUN)))
        if self.fails is not None:
            raise self.fails
        for each in installed:
            self.versions[each] = GOOD[each]
            self.there.add(each)

    def pip(self, arguments: list[str], constraints: str | None = None, requester: str = "") -> None:
        if constraints is None and "--constraint" in arguments:
            constraints = arguments[arguments.index("--constraint") + 1]
        self.constraints.append(Path(str(constraints)).read_text())
        names = [name for name in GOOD if any(each.startswith(f"{name}>") for each in arguments)]
        self._do("pip", arguments, names)

    def ensure(self, required: list[str], **options: Any) -> None:
        """As the real one: what pip takes for installed is left alone."""
        assert options["requester"] == "MRDiffusion" and options["prompt_install"] is False
        self.constraints.append(Path(options["constraints"]).read_text())
        names = [name for name in GOOD if any(each.startswith(f"{name}>") for each in required)]
        self._do("ensure", names, [name for name in names if not fits(self.versions.get(name, "0"), NEEDED[name])])

    def extension(self) -> types.ModuleType:
        python, module = self, types.ModuleType("PyTorchUtils")

        class PyTorchUtilsLogic:
            def installTorch(self, askConfirmation: bool, torchVersionRequirement: str) -> object:
                assert not askConfirmation
                python._do("torch", torchVersionRequirement, ["torch"])
                return object()

            def uninstallTorch(self, askConfirmation: bool) -> None:
                python.calls.append(("uninstall torch", None))
                python.lose("torch")

        module.PyTorchUtilsLogic = PyTorchUtilsLogic  # type: ignore[attr-defined]
        return module


@pytest.fixture
def python(module: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakePython]:
    """A complete one, of a Slicer with `slicer.packaging`."""
    fake = FakePython()
    monkeypatch.setattr(found_libraries, "_version", lambda name: fake.versions.get(name, ""))
    monkeypatch.setattr(found_libraries, "_is_there", lambda name: name in fake.there)
    packaging = types.ModuleType("slicer.packaging")
    packaging.pip_install, packaging.pip_ensure = fake.pip, fake.ensure  # type: ignore[attr-defined]
    lines = plan.requirements_file().read_text().splitlines
    packaging.load_requirements = lambda _path: [each for each in lines() if each[:1].isalpha()]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "slicer.packaging", packaging)
    monkeypatch.setattr(slicer.util, "pip_install", lambda *_: pytest.fail("the newer way must be taken"))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", fake.extension())
    monkeypatch.setattr(plan, "site_packages", lambda: str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("nothing may ask the network"))
    for name in NEEDED:  # other tests have loaded them
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield fake
    for name in (remembered.BEGUN, remembered.WHEELS, remembered.COMPUTER, remembered.PYTHON_THERE):
        remembered.keep(name, "")


def begun() -> bool:
    return bool(remembered.recall(remembered.BEGUN))


def install(wheels: str = "") -> bool:
    return steps.install(plan.wanting(), wheels)


def failure(wheels: str = "") -> InstallationError:
    with pytest.raises(InstallationError) as caught:
        install(wheels)
    assert caught.value.hint
    return caught.value


# The plan


def test_the_plan_says_what_how_large_and_from_where(python: FakePython, monkeypatch: pytest.MonkeyPatch) -> None:
    python.lose("torch", "einops")
    python.versions["monai"] = "1.3.2"
    monkeypatch.setattr("shutil.which", lambda _: None)
    text = plan.explanation(plan.wanting())
    assert "torch >=2.8 (is missing): about 0.2 GB, from download.pytorch.org" in text
    assert "monai >=1.6,<2 (1.3.2 is there): about 3 MB, from pypi.org" in text
    assert "einops" in text and "safetensors" not in text and "keep their versions" in text
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/nvidia-smi")
    assert "about 3.0 GB" in plan.explanation(plan.wanting())
    assert "from /wheels" in plan.explanation(plan.wanting(), "/wheels")


def test_a_complete_python_wants_nothing(python: FakePython) -> None:
    assert plan.missing() == []
    python.versions.pop("SimpleITK")  # Slicer's own need not be known to pip
    assert plan.missing() == []


@pytest.mark.parametrize(
    ("version", "needed", "fitting"),
    [
        ("2.8.0", ">=2.8", True),
        ("2.13.0+cpu", ">=2.8", True),
        ("2.7.1", ">=2.8", False),
        ("1.6.0rc1", ">=1.6,<2", True),
        ("2.0", ">=1.6,<2", False),
        ("10.0", ">=2.8", True),
        ("unknown", ">=0.1", False),
    ],
)
def test_versions_are_compared_as_numbers(version: str, needed: str, fitting: bool) -> None:
    assert fits(version, needed) == fitting


def test_what_pip_leaves_behind_is_seen_without_loading_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a Python without any of them: a folder without code, a description without a folder, an old version."""
    (tmp_path / "torch" / "lib").mkdir(parents=True)
    for name, version in (("monai", "1.6.0"), ("einops", "0.3.0")):
        (tmp_path / f"{name}-{version}.dist-info").mkdir()
        (tmp_path / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
    (tmp_path / "einops").mkdir()
    (tmp_path / "einops" / "__init__.py").write_text("raise RuntimeError('loaded')")
    (tmp_path / "safetensors").mkdir()
    (tmp_path / "safetensors" / "__init__.py").touch()
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path[:0] = [{str(root)!r}, {str(tmp_path)!r}]\n"
        "from MRDiffusionLib.worker.libraries import libraries\n"
        "print(*(each.problem for each in libraries()), sep=',')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "missing,half installed,wrong version,missing,half installed"


def test_needed_versions_are_those_of_the_package() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{name}{needed}"' in text for name, needed in NEEDED.items())
    lines = plan.requirements_file().read_text().splitlines()
    assert {f"{name}{needed}" for name, needed in NEEDED.items()} >= {each for each in lines if each[:1].isalpha()}


# The steps


def test_torch_comes_from_the_extension_and_the_rest_from_pip_with_slicers_versions(python: FakePython) -> None:
    python.lose("torch", "monai", "einops", "safetensors")
    assert install() is False
    assert python.calls == [("torch", ">=2.8"), ("ensure", ["monai", "einops", "safetensors"])]
    assert f"numpy=={np.__version__}\n" in python.constraints[0] and "SimpleITK==" in python.constraints[0]
    assert python.begun == [True, True] and not begun()
    assert plan.missing() == []


def test_an_older_slicer_installs_too(python: FakePython, monkeypatch: pytest.MonkeyPatch) -> None:
    python.lose("monai")
    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", python.pip)
    install()
    (call,) = python.calls
    assert call[1][:2] == ["monai>=1.6,<2", "--constraint"] and "numpy==" in python.constraints[0]


def test_a_wrong_version_is_replaced(python: FakePython) -> None:
    python.versions.update(torch="2.2.2", monai="1.4.0")
    assert plan.missing() == ["torch", "monai"]
    install()
    assert python.names() == ["torch", "ensure"] and plan.missing() == []


def test_what_is_half_installed_is_installed_again(python: FakePython) -> None:
    python.there -= {"torch", "einops"}
    install()
    assert python.names() == ["uninstall torch", "torch", "pip", "ensure"]
    assert python.calls[2][1] == ["einops>=0.8", "--force-reinstall", "--no-deps"]
    assert plan.missing() == []


def test_without_the_pytorch_extension_it_says_so_and_goes_on_after_the_restart(
    python: FakePython, monkeypatch: pytest.MonkeyPatch
) -> None:
    python.lose("torch", "monai")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    error = failure()
    assert "PyTorch extension" in error.message and "Extensions Manager" in error.hint
    assert python.calls == [] and begun()


def test_torch_that_is_in_use_waits_for_the_restart(python: FakePython, monkeypatch: pytest.MonkeyPatch) -> None:
    python.versions["torch"] = "2.2.2"
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    python.fails = subprocess.CalledProcessError(1, "pip", "ERROR: [WinError 5] Access is denied: 'c10.dll'")
    assert "Restart" in failure().hint and begun()
    python.fails = None
    assert install() is True, "what was loaded before stays loaded until the restart"
    assert not begun()


NO_NETWORK = urllib.error.URLError(ConnectionRefusedError(111, "Connection refused"))
NO_CERTIFICATE = urllib.error.URLError(ssl.SSLCertVerificationError("self-signed certificate in certificate chain"))


@pytest.mark.parametrize(
    ("cause", "words"), [(NO_NETWORK, "pypi.org cannot be reached"), (NO_CERTIFICATE, "certificate of pypi.org")]
)
def test_without_network_it_says_so(
    python: FakePython, monkeypatch: pytest.MonkeyPatch, cause: Exception, words: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise cause

    python.lose("monai")
    python.fails = subprocess.CalledProcessError(1, "pip install")
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    error = failure()
    assert words in error.message and "wheel folder" in error.hint and not begun()


def test_a_failure_with_a_network_names_what_pip_said(python: FakePython, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(*_: Any, **__: Any) -> None:
        raise urllib.error.HTTPError("https://pypi.org", 405, "no", None, None)  # type: ignore[arg-type]

    python.lose("monai")
    monkeypatch.setattr(urllib.request, "urlopen", answer)
    python.fails = subprocess.CalledProcessError(1, "pip install")
    assert "pip ended with code 1" in failure().message
    python.fails = RuntimeError("PythonSlicer executable not found")
    assert "PythonSlicer executable not found" in failure().message
    python.fails = OSError(28, "No space left on device")
    assert "the disk is full" in failure().message


def test_a_pip_that_skips_silently_is_noticed(python: FakePython, monkeypatch: pytest.MonkeyPatch) -> None:
    python.lose("monai")
    monkeypatch.setattr(sys.modules["slicer.packaging"], "pip_ensure", lambda *_, **__: None)
    assert "monai (missing)" in failure().message


def test_obstacles_are_told_before_anything_is_changed(
    python: FakePython, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    python.lose("torch")
    with monkeypatch.context() as patch:
        patch.setattr("platform.system", lambda: "Darwin")
        patch.setattr("platform.machine", lambda: "x86_64")
        assert "another computer" in failure().hint
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda *_: False)
        assert "cannot be written" in failure().message
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=10**8))
        assert "0.1 GB left, about 0.6 GB" in failure().message
    python.lose("SimpleITK")
    assert "SimpleITK" in failure().message
    assert python.calls == [] and not begun()


# Wheels


def wheel(folder: Path, name: str, version: str) -> None:
    """A wheel of nothing."""
    described = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{name}/__init__.py", "")
        archive.writestr(f"{described}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{described}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{described}/RECORD", "")


def test_wheels_are_taken_from_a_folder_and_nothing_from_the_network(python: FakePython, tmp_path: Path) -> None:
    python.lose("torch", "einops")
    folder = tmp_path / "my wheels"
    folder.mkdir()
    wheel(folder, "einops", "0.8.1")
    error = failure(str(folder))
    assert "no wheel of torch" in error.message and python.calls == []
    wheel(folder, "torch", "2.9.0")
    install(str(folder))
    arguments = ["torch>=2.8", "einops>=0.8", "--no-index", "--find-links", str(folder)]
    assert python.calls == [("pip", arguments)], "not through the extension, which asks the network"
    python.lose("einops")
    python.fails = subprocess.CalledProcessError(1, "pip")
    assert "lacks something" in failure(str(folder)).message


def test_the_real_pip_understands_what_it_is_asked(
    python: FakePython, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, target = tmp_path / "my wheels", tmp_path / "target"
    folder.mkdir()
    wheel(folder, "einops", "0.8.1")

    def pip(arguments: list[str]) -> None:
        options = ["--quiet", "--disable-pip-version-check", "--target", str(target)]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, *arguments], check=True)
        python.pip(arguments)

    monkeypatch.setitem(sys.modules, "slicer.packaging", None)
    monkeypatch.setattr(slicer.util, "pip_install", pip)
    python.lose("einops")
    install(str(folder))
    assert (target / "einops" / "__init__.py").is_file()


# In the panel


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], list[bool]]]:
    """What the person was asked, and what they answer, one after another; nothing more may be asked."""
    asked: list[str] = []
    given: list[bool] = []
    for name in ("confirmOkCancelDisplay", "confirmYesNoDisplay"):
        monkeypatch.setattr(slicer.util, name, lambda text: (asked.append(text), given.pop(0))[1])
    yield asked, given
    assert given == []


def test_nothing_is_installed_without_a_click_and_a_yes(python: FakePython, answers: Any, panel: Any) -> None:
    asked, given = answers
    python.lose("torch", "monai")
    select(panel, add_volume())
    panel.enter()
    panel.widget.show()
    assert panel.ui.installButton.visible and not panel.ui.applyButton.enabled
    assert "lacks torch, monai" in panel.ui.stateText.text
    slicer.app.processEvents()
    assert asked == [] and python.calls == []
    given.append(False)
    panel.ui.installButton.click()
    assert "torch >=2.8" in asked[0] and python.calls == [] and not begun()
    given.append(True)
    panel.ui.installButton.click()
    assert python.names() == ["torch", "ensure"]
    assert not panel.ui.installButton.visible and panel.ui.applyButton.enabled
    assert panel.installation.text.plainText == "Installed: torch, monai."


def test_it_goes_on_after_the_restart(
    python: FakePython, answers: Any, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, given = answers
    python.lose("torch", "monai")
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    panel.enter()
    given.append(True)
    panel.ui.installButton.click()
    assert "Extensions Manager" in panel.installation.text.plainText and not panel.installation.widget.collapsed
    assert begun() and panel.ui.installButton.enabled
    # Slicer was started again: the extension is there, and a new panel.
    monkeypatch.setitem(sys.modules, "PyTorchUtils", python.extension())
    panel.installation._asked = False
    asked.clear()
    given.append(True)
    panel.enter()
    assert asked == [], "not before the module is shown"
    slicer.app.processEvents()
    assert asked[0].startswith("The installation that was begun before goes on.") and "torch" in asked[0]
    assert python.names() == ["torch", "ensure"] and not begun()
    panel.enter()
    slicer.app.processEvents()
    assert len(asked) == 1


def test_a_begun_installation_can_be_given_up_and_one_that_is_complete_is_forgotten(
    python: FakePython, answers: Any, panel: Any
) -> None:
    asked, given = answers
    remembered.keep(remembered.BEGUN, "yes")
    panel.enter()
    slicer.app.processEvents()
    assert asked == [] and not begun()
    python.lose("einops")
    remembered.keep(remembered.BEGUN, "yes")
    given.append(False)
    panel.enter()
    slicer.app.processEvents()
    assert len(asked) == 1 and not begun() and python.calls == []


def test_a_restart_is_offered_where_an_older_version_is_loaded(
    python: FakePython, answers: Any, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, given = answers
    restarts: list[bool] = []
    monkeypatch.setattr(slicer.util, "restart", lambda: restarts.append(True))
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    for answer in (False, True):
        python.versions["torch"] = "2.2.2"
        given.extend([True, answer])
        panel.ui.installButton.click()
        assert "Restart it now" in asked[-1] and restarts == [True] * answer


def test_with_another_computer_nothing_is_wanted_here(python: FakePython, panel: Any) -> None:
    python.lose("torch")
    panel.enter()
    assert panel._missing == ["torch"]
    panel.installation.computer.text = " radiologist@workstation "
    panel.installation.computer.editingFinished.emit()
    assert panel._missing == [] and remembered.other_computer() == ["--ssh", "radiologist@workstation"]
    parameters = panel.parameters.parameterNode
    assert not any("workstation" in parameters.GetParameter(name) for name in parameters.GetParameterNames())
    panel.installation.python.text = "~/venv/bin/python"
    panel.installation.python.editingFinished.emit()
    assert remembered.other_computer()[2:] == ["--python", "~/venv/bin/python"]
    panel.installation.computer.text = ""
    panel.installation.computer.editingFinished.emit()
    assert panel._missing == ["torch"]


def test_library_states_are_told_apart() -> None:
    states = [Library("x", ">=1", version, there).problem for version, there in (("", False), ("1", False), ("", True))]
    assert states == ["missing", "half installed", "half installed"]
    assert Library("x", ">=1", "0.9", True).problem == "wrong version" and not Library("x", ">=1", "1.0", True).problem
