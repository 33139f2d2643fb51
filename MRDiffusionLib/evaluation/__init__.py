"""How good is a result? Image quality, agreement statistics, and the comparison of two volumes.

    metrics    PSNR, SSIM, MS-SSIM, MAE, NRMSE, HaarPSI, radial power spectrum
    agreement  correlation, Bland-Altman, paired tests and bootstrap over subjects
    compare    two volumes on the same grid to a dictionary of figures

Importing this loads no torch; `ssim` and `ms_ssim` load it when they are called.
"""

from .agreement import (
    BlandAltman,
    Correlation,
    Estimate,
    PairedTest,
    bland_altman,
    cluster_bootstrap,
    paired_t_test,
    pearson,
)
from .compare import evaluate_files, evaluate_volumes, robust_range
from .metrics import PowerSpectrum, haarpsi, mae, ms_ssim, nrmse, psnr, radial_power_spectrum, ssim

__all__ = [
    "BlandAltman",
    "Correlation",
    "Estimate",
    "PairedTest",
    "PowerSpectrum",
    "bland_altman",
    "cluster_bootstrap",
    "evaluate_files",
    "evaluate_volumes",
    "haarpsi",
    "mae",
    "ms_ssim",
    "nrmse",
    "paired_t_test",
    "pearson",
    "psnr",
    "radial_power_spectrum",
    "robust_range",
    "ssim",
]
