"""A model of two ventricles in a chest, for more shapes than the real slices have.

The left ventricle is a half ellipsoid with a wall of varying thickness; the right one a rounded wedge between septum,
chest wall and diaphragm. Lengths are those of adults at the end of diastole (Kawel-Boehm et al., J Cardiovasc Magn
Reson 2020; 22:87). Around them lie fat with the coronary arteries, pericardium, lungs, liver, stomach, spleen and the
chest wall. Everything is drawn on a grid twice as fine, whose coordinates are bent by smooth noise, so that no outline
is a circle or a straight line.
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

UNEVEN = {
    "blood": 0.07,
    "venous blood": 0.10,
    "fat": 0.08,
    "muscle": 0.15,
    "liver": 0.09,
    "spleen": 0.09,
    "fluid": 0.25,
    "lung": 0.5,
}
"""Spread of brightness within tissues, chosen by eye beside real bSSFP images: blood that has just arrived is brighter
than blood that swirls, fat and muscle have strands, and the lung's small vessels are below the resolution."""

INSERTION = math.radians(62)
"""Where the right ventricle's wall meets the left one: so far from the middle of the septum, in front and below."""


@dataclass(frozen=True)
class Heart:
    """One person's heart. Lengths in mm, angles in radians counter-clockwise from the image's right.

    Attributes:
        radius: of the left cavity at the base.
        wall: mean thickness of its wall; the septum may be thicker by `septal`.
        septum: direction of the middle of the septum.
        right: depth of the right ventricle at the base, measured from the septum.
        outflow: how far it reaches in front at the base, over the radius of the left ventricle.
        papillary: directions of the two papillary muscles, from the middle of the septum.
        fat: thickness of the fat around the heart, where it is thick.
    """

    radius: float
    wall: float
    septal: float
    septum: float
    right: float
    outflow: float
    papillary: tuple[float, float]
    fat: float


@dataclass(frozen=True)
class Chest:
    """What lies around the heart. Lengths in mm from the heart's middle, angles as in `Heart`.

    Attributes:
        front: direction of the chest wall, `distance` to its inside, and its `radius` of curvature.
        muscle, fat: thickness of the muscles outside the ribs, and of the fat under the skin.
        diaphragm: distance down to it, and its `slope` (down towards the image's right).
        liver: how far to the right it reaches.
        stomach: (right, up) of its middle below the diaphragm, and what it holds.
        aorta: (right, up) of the descending aorta.
    """

    front: float
    distance: float
    radius: float
    muscle: float
    fat: float
    diaphragm: float
    slope: float
    liver: float
    stomach: tuple[float, float]
    meal: str
    aorta: tuple[float, float]


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
        septum=float(math.radians(g.normal(190, 14))),
        right=float(np.clip(g.normal(37, 6), 22, 52)),
        outflow=float(g.uniform(0.95, 1.25)),
        papillary=(math.radians(g.normal(-125, 12)), math.radians(g.normal(125, 12))),
        fat=float(g.uniform(2, 9)),
    )


def draw_chest(generator: np.random.Generator, heart: Heart) -> Chest:
    """A random chest, large enough for the heart."""
    g = generator
    size = heart.radius + heart.wall
    return Chest(
        front=float(math.radians(g.normal(125, 10))),
        distance=float(size + g.uniform(2, 20)),
        radius=float(g.uniform(100, 180)),
        muscle=float(g.uniform(1, 9)),
        fat=float(g.uniform(8, 30)),
        diaphragm=float(size + g.uniform(0, 9)),
        slope=float(g.uniform(-0.15, 0.35)),
        liver=float(g.uniform(-5, 45)),
        stomach=(float(g.uniform(10, 50)), float(g.uniform(-36, -20))),
        meal=str(g.choice(["fluid", "spleen", "muscle", "lung"])),
        aorta=(float(g.uniform(38, 62)), float(-size - g.uniform(8, 24))),
    )


