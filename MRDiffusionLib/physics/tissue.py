"""Relaxation times of the tissues in a short-axis image of the heart, at 1.5 T and 3 T.

Sources, by the letters in the table:

S  Stanisz et al., Magn Reson Med 2005; 54:507 (blood, liver; 1.5 and 3 T, in vitro)
B  de Bazelaire et al., Radiology 2004; 230:652 (T2 of fat, skeletal muscle, spleen; 1.5 and 3 T, in vivo)
F  Gold et al., AJR Am J Roentgenol 2004; 183:343 (T1 of subcutaneous fat; 1.5 and 3 T, in vivo)
W  Goodall et al., Br J Radiol 2020; 93:20190931 (agent in thigh muscle over that in blood, 0.17 to 0.27)
G  Giri et al., J Cardiovasc Magn Reson 2009; 11:56 (T2 of myocardium, normal and oedematous, 1.5 T)
K  von Knobelsdorff-Brenkenhoff et al., J Cardiovasc Magn Reson 2013; 15:53 (T1 and T2 of myocardium, 3 T)
D  Dall'Armellina et al., J Cardiovasc Magn Reson 2012; 14:15 (native T1 in acute infarction, 3 T)
U  Ugander et al., Eur Heart J 2012; 33:1268 (extracellular volume of normal myocardium and of infarcts)
A  assumed: no source with both field strengths is known to the authors; values between those of similar tissues
"""

from __future__ import annotations

from dataclasses import dataclass

FIELDS = (1.5, 3.0)
"""Field strengths in tesla, in the order of `Tissue.t1` and `Tissue.t2`."""


@dataclass(frozen=True)
class Tissue:
    """A tissue, native.

    Attributes:
        t1, t2: in ms at each of `FIELDS`.
        density: of protons that give a signal, relative to water.
        ecv: share of its volume that gadolinium reaches; blood has 1 - haematocrit.
    """

    t1: tuple[float, float]
    t2: tuple[float, float]
    density: float
    ecv: float


TISSUES: dict[str, Tissue] = {
    "blood": Tissue((1441, 1932), (290, 275), 0.95, 0.58),  # S
    "venous blood": Tissue((1441, 1932), (240, 200), 0.95, 0.58),  # S, T2 of less oxygen: A
    "myocardium": Tissue((1000, 1157), (52, 45), 0.80, 0.26),  # K, G, U
    "oedema": Tissue((1150, 1320), (66, 59), 0.86, 0.34),  # G, D, A
    "acute scar": Tissue((1230, 1400), (68, 60), 0.88, 0.56),  # D, G, U
    "chronic scar": Tissue((1080, 1240), (55, 47), 0.80, 0.52),  # U, A
    "obstruction": Tissue((1080, 1240), (50, 42), 0.85, 0.20),  # microvascular: the agent arrives late; A
    "fat": Tissue((288, 371), (58, 68), 0.90, 0.02),  # F, B
    "muscle": Tissue((856, 898), (27, 29), 0.78, 0.15),  # B, W
    "liver": Tissue((576, 812), (46, 42), 0.72, 0.26),  # S
    "spleen": Tissue((1057, 1328), (79, 61), 0.80, 0.34),  # B
    "lung": Tissue((1200, 1400), (35, 30), 0.20, 0.30),  # A: little water
    "fluid": Tissue((2800, 3200), (900, 700), 1.00, 0.10),  # A: pericardium, stomach
    "fibrous": Tissue((1000, 1200), (8, 7), 0.45, 0.20),  # A: pericardium, cortical bone, walls of large vessels
    "air": Tissue((1000, 1000), (50, 50), 0.00, 0.00),
}
"""By name. Simulated images draw around these values (`simulation`)."""
