"""How the volumes of one patient lie to each other: rigid alignment."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from ..errors import InputError
from .geometry import Geometry
from .resample import Rigid, blurred
from .volume import Volume, to_image

WORKING_SPACING_MM = 2.0
"""Both volumes are compared at this resolution, which recovers a known motion to 0.5 mm and 0.5 degrees."""

SHRINK, SMOOTHING_MM = (4, 2, 1), (4.0, 2.0, 0.0)
BINS = 50


def align_rigidly(fixed: Volume, moving: Volume, *, within: Volume | None = None, in_plane: bool = False) -> Rigid:
    """The rigid motion that takes positions in `fixed` to those in `moving`, from where their headers put them.

    Maximises Mattes' mutual information (IEEE TMI 2003; 22:120) at three resolutions. All voxels are compared, none at
    random, so the same volumes give the same motion (to 1e-6 mm). The two may have different contrasts.

    Args:
        within: compare only where this is above 0; positions of `fixed`.
        in_plane: only a rotation about z and a shift along x and y, for a few slices whose normal is z.

    Raises:
        InputError: they do not overlap, or one of them shows nothing.
    """
    still, other = _working(fixed), _working(moving)
    middle = np.array(still.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in still.GetSize()]))
    motion = sitk.Euler3DTransform()
    motion.SetCenter(middle.tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.005, numberOfIterations=100, relaxationFactor=0.6, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    if in_plane:
        method.SetOptimizerWeights([0, 0, 1, 1, 1, 0])
    if within is not None:
        inside = sitk.Resample(to_image(within), still, sitk.Transform(), sitk.sitkLinear, 0.0) > 0
        method.SetMetricFixedMask(inside)
    method.SetShrinkFactorsPerLevel(SHRINK)
    method.SetSmoothingSigmasPerLevel(SMOOTHING_MM)
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetInitialTransform(motion, True)
    try:
        method.Execute(still, other)
    except RuntimeError as error:  # "All samples map outside moving image buffer", and for a constant image
        raise InputError("two volumes cannot be aligned", "They must show the same part of the body") from error
    return Rigid(np.array(motion.GetMatrix()).reshape(3, 3), middle, np.array(motion.GetTranslation()))


def normalised_mutual_information(a: NDArray[np.float32], b: NDArray[np.float32], bins: int = 64) -> float:
    """Studholme's `(H(a) + H(b)) / H(a, b)` of two arrays of one shape where both are above 0; from 1, more is closer.

    Intensities count up to their 99.5th percentile (Pattern Recognition 1999; 32:71). 1 where nothing is shared.
    """
    both = (a > 0) & (b > 0)
    if not both.any():
        return 1.0
    mine, its = (np.minimum(v[both], np.percentile(v[both], 99.5)) for v in (a, b))
    joint, _, _ = np.histogram2d(mine, its, bins)
    joint /= joint.sum()
    shared = _entropy(joint)
    return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / shared if shared > 0 else 1.0


def reoriented(volume: Volume, orientation: str = "LPS") -> Volume:
    """Voxels in another order, none interpolated: for LPS columns run to the left, rows to the back, slices upwards."""
    image = sitk.DICOMOrient(to_image(volume), orientation)
    x, y, z = image.GetSize()
    geometry = Geometry((x, y, z), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    return Volume(np.asarray(sitk.GetArrayFromImage(image), np.float32), geometry)


def _entropy(shares: NDArray[np.float64]) -> float:
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())


def _working(volume: Volume) -> sitk.Image:
    """Isotropic, blurred where that throws samples away; a volume's own slices are not blurred along z."""
    image = blurred(to_image(volume), (WORKING_SPACING_MM,) * 3)
    geometry = volume.geometry
    size = [max(1, round((n - 1) * s / WORKING_SPACING_MM) + 1) for n, s in zip(geometry.size, geometry.spacing)]
    isotropic = [WORKING_SPACING_MM] * 3
    return sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, geometry.origin, isotropic, geometry.direction, 0.0
    )
