"""A slice's tissues from its real bSSFP image and an expert's contours of the left ventricle.

The contours give wall and cavity. Everything else is told by brightness once the coil's shading is removed: lung is
dark, muscle and liver grey, fat bright, and the right ventricle is what is bright and touches the left one. It is good
enough to simulate other sequences, and not a segmentation to measure on.
"""

from __future__ import annotations

import math

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from .anatomy import LABELS, NUMBER, Anatomy, Floats, Mask, disk, polar


def anatomy_of(image: Floats, endo: Mask, epi: Mask, papillary: Mask | None = None) -> Anatomy:
    """Tissues of a real slice.

    Args:
        image: (rows, columns) bSSFP magnitude, any unit.
        endo, epi: inside of the endocardial and of the epicardial contour.
        papillary: papillary muscles, where an expert drew them.
    """
    shading = coil_shading(image)
    flat = np.asarray(image, np.float64) / shading
    smooth = ndimage.gaussian_filter(flat, 0.7)
    centre = ndimage.center_of_mass(epi)
    distance, direction = polar(image.shape, centre)
    radius = math.sqrt(float(epi.sum()) / math.pi)
    blood, muscle = _reference(flat, endo, epi, papillary)
    middle = 0.5 * (blood + muscle)

    labels = np.full(image.shape, NUMBER["muscle"], np.uint8)
    dark, bright = smooth < 0.5 * muscle, smooth > middle
    labels[dark] = NUMBER["lung"]
    labels[bright] = NUMBER["fat"]
    right = _right_ventricle(bright & (smooth < 2.2 * blood), epi, distance, radius)
    labels[right] = NUMBER["venous blood"]
    labels = _without_rims(labels)
    _name_liver(labels, centre[0])
    body = ndimage.binary_fill_holes(ndimage.binary_closing(_opened(~dark, 2), disk(12)))
    labels[dark & ~body] = NUMBER["air"]
    labels[epi] = NUMBER["myocardium"]
    labels[endo] = NUMBER["blood"]
    inside = endo & (smooth < middle)
    labels[inside if papillary is None else inside | papillary] = NUMBER["papillary"]
    inner = shading[epi].mean()
    return Anatomy(
        labels=labels,
        texture=_texture(flat, labels),
        centre=centre,
        septum=_septum(right, centre, direction),
        shading=shading / inner,
        bssfp=np.asarray(image, np.float64),
    )


def coil_shading(image: Floats) -> Floats:
    """The coil's sensitivity over the image, about 1, as N4 estimates it (Tustison et al., IEEE TMI 2010; 29:1310)."""
    whole = sitk.GetImageFromArray(np.asarray(image, np.float32) + 1)
    small = sitk.Shrink(whole, [2, 2])
    correction = sitk.N4BiasFieldCorrectionImageFilter()
    correction.SetMaximumNumberOfIterations([30, 20, 10])
    correction.SetNumberOfControlPoints([6, 6])
    correction.Execute(small, sitk.OtsuThreshold(small, 0, 1, 200))
    return np.exp(np.asarray(sitk.GetArrayFromImage(correction.GetLogBiasFieldAsImage(whole)), np.float64))


def _reference(flat: Floats, endo: Mask, epi: Mask, papillary: Mask | None) -> tuple[float, float]:
    """Brightness of blood and of myocardium, away from the contours where that is possible."""
    cavity = endo if papillary is None else endo & ~papillary
    core = ndimage.binary_erosion(cavity)
    wall = ndimage.binary_erosion(epi) & ~ndimage.binary_dilation(endo)
    blood = np.median(flat[core]) if core.sum() > 30 else np.percentile(flat[endo], 70)
    muscle = np.median(flat[wall]) if wall.sum() > 20 else np.median(flat[epi & ~endo])
    return float(blood), float(min(muscle, 0.8 * blood))


def _right_ventricle(candidates: Mask, epi: Mask, distance: Floats, radius: float) -> Mask:
    """Bright regions that touch the outside of the left ventricle: the largest, and others on the same side of it."""
    free = candidates & ~ndimage.binary_dilation(epi) & (distance < 3 * radius)
    parts, count = ndimage.label(_opened(free, 3))
    near = ndimage.binary_dilation(epi, disk(6))
    sizes = {n: int((parts == n).sum()) for n in range(1, count + 1) if ((parts == n) & near).sum() > 15}
    middles = {n: np.subtract(ndimage.center_of_mass(parts == n), ndimage.center_of_mass(epi)) for n in sizes}
    largest = max(sizes, key=lambda n: sizes[n], default=0)
    # Fat or stomach below the heart would lie at a right angle to it, or further round.
    chosen = [n for n, size in sizes.items() if size > 60 and middles[n] @ middles[largest] > 0]
    return ndimage.binary_dilation(np.isin(parts, chosen), disk(1)) & free


def _without_rims(labels: np.ndarray) -> np.ndarray:
    """Thin grey seams between dark and bright are partial volume, not muscle: they get their neighbours' tissue."""
    muscle = labels == NUMBER["muscle"]
    rim = muscle & ~_opened(muscle, 1)
    nearest = ndimage.distance_transform_edt(rim, return_distances=False, return_indices=True)
    return np.asarray(labels[tuple(nearest)])


def _name_liver(labels: np.ndarray, heart_row: float) -> None:
    """Large grey regions below the heart are liver (or stomach wall and spleen, which look alike)."""
    parts, count = ndimage.label(_opened(labels == NUMBER["muscle"], 7))
    for n in range(1, count + 1):
        part = parts == n
        if part.sum() > 500 and ndimage.center_of_mass(part)[0] > heart_row:
            labels[part] = NUMBER["liver"]


def _texture(flat: Floats, labels: np.ndarray) -> Floats:
    """Brightness over the median of the tissue, within limits."""
    texture = np.ones(flat.shape)
    smooth = ndimage.gaussian_filter(flat, 0.3)
    for number in range(1, len(LABELS)):
        part = labels == number
        if part.sum() > 20:
            texture[part] = smooth[part] / max(float(np.median(smooth[part])), 1e-6)
    return np.clip(ndimage.gaussian_filter(np.clip(texture, 0.2, 3), 0.4), 0.3, 2.5)


def _septum(right: Mask, centre: tuple[float, float], direction: Floats) -> float:
    """Towards the right ventricle; to the image's left where none is seen (apex)."""
    if right.sum() < 50:
        return math.pi
    row, column = ndimage.center_of_mass(right)
    return math.atan2(-(row - centre[0]), column - centre[1])


def _opened(mask: Mask, radius: int) -> Mask:
    return np.asarray(ndimage.binary_opening(mask, disk(radius)))
