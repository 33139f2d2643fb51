"""What all tests share: no user's packs, the shipped sample, and a tiny pack with random weights."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Of the libraries under NumPy and PyTorch, in all processes that the tests start: on tiny arrays the threads of several
# processes wait for each other, and a run takes several times as long. A test of threads sets them itself.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_DATA = ROOT / "MRDiffusion" / "Resources" / "SampleData"


@pytest.fixture(autouse=True)
def _no_user_packs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The packs of whoever runs the tests must not change what they find."""
    monkeypatch.setenv("MRDIFFUSION_PACKS", str(tmp_path_factory.getbasetemp() / "no-user-packs"))


@pytest.fixture(scope="session")
def low_resolution_sample() -> Path:
    """The shipped simulated 64x64 volume (`MRDiffusion/Resources/SampleData/README.md`)."""
    return SAMPLE_DATA / "brain-t1-low-resolution.nii.gz"


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 128x128 super-resolution pack of some 20,000 random weights: the whole way runs, in a moment, to no sense."""
    import torch

    from MRDiffusionLib.networks.unet import VDMUNet
    from MRDiffusionLib.packs.weights import write_pack

    settings = {"channels": [8, 16, 16], "num_res_blocks": [1, 1, 1], "head_channels": 8, "norm_groups": 4}
    torch.manual_seed(0)
    network = VDMUNet(**settings)
    described = {k: v for k, v in network.settings.items() if k not in ("gamma_min", "gamma_max")}
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_pack(
        folder,
        {
            "name": "tiny",
            "version": "1.0",
            "title": "Random weights",
            "task": "superresolution",
            "roles": ["low_resolution"],
            "matrix": [128, 128],
            "pixel_size_mm": [1.736, 1.736],
            "prediction": "v",
            "network": described,
            "schedule": {"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0},
            "normalisation": {"percentile": 99.5, "value": 0.9},
            "domain": {"plane": "any", "median": {}},
            "training_data": "none",
            "licence": "CC0-1.0",
            "quality": {},
            "intended_use": "tests",
            "limits": [],
        },
        network.state_dict(),
        "# Random weights\n",
        "CC0-1.0\n",
    )
    return folder


@pytest.fixture(scope="session")
def tiny_pack_32(tiny_pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 32x32 pack in which every weight is random (MONAI starts some layers at zero): a step takes milliseconds."""
    import torch

    from MRDiffusionLib.networks.unet import VDMUNet
    from MRDiffusionLib.packs import read_info
    from MRDiffusionLib.packs.weights import write_pack

    info = read_info(tiny_pack)
    described = {**info.network, "channels": [8, 16], "num_res_blocks": [1, 1]}
    generator = torch.Generator().manual_seed(0)
    shapes = {name: value.shape for name, value in VDMUNet(**described).state_dict().items()}
    weights = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    values = {**info.to_json(), "name": "tiny-32", "network": described, "matrix": [32, 32], "pixel_size_mm": [1, 1]}
    folder = tmp_path_factory.mktemp("packs") / "tiny-32"
    write_pack(folder, values, weights, "# Random weights\n", "CC0-1.0\n")
    return folder


