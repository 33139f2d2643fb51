"""What bSSFP, T2 and LGE show of an anatomy: signal equations, then the scanner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..physics.fourier import fft2c, ifft2c, measured_mask
from ..physics.signal import (
    Gadolinium,
    bssfp,
    inversion_recovery,
    nulling_time,
    t2_prepared_bssfp,
    t2_stir,
)
from ..physics.tissue import FIELDS, TISSUES
from .anatomy import LABELS, SAME_TISSUE, Anatomy, Floats, smooth_noise

SEQUENCES = ("bSSFP", "T2", "LGE")

TEXTURE = {"bSSFP": 1.0, "T2": 0.6, "LGE": 0.5}
"""How much of the texture of a bSSFP image each sequence shows, as a power of it."""


@dataclass(frozen=True)
class Protocol:
    """One examination: the patient's tissues, the field strength and the sequences' settings.

    Attributes:
        field: index of `FIELDS`.
        t1, t2, density, ecv: of each of `LABELS`, the patient's own.
        preparation: echo time of the T2 preparation, ms; None for a STIR with `echo` ms.
        plasma: gadolinium in plasma at the time of LGE, mmol/l.
        ti_error: inversion time over that which nulls the patient's myocardium.
        phase_sensitive: PSIR, shown from its darkest to its brightest; else the magnitude.
    """

    field: int
    t1: Floats
    t2: Floats
    density: Floats
    ecv: Floats
    preparation: float | None
    echo: float
    plasma: float
    ti_error: float
    phase_sensitive: bool

    def describe(self) -> dict[str, object]:
        """For a manifest (JSON types)."""
        return {
            "field_T": FIELDS[self.field],
            "T2": f"STIR, TE {self.echo:.0f} ms"
            if self.preparation is None
            else f"prepared, {self.preparation:.0f} ms",
            "LGE": "PSIR" if self.phase_sensitive else "magnitude",
            "plasma_gadolinium_mmol_per_l": round(self.plasma, 2),
        }


def draw_protocol(generator: np.random.Generator, stir: bool = False, phase_sensitive: bool = False) -> Protocol:
    """A random patient and examination: relaxation times within 4 to 5 % of the tables'.

    Args:
        stir: T2 as STIR instead of T2-prepared bSSFP.
        phase_sensitive: LGE as PSIR instead of the magnitude.
    """
    field = int(generator.integers(len(FIELDS)))
    tissues = [TISSUES[SAME_TISSUE.get(name, name)] for name in LABELS]

    def around(values: list[float], spread: float) -> Floats:
        drawn = np.array(values) * np.exp(spread * generator.standard_normal(len(values)))
        return drawn[[LABELS.index(SAME_TISSUE.get(name, name)) for name in LABELS]]

    return Protocol(
        field=field,
        t1=around([t.t1[field] for t in tissues], 0.04),
        t2=around([t.t2[field] for t in tissues], 0.05),
        density=around([t.density for t in tissues], 0.03),
        ecv=np.clip(around([t.ecv for t in tissues], 0.06), 0, 1),
        preparation=None if stir else float(generator.uniform(45, 60)),
        echo=float(generator.uniform(55, 75)),
        plasma=float(generator.uniform(0.6, 1.1)),
        ti_error=float(generator.uniform(0.97, 1.06)),
        phase_sensitive=phase_sensitive,
    )


def tissue_signals(protocol: Protocol, sequence: str) -> Floats:
    """Signal of each of `LABELS` in a sequence, (tissues,); its sign counts where tissues share a voxel.

    In bSSFP fat has the opposite phase of water (at a TR of 3.2 ms it lies in the neighbouring pass band, at 1.5 T and
    at 3 T; Hargreaves et al., Magn Reson Med 2003; 50:210): voxels of both are dark, which draws fine black lines.
    """
    p = protocol
    phase = np.where(np.array(LABELS) == "fat", -1, 1)
    if sequence == "bSSFP":
        return phase * bssfp(p.t1, p.t2, p.density)
    if sequence == "T2" and p.preparation is not None:
        return phase * t2_prepared_bssfp(p.t1, p.t2, p.density, preparation=p.preparation, pulses=15)
    if sequence == "T2":
        signal = t2_stir(p.t1, p.t2, p.density, ti=float(np.log(2) * p.t1[LABELS.index("fat")]), te=p.echo)
        # Flowing blood is nulled by the double inversion; slow blood along the wall leaves some.
        signal[LABELS.index("blood")] *= 0.12
        signal[LABELS.index("venous blood")] *= 0.18
        return signal
    agent = Gadolinium(p.plasma)
    t1 = agent.t1(p.t1, p.ecv)
    ti = p.ti_error * float(nulling_time(t1[LABELS.index("myocardium")]))
    return inversion_recovery(t1, p.density, ti)


def ideal_image(anatomy: Anatomy, protocol: Protocol, sequence: str) -> Floats:
    """The image without scanner: partial volume of the tissues' signals, times the texture; signed for PSIR."""
    signals = tissue_signals(protocol, sequence)
    shown = np.einsum("k,krc->rc", signals, anatomy.fractions()) * anatomy.texture ** TEXTURE[sequence]
    return shown if sequence == "LGE" and protocol.phase_sensitive else np.abs(shown)


