"""The images that come with the program, in Slicer's module Sample Data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer.util

from . import nodes

CATEGORY = "MRDiffusion"
SAMPLES = (
    (
        "HeartSequences",
        "heart",
        {
            "cardiac-bssfp.nii.gz": "cardiac-bssfp",
            "cardiac-t2.nii.gz": "cardiac-t2 (simulated)",
            "cardiac-lge.nii.gz": "cardiac-lge (simulated truth)",
        },
    ),
    (
        "BrainLowResolution",
        "brain",
        {
            "brain-t1-low-resolution.nii.gz": "brain-t1-low-resolution (simulated)",
            "brain-t1-reference.nii.gz": "brain-t1-reference",
        },
    ),
    ("BrainFine", "brain-fine", {"brain-t1-fine.nii.gz": "brain-t1-fine"}),
    ("BrainNoisy", "brain-noisy", {"brain-t1-noisy.nii.gz": "brain-t1-noisy (simulated noise)"}),
)
"""Name, thumbnail, and file to node name."""


def register(resources: Path) -> None:
    """Offer the samples there, with their checksums; what is not installed is left out.

    Args:
        resources: the module's folder of resources.
    """
    try:
        from SampleData import SampleDataLogic
    except ImportError:  # Slicer was built without that module
        return
    folder, sums = resources / "SampleData", checksums(resources)
    for name, thumbnail, files in SAMPLES:
        if all((folder / file).is_file() for file in files):
            SampleDataLogic.registerCustomSampleDataSource(
                category=CATEGORY,
                sampleName=f"{CATEGORY}{name}",
                thumbnailFileName=str(resources / "Icons" / f"{thumbnail}.png"),
                uris=[(folder / file).as_uri() for file in files],
                fileNames=list(files),
                nodeNames=list(files.values()),
                checksums=[f"SHA256:{sums[file]}" for file in files],
            )


def load(folder: Path, *files: str) -> list[Any]:
    """The volumes of some sample files, named as in Sample Data."""
    names = {file: name for _name, _thumbnail, own in SAMPLES for file, name in own.items()}
    return [slicer.util.loadVolume(str(folder / file), {"name": names[file]}) for file in files]


def load_with_truth(folder: Path, *files: str) -> list[Any]:
    """The same without the last one, which is what can be compared with whatever is made of the others."""
    *given, truth = load(folder, *files)
    truth.SetAttribute(nodes.TRUTH, "1")
    for volume in given:
        volume.SetNodeReferenceID(nodes.TRUTH, truth.GetID())
    return given


def checksums(resources: Path) -> dict[str, str]:
    """File to SHA-256, as they came with the program."""
    lines = (resources / "SampleData" / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name.strip(): digest for digest, _space, name in (line.partition("  ") for line in lines if line.strip())}