@pytest.fixture(scope="session")
def low_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three slices of 16x16 pixels of 2x2x5 mm with a bright disc in noise, oblique: the input for `tiny_pack_32`."""
    import numpy as np

    from MRDiffusionLib.imaging.volume import Geometry, Volume, write_volume

    y, x = np.mgrid[:16, :16] - 7.5
    disc = 100.0 * (np.hypot(x, y) < 5) + np.random.default_rng(0).normal(10, 1, (3, 16, 16))
    tilt = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6, 0.0, 0.6, 0.8)
    path = tmp_path_factory.mktemp("volumes") / "low.nrrd"
    geometry = Geometry((16, 16, 3), (2.0, 2.0, 5.0), (-10.0, 5.0, 30.0), tilt)
    write_volume(Volume(disc.astype(np.float32), geometry), path)
    return path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many kB, once for a test. Skips where the machine does not let us.

    Root alone may mount. With MRDIFFUSION_NO_SKIPS sudo is asked, where it wants no password; elsewhere no test does
    more than who started it may do.
    """
    by_root = ["sudo", "-n"] if os.environ.get("MRDIFFUSION_NO_SKIPS") and os.getuid() and shutil.which("sudo") else []
    place = tmp_path / "small"

    def mount(size: int) -> Path:
        place.mkdir()
        command = [*by_root, "mount", "-t", "tmpfs", "-o", f"size={size}k,mode=1777", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no right to mount a small file system")
        return place

    yield mount
    if place.is_mount():
        subprocess.run([*by_root, "umount", "-l", str(place)], check=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With MRDIFFUSION_NO_SKIPS (as `.ci/run` sets it) a skipped test fails the run: there every test must run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("MRDIFFUSION_NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def tiny_synthesis_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthesis pack of bSSFP, T2 and LGE with random weights, 32x32 pixels of 2 mm."""
    import torch

    from MRDiffusionLib.networks.cmrdiff import CMRDiff
    from MRDiffusionLib.packs.weights import write_pack

    sequences = ("bSSFP", "T2", "LGE")
    unet = {"channels": [16, 32], "num_res_blocks": [1, 1], "head_channels": 16, "norm_groups": 8}
    described = {
        "autoencoder": {"channels": [16, 16], "latent_channels": 3, "num_res_blocks": 1, "norm_groups": 8},
        "denoiser": {**unet, "fold": 2},
        "features": {"channels": 16, "matrix": [32, 32]},
        "regression": {**unet, "fold": 2},
    }
    torch.manual_seed(0)
    network = CMRDiff(sequences=3, **described, gamma_min=-12.0, gamma_max=6.0)
    for parameter in network.parameters():  # MONAI begins some of them at zero, and a condition would not matter
        torch.nn.init.normal_(parameter, std=0.05)
    info = {
        "name": "tiny",
        "version": "0",
        "title": "random weights",
        "task": "synthesis",
        "roles": list(sequences),
        "matrix": [32, 32],
        "pixel_size_mm": [2.0, 2.0],
        "prediction": "v",
        "network": described,
        "schedule": {"name": "linear", "gamma_min": -12.0, "gamma_max": 6.0},
        "normalisation": {"percentile": 99.5, "value": 0.9},
        "domain": {"plane": "any", "median": {}},
        "training_data": "none",
        "licence": "Apache-2.0",
        "quality": {},
        "intended_use": "tests",
        "limits": [],
    }
    folder = tmp_path_factory.mktemp("packs") / "tiny"
    write_pack(folder, info, network.state_dict(), "card", "licence")
    return folder


def _random_pack(folder: Path, task: str, network: object, described: dict[str, object]) -> Path:
    """A pack of one image of 32x32 pixels of 1 mm, in which every weight is random."""
    import torch

    from MRDiffusionLib.packs.weights import write_pack

    assert isinstance(network, torch.nn.Module)
    torch.manual_seed(0)
    for parameter in network.parameters():  # MONAI begins some of them at zero, and a condition would not matter
        torch.nn.init.normal_(parameter, std=0.1)
    info = {
        "name": folder.name,
        "version": "0",
        "title": "random weights",
        "task": task,
        "roles": ["image"],
        "matrix": [32, 32],
        "pixel_size_mm": [1.0, 1.0],
        "prediction": "v",
        "network": described,
        "schedule": {"name": "linear", "gamma_min": -12.0, "gamma_max": 6.0},
        "normalisation": {"percentile": 99.5, "value": 0.9},
        "domain": {"plane": "axial", "median": {"image": [0.2, 0.8]}},
        "training_data": "none",
        "licence": "CC0-1.0",
        "quality": {},
        "intended_use": "tests",
        "limits": [],
    }
    write_pack(folder, info, network.state_dict(), "card", "licence")
    return folder


_FOLDED = {"channels": [8, 16], "num_res_blocks": [1, 1], "head_channels": 8, "norm_groups": 4, "fold": 2}


@pytest.fixture(scope="session")
def tiny_degrader_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A degradation pack of the kind noise with random weights."""
    from MRDiffusionLib.networks.degrader import Degrader

    denoiser = {**_FOLDED, "fold": 4}
    network = Degrader("noise", denoiser, gamma_min=-12.0, gamma_max=6.0)
    described = {"kind": "noise", "denoiser": denoiser}
    return _random_pack(tmp_path_factory.mktemp("packs") / "tiny-degrader", "degradation", network, described)


@pytest.fixture(scope="session")
def tiny_enhancer_pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An enhancement pack of both kinds with random weights."""
    from MRDiffusionLib.networks.enhancer import Enhancer

    described = {"kinds": ["noise", "blur"], "iterations": 2, "unet": _FOLDED, "estimator": [4, 8]}
    network = Enhancer(**described)  # type: ignore[arg-type]
    return _random_pack(tmp_path_factory.mktemp("packs") / "tiny-enhancer", "enhancement", network, described)