@dataclass(frozen=True)
class Scanner:
    """The acquisition of one series.

    Attributes:
        resolution: acquired lines over reconstructed ones.
        noise: standard deviation in each channel, in the units of the image.
        shading: how much of the coil's shading is left after the scanner's own correction, as a power of it.
        shift: (rows, columns) in voxels: patients breathe differently for each series.
    """

    resolution: float
    noise: float
    shading: float
    shift: tuple[float, float]

    def acquire(self, ideal: Floats, shading: Floats, generator: np.random.Generator, magnitude: bool = True) -> Floats:
        """A measured image, (rows, columns): shaded, shifted, of lower resolution, noisy.

        The magnitude has Rician noise (Gudbjartsson, Patz, Magn Reson Med 1995; 34:910); a phase-sensitive image keeps
        its sign, and its noise is Gaussian.
        """
        rows, columns = ideal.shape
        matrix = (max(8, int(self.resolution * rows)), max(8, int(self.resolution * columns)))
        mask = measured_mask(matrix, (rows, columns)).double()
        noise = generator.standard_normal((2, rows, columns)) * self.noise
        k_space = fft2c(torch.from_numpy(ideal * shading**self.shading)) * self._ramp(rows, columns)
        image = ifft2c((k_space + fft2c(torch.complex(*torch.from_numpy(noise)))) * mask)
        return np.asarray((image.abs() if magnitude else image.real).numpy())

    def _ramp(self, rows: int, columns: int) -> torch.Tensor:
        """The phase of k-space that moves an image by `shift`."""
        k = [(torch.arange(n, dtype=torch.float64) - n // 2) / n for n in (rows, columns)]
        return torch.exp(-2j * torch.pi * (self.shift[0] * k[0][:, None] + self.shift[1] * k[1][None, :]))


def draw_scanner(generator: np.random.Generator, reference: float) -> Scanner:
    """A random acquisition, whose noise is a twelfth to a thirtieth of the signal `reference`."""
    shift = generator.normal(0, 0.4, 2)
    return Scanner(
        resolution=float(generator.uniform(0.7, 0.95)),
        noise=float(reference / generator.uniform(12, 30)),
        shading=float(generator.uniform(0.2, 0.8)),
        shift=(float(shift[0]), float(shift[1])),
    )


def draw_shading(shape: tuple[int, int], centre: tuple[float, float], generator: np.random.Generator) -> Floats:
    """A surface coil's sensitivity for a modelled slice, (rows, columns): 1 at the heart, more at the chest wall."""
    y, x = np.meshgrid(*(np.arange(n) - c for n, c in zip(shape, centre)), indexing="ij")
    angle = np.radians(generator.normal(130, 20))
    along = (np.cos(angle) * x - np.sin(angle) * y) / max(shape)
    return np.asarray(
        np.exp(generator.uniform(2, 5) * along - generator.uniform(0, 1) * (x**2 + y**2) / max(shape) ** 2)
    )


def to_levels(image: Floats, lowest: float | None = None) -> NDArray[np.uint16]:
    """As scanners store images: whole numbers, the brightest voxels near 1000.

    Args:
        lowest: what becomes 0; a phase-sensitive image has values below 0.
    """
    low = 0.0 if lowest is None else lowest
    high = float(np.percentile(image, 99.5))
    return np.asarray(np.clip((image - low) / max(high - low, 1e-12) * 1000, 0, 4095).round(), np.uint16)


def modelled_texture(shape: tuple[int, int], generator: np.random.Generator) -> Floats:
    """Texture of a modelled slice: tissue is never quite even."""
    return np.asarray(np.exp(0.05 * smooth_noise(shape, 1.2, generator) + 0.06 * smooth_noise(shape, 6, generator)))
