"""Provenance: what made a result, complete enough to make it again."""

from __future__ import annotations

import datetime
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__
from ..imaging.geometry import Geometry
from ..packs import PackInfo
from ..request import Request


def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide the numbers."""
    versions = {"MRDiffusion": __version__, "python": platform.python_version()}
    for name in ("torch", "monai", "SimpleITK", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "absent"
    return versions


def provenance(request: Request, info: PackInfo, inputs: dict[str, tuple[str, Geometry]]) -> dict[str, Any]:
    """JSON types. `request` must be resolved (device, precision, batch, noise), or it would not run again exactly."""
    return {
        "synthetic": True,
        "notice": "SYNTHETIC: computed by a generative model; not for diagnosis",
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "request": request.to_json(),
        "pack": {
            "name": info.name,
            "version": info.version,
            "weights_sha256": info.weights_sha256,
            "training_data": info.training_data,
        },
        "inputs": {
            role: {"sha256": digest, "geometry": geometry.to_json()} for role, (digest, geometry) in inputs.items()
        },
        "versions": library_versions(),
    }