def modelled_stack(
    heart: Heart, generator: np.random.Generator, slices: int = 8, matrix: int = 160, spacing: float = 1.4
) -> list[Anatomy]:
    """Short-axis slices from base to apex.

    Args:
        matrix: rows and columns.
        spacing: mm between voxels.
    """
    chest = draw_chest(generator, heart)
    fine = spacing / FINE
    wobble = generator.normal(0, 1, (3, 4))
    # Organs bend smoothly along the stack: each field turns from one noise into another.
    bends = [[smooth_noise((matrix * FINE,) * 2, 12 / fine, generator) for _ in range(2)] for _ in range(4)]
    drift = generator.normal(0, 2, 2)
    stack = []
    for index in range(slices):
        along = (index + 0.35) / (slices + 0.25)
        centre = (float(matrix / 2 + drift[0] * (along - 0.5)), float(matrix / 2 + drift[1] * (along - 0.5)))
        bent = [a * math.cos(1.5 * along) + b * math.sin(1.5 * along) for a, b in bends]
        labels = _majority(_slice(heart, chest, along, wobble, bent, centre, matrix, fine, generator), matrix)
        stack.append(
            Anatomy(
                labels=labels,
                texture=modelled_texture(labels.shape, generator) * _uneven(labels, generator),
                centre=centre,
                septum=heart.septum,
                shading=draw_shading(labels.shape, centre, generator),
                # Towards the apex the walls stand more and more oblique to the slice.
                blur=0.65 + 0.9 * along**3,
            )
        )
    return stack


