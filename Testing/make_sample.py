"""Makes `MRDiffusion/Resources/SampleData`: a brain of OpenNeuro ds002748, a heart of the Sunnybrook data, both CC0.

    .venv/bin/python Testing/make_sample.py sub-53_T1w.nii.gz data/cardiac_cine [--out MRDiffusion/Resources/SampleData]

Brain, subject 53. The volume is skull-stripped, 288x288x181 voxels of 0.868x0.868x1 mm. Kept are 12 slices of 1 mm, 5
mm apart; of each the middle 256x256 pixels (222 mm), as in the training images, mirrored in the plane so that anterior
is up. The reference is the centre 128x128 of its k-space, the low-resolution image the centre 64x64 of the
reference's, both as magnitude. The low-resolution volume is therefore SIMULATED: no scanner measured it. Five of the
slices are kept at full resolution, and a SIMULATED noisy scan of them.

Heart, SCD0000401, which no pack was trained on. The bSSFP images are real; T2 and LGE are SIMULATED, with an infarct
that this person does not have. Orientation and position are nominal.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from MRDiffusionLib.imaging.geometry import Geometry
from MRDiffusionLib.imaging.volume import to_image
from MRDiffusionLib.packs.intensity import intensity_scale
from MRDiffusionLib.physics.degradation import degrade
from MRDiffusionLib.physics.kspace import resize_image
from MRDiffusionLib.simulation.cohort import Options, patient_volumes, real_anatomy, simulate
from MRDiffusionLib.simulation.sunnybrook import read_slices

SAMPLE_DATA = Path(__file__).resolve().parents[1] / "MRDiffusion" / "Resources" / "SampleData"

FIRST_SLICE, SLICES, EVERY = 63, 12, 5
CROP = 16
"""Pixels cut off at each side: the training images are the middle 256 of 288."""

WHITE = 0.93
"""Of the 99.5th percentile in the training slices, mean over their subjects."""

REFERENCE, LOW = (128, 128), (64, 64)


def some_slices(path: Path) -> sitk.Image:
    """The chosen slices at full resolution, anterior up; SimpleITK keeps the geometry right."""
    volume = sitk.ReadImage(str(path), sitk.sitkFloat32)
    upright = sitk.Flip(volume, [False, True, False])
    last = FIRST_SLICE + EVERY * SLICES
    return upright[CROP:-CROP, CROP:-CROP, FIRST_SLICE:last:EVERY]


def at_resolution(image: sitk.Image, matrix: tuple[int, int]) -> sitk.Image:
    """The centre of k-space of every slice as a magnitude image, rounded to int16, with the same field of view."""
    array = torch.from_numpy(sitk.GetArrayFromImage(image)).double()
    resized = resize_image(array, matrix).abs().round().numpy().astype(np.int16)
    x, y, z = image.GetSize()
    geometry = Geometry((x, y, z), image.GetSpacing(), image.GetOrigin(), image.GetDirection()).refined(matrix)
    result = sitk.GetImageFromArray(resized)
    result.SetSpacing(geometry.spacing)
    result.SetOrigin(geometry.origin)
    result.SetDirection(geometry.direction)
    return result


FINE, NOISE_LEVEL, NOISE_SEED = slice(1, 11, 2), 0.6, 7
"""Which of the twelve slices are kept at full resolution, and the noisy scan of them."""


def full_resolution(image: sitk.Image) -> dict[str, sitk.Image]:
    """File name to volume: some slices as they are, and as a noisy scan would show them, int16."""
    fine = image[:, :, FINE]
    clean = sitk.GetArrayFromImage(fine)
    white = intensity_scale(clean, {"percentile": 99.5, "value": WHITE})
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noisy = degrade(torch.from_numpy(clean / white), "noise", NOISE_LEVEL, generator).numpy() * white
    volumes = {}
    for name, array in (("brain-t1-fine", clean), ("brain-t1-noisy", noisy)):
        volumes[name] = sitk.GetImageFromArray(array.round().astype(np.int16))
        volumes[name].CopyInformation(fine)
    return volumes


HEART, HEART_SEED = "SCD0000401", 99
"""The seed gives an acute infarct of the anterior wall."""


def heart(cine: Path) -> dict[str, sitk.Image]:
    """File name to volume of the simulated patient, int16."""
    stack = read_slices(cine)[HEART]
    spacing = (stack[0].spacing_mm, 10.0)
    patient = simulate(real_anatomy(stack), HEART_SEED, Options(infarct=1, acute=1), spacing, HEART)
    volumes = patient_volumes(patient)
    names = {"cardiac-bssfp": "bSSFP", "cardiac-t2": "T2", "cardiac-lge": "LGE"}
    return {name: sitk.Cast(to_image(volumes[sequence]), sitk.sitkInt16) for name, sequence in names.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", type=Path, help="sub-53_T1w.nii.gz")
    parser.add_argument("cine", type=Path, help="Sunnybrook images with contours (docs/data.md)")
    parser.add_argument("--out", type=Path, default=SAMPLE_DATA)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    slices = some_slices(options.volume)
    reference = at_resolution(slices, REFERENCE)
    low = at_resolution(sitk.Cast(reference, sitk.sitkFloat32), LOW)
    sums = []
    images = {"brain-t1-reference": reference, "brain-t1-low-resolution": low, **full_resolution(slices)}
    images |= heart(options.cine)
    for name, image in images.items():
        path = options.out / f"{name}.nii.gz"
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=9)
        sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
        print(path, image.GetSize(), [round(s, 4) for s in image.GetSpacing()])
    (options.out / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
