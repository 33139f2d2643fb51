"""Myocardial infarction: where a coronary artery's territory is scarred, from the inside of the wall outwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from .anatomy import NUMBER, Anatomy, Floats, Mask, polar, smooth_noise

TERRITORIES = {"LAD": -50.0, "LCX": 180.0, "RCA": 95.0}
"""Middle of each artery's territory, degrees counter-clockwise from the middle of the septum (Cerqueira et al.,
Circulation 2002; 105:539): the LAD supplies the anterior septum and wall, the LCX the lateral wall, the RCA the
inferior one."""


@dataclass(frozen=True)
class Infarct:
    """One infarct through a stack.

    Attributes:
        territory: an entry of `TERRITORIES`.
        shift: of its middle, degrees.
        width: half its angle in the slice where it is widest, degrees.
        transmurality: greatest depth from the endocardium, as a share of the wall; above 1 transmural over a range.
        middle, extent: along the stack, in shares of it: where the infarct is widest, and how far it reaches.
        acute: with oedema around and in it; an old scar has none, and no other sequence shows it.
        oedema: how much wider the oedema is.
        obstruction: whether there is microvascular obstruction in the core.
    """

    territory: str
    shift: float
    width: float
    transmurality: float
    middle: float
    extent: float
    acute: bool
    oedema: float
    obstruction: bool


def draw_infarct(generator: np.random.Generator, acute: bool) -> Infarct:
    """A random infarct: half angle 25 to 60 degrees, depth a third of the wall to all of it."""
    return Infarct(
        territory=str(generator.choice(list(TERRITORIES))),
        shift=float(generator.normal(0, 15)),
        width=float(generator.uniform(25, 60)),
        transmurality=float(generator.uniform(0.35, 1.15)),
        middle=float(generator.uniform(0.2, 0.9)),
        extent=float(generator.uniform(0.25, 0.6)),
        acute=acute,
        oedema=float(generator.uniform(1.15, 1.5)),
        obstruction=bool(acute and generator.random() < 0.4),
    )


def with_infarct(stack: Sequence[Anatomy], infarct: Infarct, generator: np.random.Generator) -> list[Anatomy]:
    """The stack (base first) with the infarct in its walls. Blood, papillary muscle and the rest stay."""
    slices = []
    for index, anatomy in enumerate(stack):
        position = (index + 0.5) / len(stack)
        share = 1 - ((position - infarct.middle) / infarct.extent) ** 2
        slices.append(anatomy if share <= 0 else _infarcted(anatomy, infarct, math.sqrt(share), generator))
    return slices


def wall_depth(anatomy: Anatomy) -> Floats:
    """How deep in the wall a voxel lies: 0 at the endocardium, 1 at the epicardium; (rows, columns)."""
    cavity = anatomy.where("blood", "papillary") & _heart(anatomy)
    inner = ndimage.distance_transform_edt(~cavity)
    outer = ndimage.distance_transform_edt(_heart(anatomy))
    return np.asarray(inner / np.maximum(inner + outer, 1e-6))


def _heart(anatomy: Anatomy) -> Mask:
    """Wall and cavity of the left ventricle."""
    wall = anatomy.where("myocardium", "oedema", "acute scar", "chronic scar", "obstruction")
    return np.asarray(ndimage.binary_fill_holes(wall))


def _infarcted(anatomy: Anatomy, infarct: Infarct, share: float, generator: np.random.Generator) -> Anatomy:
    _, direction = polar(anatomy.labels.shape, anatomy.centre)
    middle = anatomy.septum + math.radians(TERRITORIES[infarct.territory] + infarct.shift)
    angle = np.abs((direction - middle + math.pi) % (2 * math.pi) - math.pi) / math.radians(infarct.width * share)
    rough = smooth_noise(anatomy.labels.shape, 3, generator)
    depth = wall_depth(anatomy)
    # A plateau in the middle, thinner towards the sides, as ischaemia spreads from the endocardium.
    reach = infarct.transmurality * np.clip(1.25 * (1 - angle**2), 0, 1) + 0.12 * rough * (angle < 1)
    wall = anatomy.where("myocardium") & _heart(anatomy)
    labels = anatomy.labels.copy()
    if infarct.acute:
        labels[wall & (angle < infarct.oedema * (1 + 0.08 * rough))] = NUMBER["oedema"]
    scar = wall & (depth < reach)
    labels[scar] = NUMBER["acute scar" if infarct.acute else "chronic scar"]
    if infarct.obstruction:
        labels[scar & (angle < 0.5) & (depth > 0.08) & (depth < reach - 0.25)] = NUMBER["obstruction"]
    return replace(anatomy, labels=labels)