def _slice(
    heart: Heart,
    chest: Chest,
    along: float,
    wobble: Floats,
    bent: list[Floats],
    centre: tuple[float, float],
    matrix: int,
    fine: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Tissues of one slice on the fine grid; `along` is 0 at the base and 1 at the apex."""
    shape = (matrix * FINE, matrix * FINE)
    # Voxel n covers fine points n FINE ... n FINE + FINE - 1.
    distance, direction = polar(shape, (centre[0] * FINE + (FINE - 1) / 2, centre[1] * FINE + (FINE - 1) / 2))
    rough = [smooth_noise(shape, scale / fine, generator) for scale in (1.2, 2.2, 5, 5)]
    right, up = distance * fine * np.cos(direction), distance * fine * np.sin(direction)
    labels = _chest(
        chest, along, right + 3 * bent[0] + 0.8 * rough[2], up + 3 * bent[1] + 0.8 * rough[3], bent, rough, generator
    )

    right, up = right + 1.2 * bent[2] + 0.5 * rough[2], up + 1.2 * bent[3] + 0.5 * rough[3]
    distance, turned = np.hypot(right, up), np.arctan2(up, right) - heart.septum
    turned = (turned + math.pi) % (2 * math.pi) - math.pi
    outline = 1 + 0.025 * sum(w[0] * np.cos((n + 2) * turned + w[1]) for n, w in enumerate(wobble))
    wall = heart.wall * (1 - 0.35 * along) * (1 + heart.septal * np.exp(-((turned / 0.9) ** 2)))
    endo = heart.radius * math.sqrt(max(0.03, 1 - (0.97 * along) ** 2)) * outline
    epi = endo + wall * (1 + 0.06 * np.cos(2 * turned + wobble[2, 2]))
    left = distance < epi
    venous = _right_ventricle(heart, along, distance, turned, float(epi.mean())) & ~left
    thin = ndimage.distance_transform_edt(~venous) * fine < 2.5 + 0.6 * rough[2] if venous.any() else venous

    _around(heart, labels, ndimage.distance_transform_edt(~(left | thin)) * fine, distance, turned, epi, bent, rough)
    labels[thin] = NUMBER["muscle"]
    # Trabeculae: many at the free wall and towards the apex.
    inside = ndimage.distance_transform_edt(venous) * fine
    strands = rough[1] + 0.5 * rough[0] + 1.8 * np.exp(-inside / 3)
    if 0.35 < along < 0.65 and wobble[1, 3] > 0:
        # The moderator band crosses from the septum to the free wall, not always in the plane.
        strands += 2.5 * (np.abs(distance * np.sin(turned) - 8 * wobble[2, 3] - 4 * bent[2]) < 1.2)
    labels[venous & (strands < 2.6 - 0.7 * along)] = NUMBER["venous blood"]
    labels[left] = NUMBER["myocardium"]
    labels[distance < endo] = NUMBER["blood"]
    lateral = 0.35 + 0.65 * (1 - np.cos(turned)) / 2
    labels[(distance < endo) & (distance > endo - 2.6 * lateral * (rough[0] + rough[1]))] = NUMBER["papillary"]
    if 0.2 < along < 0.8:
        for angle in heart.papillary:
            radius = 5.2 - 7 * abs(along - 0.5) + generator.uniform(-0.5, 0.5)
            where = endo - radius * 1.1
            apart = np.hypot((distance * np.cos(turned - angle) - where) / 1.3, distance * np.sin(turned - angle))
            labels[(apart < radius * (1 + 0.2 * rough[1])) & (distance < endo)] = NUMBER["papillary"]
    return labels


def _right_ventricle(heart: Heart, along: float, distance: Floats, turned: Floats, epi: float) -> Mask:
    """A rounded wedge around the left ventricle's septal side: flat towards chest wall and diaphragm.

    Its sides are straight lines `n . x = d`, joined by a 5-norm of `n . x / d`; those in front and below touch the left
    ventricle, which covers its rest. It is gone before the apex.
    """
    size = 1 - (along / 0.85) ** 2
    if size <= 0.05:
        return np.zeros(distance.shape, bool)
    front = epi * (0.95 + (heart.outflow - 0.95) * size)
    total = np.zeros(distance.shape)
    for degrees, limit in ((-18, epi + heart.right * size**0.7), (75, 0.97 * epi), (-88, front), (180, 0.1 * epi)):
        total += np.clip(distance * np.cos(turned - math.radians(degrees)) / limit, 0, None) ** 5
    return np.asarray(total < 1)


def _around(
    heart: Heart,
    labels: np.ndarray,
    outside: Floats,
    distance: Floats,
    turned: Floats,
    epi: Floats,
    bent: list[Floats],
    rough: list[Floats],
) -> None:
    """Epicardial fat, thick in the grooves and thin on the lateral wall, with arteries; pericardium; fat around that.

    Args:
        outside: distance from the ventricles' surface, mm.
    """
    groove = np.exp(-(((np.abs(turned) - INSERTION) / 0.35) ** 2))
    septal = (1 + np.cos(turned)) / 2
    epicardial = heart.fat * (0.05 + 0.45 * septal + 0.6 * groove) * np.clip(0.8 + 0.6 * bent[0], 0.1, 2)
    paracardial = epicardial + heart.fat * septal * np.clip(bent[1], 0, 2)
    labels[outside < paracardial + 1] = NUMBER["fat"]
    labels[(outside > epicardial) & (outside < epicardial + 1.1 + 0.3 * rough[1])] = NUMBER["fibrous"]
    for side in (-1, 1):
        apart = np.hypot(
            distance * np.cos(turned - side * INSERTION) - epi - 3, distance * np.sin(turned - side * INSERTION)
        )
        labels[(apart < 1.7) & (outside > 1)] = NUMBER["vessel"]


def _chest(
    chest: Chest,
    along: float,
    right: Floats,
    up: Floats,
    bent: list[Floats],
    rough: list[Floats],
    generator: np.random.Generator,
) -> np.ndarray:
    """Lungs, aorta, what lies below the diaphragm, and the wall in front; without the heart."""
    labels = np.full(right.shape, NUMBER["lung"], np.uint8)
    labels[(rough[0] > 2.25) | ((np.abs(rough[2]) < 0.12) & (rough[3] > 1.4))] = NUMBER["vessel"]
    if along < 0.6:
        apart = np.hypot(right - chest.aorta[0], up - chest.aorta[1])
        labels[apart < 12.5] = NUMBER["fibrous"]
        labels[apart < 11] = NUMBER["vessel"]

    below = -chest.diaphragm * (1 - 0.25 * along) - chest.slope * right - 0.002 * right**2 - up
    labels[below > 0] = NUMBER["muscle"]
    labels[below > 2.5] = NUMBER["fat"]
    labels[(below > 4) & (right > 40 + 5 * bent[2])] = NUMBER["spleen"]
    stomach = np.hypot((right - chest.stomach[0]) / 1.5, up + chest.diaphragm - chest.stomach[1]) + 2 * bent[3]
    labels[(stomach < 21) & (below > 3)] = NUMBER["muscle"]
    labels[(stomach < 16 + 2.5 * rough[1]) & (below > 3)] = NUMBER[chest.meal]
    liver = (below > 2.5) & (below < 1.3 * (chest.liver - right))
    labels[liver] = NUMBER["liver"]
    labels[liver & (np.abs(rough[2]) < 0.13) & (rough[3] > 0.7)] = NUMBER["vessel"]

    # The chest wall is an arc around a point behind the heart.
    middle = chest.distance - chest.radius
    x, y = right - middle * math.cos(chest.front), up - middle * math.sin(chest.front)
    depth = np.hypot(x, y) - chest.radius
    arc = ((np.arctan2(y, x) - chest.front + math.pi) % (2 * math.pi) - math.pi) * chest.radius
    muscle = 11 + chest.muscle * np.clip(1 + 0.5 * bent[2], 0.1, 2)
    layers = (
        (0, "fat"),
        (1.5, "muscle"),
        (muscle, "fat"),
        (muscle + chest.fat, "muscle"),
        (muscle + chest.fat + 2, "air"),
    )
    for start, name in layers:
        labels[depth > start] = NUMBER[name]
    # A seam of fat between the muscles, and strands of tissue in the fat.
    labels[(np.abs(depth - 10.5 - 1.2 * rough[2]) < 1) & (rough[3] > -0.5)] = NUMBER["fat"]
    labels[(depth > muscle + 2) & (depth < muscle + chest.fat) & (np.abs(rough[3]) < 0.03)] = NUMBER["muscle"]
    for place in np.cumsum(generator.uniform(18, 40, 8)) - 120:
        length, thickness = generator.uniform(4, 13), generator.uniform(3, 5)
        rib = np.hypot((arc - place) / length, (depth - 6) / thickness) + 0.12 * rough[2]
        labels[rib < 1] = NUMBER["fibrous"]
        labels[rib < 0.78 + 0.1 * rough[3]] = NUMBER["fat"]
    return labels


def _majority(labels: np.ndarray, matrix: int) -> np.ndarray:
    """From the fine grid to voxels: a random one of the FINE x FINE labels would be noisy, the commonest is not."""
    blocks = labels.reshape(matrix, FINE, matrix, FINE).transpose(0, 2, 1, 3).reshape(matrix, matrix, -1)
    counts = np.stack([(blocks == number).sum(-1) for number in range(labels.max() + 1)])
    return counts.argmax(0).astype(np.uint8)


def _uneven(labels: np.ndarray, generator: np.random.Generator) -> Floats:
    """How bright a voxel is within its tissue, (rows, columns): `UNEVEN` of coarse and fine noise."""
    noise = sum(0.58 * smooth_noise(labels.shape, scale, generator) for scale in (6, 2.5, 1))
    depth = np.zeros(len(NUMBER))
    for name, value in UNEVEN.items():
        depth[NUMBER[name]] = value
    return np.asarray(np.exp(depth[labels] * noise))
