"""A model of two ventricles in a chest, for more shapes than the real slices have.

The left ventricle is a half ellipsoid with a wall of varying thickness, the right one a crescent on its septal side;
lengths are those of adults at the end of diastole (Kawel-Boehm et al., J Cardiovasc Magn Reson 2020; 22:87).
Around them lie fat, lungs, liver and the chest wall. All outlines are drawn on a grid twice as fine and are random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .anatomy import NUMBER, Anatomy, Floats, Mask, polar, smooth_noise
from .sequences import draw_shading, modelled_texture

FINE = 2
"""Grid points per voxel and axis while outlines are drawn."""


@dataclass(frozen=True)
class Heart:
    """One person. Lengths in mm, angles in radians counter-clockwise from the image's right.

    Attributes:
        radius: of the left cavity at the base.
        wall: mean thickness of its wall; the septum may be thicker by `septal`.
        length: from base to apex.
        septum: direction of the middle of the septum.
        right: depth of the right ventricle at the base, measured from the septum; `right_angle` is half its angle.
        fat: thickness of the fat around the right ventricle, and `chest_fat` of that under the skin.
        chest: distance from the heart's middle to the inner chest wall, in front.
        liver: distance from the heart's middle down to the liver.
        body: how the chest wall is turned.
    """

    radius: float
    wall: float
    septal: float
    length: float
    septum: float
    right: float
    right_angle: float
    fat: float
    chest_fat: float
    chest: float
    liver: float
    body: float


def draw_heart(generator: np.random.Generator) -> Heart:
    """A random adult: normal, dilated or hypertrophic."""
    g = generator
    kind = g.choice(["normal", "dilated", "hypertrophic"], p=[0.6, 0.25, 0.15])
    radius = {"normal": g.normal(24, 2), "dilated": g.normal(31, 3), "hypertrophic": g.normal(21, 2)}[kind]
    wall = {"normal": g.normal(8.5, 1), "dilated": g.normal(8, 1), "hypertrophic": g.normal(14, 2)}[kind]
    return Heart(
        radius=float(np.clip(radius, 16, 38)),
        wall=float(np.clip(wall, 5.5, 20)),
        septal=float(g.uniform(0, 0.5 if kind == "hypertrophic" else 0.15)),
        length=float(g.normal(88, 7)),
        septum=float(math.radians(g.normal(195, 14))),
        right=float(np.clip(g.normal(34, 6), 18, 50)),
        right_angle=float(math.radians(np.clip(g.normal(62, 7), 45, 80))),
        fat=float(g.uniform(2, 9)),
        chest_fat=float(g.uniform(8, 28)),
        chest=float(g.uniform(42, 62)),
        liver=float(g.uniform(38, 58)),
        body=float(math.radians(g.normal(0, 10))),
    )


def modelled_stack(
    heart: Heart, generator: np.random.Generator, slices: int = 8, matrix: int = 160, spacing: float = 1.4
) -> list[Anatomy]:
    """Short-axis slices from base to apex.

    Args:
        matrix: rows and columns.
        spacing: mm between voxels.
    """
    shape = (matrix * FINE, matrix * FINE)
    fine = spacing / FINE
    wobble = generator.normal(0, 1, (3, 4))
    # One random outline of the organs for the whole stack, moved a little from slice to slice.
    rough = {name: smooth_noise(shape, 14 / fine, generator) for name in ("lung", "liver", "chest", "fat")}
    drift = generator.normal(0, 2, 2)
    stack = []
    for index in range(slices):
        along = (index + 0.35) / (slices + 0.25)
        middle = np.array([matrix / 2, matrix / 2]) + drift * (along - 0.5)
        stack.append(
            _slice(heart, along, wobble, rough, (float(middle[0]), float(middle[1])), matrix, spacing, generator)
        )
    return stack


def _slice(
    heart: Heart,
    along: float,
    wobble: Floats,
    rough: dict[str, Floats],
    centre: tuple[float, float],
    matrix: int,
    spacing: float,
    generator: np.random.Generator,
) -> Anatomy:
    fine = spacing / FINE
    shape = (matrix * FINE, matrix * FINE)
    # Voxel n covers fine points n FINE ... n FINE + FINE - 1.
    middle = (centre[0] * FINE + (FINE - 1) / 2, centre[1] * FINE + (FINE - 1) / 2)
    distance, direction = polar(shape, middle)
    distance = distance * fine
    turned = (direction - heart.septum + math.pi) % (2 * math.pi) - math.pi

    labels = _chest(heart, rough, distance, direction, generator, fine)
    taper = math.sqrt(max(0.03, 1 - (0.97 * along) ** 2))
    outline = 1 + 0.03 * sum(w[0] * np.cos((n + 1) * turned + w[1]) for n, w in enumerate(wobble))
    wall = heart.wall * (1 - 0.35 * along) * (1 + heart.septal * np.exp(-((turned / 0.9) ** 2)))
    endo = heart.radius * taper * outline
    epi = endo + wall * (1 + 0.04 * np.cos(2 * turned + wobble[2, 2]))

    # The right ventricle: a crescent whose outer wall is an arc further out on the septal side.
    shrink = max(0.0, 1 - (along / 0.92) ** 2.2)
    bulge = heart.right * shrink * np.clip(np.cos(turned / heart.right_angle * math.pi / 2), 0, 1) ** 0.6
    bulge = np.where(np.abs(turned) < heart.right_angle, bulge, 0)
    outside = epi + bulge + np.where(bulge > 4, 3.0, 0.0)
    pad = outside + heart.fat * (0.6 + 0.5 * rough["fat"]).clip(0, 2)
    labels[distance < pad] = NUMBER["fat"]
    labels[distance < outside] = NUMBER["muscle"]
    labels[(distance < epi + bulge) & (bulge > 2)] = NUMBER["venous blood"]
    labels[distance < epi] = NUMBER["myocardium"]
    labels[distance < endo] = NUMBER["blood"]
    _trabeculae(labels, distance, turned, endo, epi, bulge, along, fine, generator)
    coarse = _majority(labels, matrix)
    return Anatomy(
        labels=coarse,
        texture=modelled_texture((matrix, matrix), generator) * _vessels(coarse, generator),
        centre=centre,
        septum=heart.septum,
        shading=draw_shading((matrix, matrix), centre, generator),
    )


def _chest(
    heart: Heart,
    rough: dict[str, Floats],
    distance: Floats,
    direction: Floats,
    generator: np.random.Generator,
    fine: float,
) -> np.ndarray:
    """Lungs, liver, and the wall in front, without the heart."""
    right, up = distance * np.cos(direction), distance * np.sin(direction)
    labels = np.full(distance.shape, NUMBER["lung"], np.uint8)
    # The diaphragm: a dome below the heart.
    dome = -heart.liver + 0.10 * right + 0.0012 * right**2 + 3 * rough["liver"]
    labels[up < dome + 3] = NUMBER["muscle"]
    labels[up < dome] = NUMBER["liver"]
    labels[(up < dome) & (right > 22 + 8 * rough["lung"])] = NUMBER["spleen"]
    labels[(up < dome - 12) & (np.abs(right - 14) < 16 + 5 * rough["lung"])] = NUMBER["fat"]
    labels[(up < dome - 15) & (np.abs(right - 14) < 11 + 5 * rough["lung"])] = NUMBER["fluid"]
    # The chest wall lies in front, at the upper left.
    ahead = math.radians(128) + heart.body
    depth = distance * np.cos(direction - ahead) - 0.004 * (distance * np.sin(direction - ahead)) ** 2 * -1
    depth = depth + 2.5 * rough["chest"] - heart.chest
    layers = ((0, "fat"), (4, "muscle"), (15, "fat"), (15 + heart.chest_fat, "air"))
    for start, name in layers:
        labels[depth > start] = NUMBER[name]
    ribs = np.sin(distance * np.sin(direction - ahead) / 9 + generator.uniform(0, 6)) > 0.45
    labels[(depth > 5) & (depth < 12) & ribs] = NUMBER["fat"]
    return labels


def _trabeculae(
    labels: np.ndarray,
    distance: Floats,
    turned: Floats,
    endo: Floats,
    epi: Floats,
    bulge: Floats,
    along: float,
    fine: float,
    generator: np.random.Generator,
) -> None:
    """Papillary muscles and a rough inner wall, in both ventricles."""
    noise = smooth_noise(labels.shape, 1.6 / fine, generator)
    inner = (distance < endo) & (distance > endo - 5)
    labels[inner & (noise > 0.9 + 0.4 * (endo - distance))] = NUMBER["papillary"]
    right = labels == NUMBER["venous blood"]
    edge = (distance > epi + bulge - 6) & right
    labels[edge & (noise > 0.8 + 0.25 * (epi + bulge - distance))] = NUMBER["muscle"]
    if not 0.25 < along < 0.8:
        return
    # The two papillary muscles stand on the lateral side, in front and behind.
    for angle in (math.radians(generator.normal(-125, 10)), math.radians(generator.normal(125, 10))):
        radius = generator.uniform(2.5, 5.5)
        where = endo - radius * generator.uniform(0.8, 1.5)
        apart = np.hypot(distance * np.cos(turned - angle) - where, distance * np.sin(turned - angle))
        labels[(apart < radius * (1 + 0.15 * noise)) & (distance < endo)] = NUMBER["papillary"]


def _majority(labels: np.ndarray, matrix: int) -> np.ndarray:
    """From the fine grid to voxels: a random one of the FINE x FINE labels would be noisy, the commonest is not."""
    blocks = labels.reshape(matrix, FINE, matrix, FINE).transpose(0, 2, 1, 3).reshape(matrix, matrix, -1)
    counts = np.stack([(blocks == number).sum(-1) for number in range(labels.max() + 1)])
    return counts.argmax(0).astype(np.uint8)


def _vessels(labels: np.ndarray, generator: np.random.Generator) -> Floats:
    """Bright vessels in lung and liver."""
    points = generator.standard_normal(labels.shape) > 2.6
    size = ndimage.gaussian_filter(points.astype(float), 0.8) + 2 * ndimage.gaussian_filter(
        (generator.standard_normal(labels.shape) > 3.1).astype(float), 1.4
    )
    lung: Mask = labels == NUMBER["lung"]
    liver: Mask = labels == NUMBER["liver"]
    return 1 + 12 * size * lung + 2.5 * size * liver
