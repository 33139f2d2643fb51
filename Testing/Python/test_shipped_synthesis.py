"""The shipped cardiac pack on the sample heart: what its training must have achieved, whatever the figures."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from MRDiffusionLib import tasks
from MRDiffusionLib.evaluation import psnr
from MRDiffusionLib.imaging.alignment import normalised_mutual_information
from MRDiffusionLib.packs import find_pack
from MRDiffusionLib.request import Request
from MRDiffusionLib.settings import SynthesisSettings
from MRDiffusionLib.tasks import demo_synthesis
from MRDiffusionLib.tasks.demo import sample_path

FILES = {role: str(sample_path(name)) for role, name in (*demo_synthesis.GIVEN.items(), ("LGE", demo_synthesis.TRUTH))}
SLICES = (4, 5)
MODELS = tasks.PackCache()


def run(target: str, slices: tuple[int, ...] | None = SLICES, **settings: object) -> tasks.Result:
    inputs = {role: path for role, path in FILES.items() if role != target}
    chosen = SynthesisSettings(**{"target": target, "samples": 1, "steps": 10, **settings})
    return tasks.run(Request("synthesis", demo_synthesis.PACK, inputs, chosen, slices=slices), cache=MODELS)


@cache
def truth() -> dict[str, NDArray[np.float32]]:
    """All three sequences of the sample where the results lie, white at 1."""
    place = run("LGE", None, strength=0.0).volumes["result"]
    given, lge = demo_synthesis._on_grid(FILES, place, find_pack(demo_synthesis.PACK).normalisation)
    return {role: array[list(SLICES)] for role, array in {**given, "LGE": lge}.items()}


def mean_psnr(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.mean([psnr(a, b, 1.0) for a, b in zip(first, second)]))


@pytest.mark.parametrize("target", list(FILES))
def test_a_result_is_nearer_to_the_truth_than_what_is_given(target: str) -> None:
    wanted = truth()[target]
    given = {role: mean_psnr(wanted, image) for role, image in truth().items() if role != target}
    made = mean_psnr(wanted, run(target).volumes["result"].array / 1000)
    assert made > max(given.values()), given


def test_a_larger_scale_brings_the_result_closer_to_its_condition() -> None:
    def closeness(role: str, scale: float) -> float:
        other = {"bSSFP": "T2", "T2": "bSSFP"}[role]
        made = run("LGE", start="noise", scales=((role, scale), (other, 1.0))).volumes["result"].array / 1000
        return float(np.mean([normalised_mutual_information(a, b) for a, b in zip(made, truth()[role])]))

    means = [np.mean([closeness(role, scale) for role in ("bSSFP", "T2")]) for scale in (0.0, 1.0, 3.0)]
    assert means == sorted(means)
