"""The diffusion core: mathematics only, in terms of `gamma = -log SNR`. It knows nothing of MR.

schedule   gamma(t) and the alpha, sigma that follow from it
denoiser   a network's eps, v or x0 turned into a predicted clean image
samplers   ancestral, DDIM, DPM-Solver++(2M), and the loop that runs them
guidance   what may correct the predicted image or the noisy state at each step
noise      one random stream per sample
"""

from .denoiser import Denoiser, dynamic_clip, static_clip
from .guidance import Guide, Guides
from .noise import SampleNoise
from .samplers import SAMPLERS, Cancelled, Step, partial_start, sample, step_gammas
from .schedule import (
    CosineSchedule,
    DDPMSchedule,
    LearnedSchedule,
    LinearSchedule,
    Schedule,
    alpha,
    schedule_from_dict,
    sigma,
)

__all__ = [
    "SAMPLERS",
    "Cancelled",
    "CosineSchedule",
    "DDPMSchedule",
    "Denoiser",
    "Guide",
    "Guides",
    "LearnedSchedule",
    "LinearSchedule",
    "SampleNoise",
    "Schedule",
    "Step",
    "alpha",
    "dynamic_clip",
    "partial_start",
    "sample",
    "schedule_from_dict",
    "sigma",
    "static_clip",
    "step_gammas",
]
