"""Degrading and enhancing end to end with packs of random weights: what must hold whatever the network predicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from MRDiffusionLib import tasks
from MRDiffusionLib.diffusion.noise import stream_seed
from MRDiffusionLib.errors import InputError, PackError, SettingError
from MRDiffusionLib.imaging import Geometry, Volume, read_volume, write_volume
from MRDiffusionLib.networks.degrader import EDGES, NODES, Degrader
from MRDiffusionLib.networks.enhancer import SPECTRUM, Enhancer, LevelEstimator, log_spectrum
from MRDiffusionLib.networks.unet import coordinates
from MRDiffusionLib.packs import read_info
from MRDiffusionLib.physics.degradation import FastScan, fast_scan, noisy_scan
from MRDiffusionLib.physics.fourier import fft2c, ifft2c
from MRDiffusionLib.physics.greys import GREYS, by_grey, mean_by_grey, sums_by_grey
from MRDiffusionLib.physics.levels import acceleration
from MRDiffusionLib.physics.low_pass import decayed, low_pass, measured_extent
from MRDiffusionLib.physics.noise import rician_mean
from MRDiffusionLib.request import Request, request_from_provenance
from MRDiffusionLib.settings import DegradationSettings, EnhancementSettings
from MRDiffusionLib.tasks.degradation import degrade
from MRDiffusionLib.tasks.image import Image, read_image
from MRDiffusionLib.tasks.models import PackCache
from MRDiffusionLib.training.degrader_job import sampled

STRAIGHT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = (0.6, 0.0, 0.8, 0.0, 1.0, 0.0, -0.8, 0.0, 0.6)
LEFT_HANDED = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture(params=["degradation", "enhancement"])
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(tiny_degrader_pack: Path, tiny_enhancer_pack: Path, tmp_path: Path):
    """Writes a volume and gives a request for it."""

    def build(
        task: str,
        size: tuple[int, int, int] = (3, 36, 40),
        spacing: tuple[float, float, float] = (1.0, 1.0, 4.0),
        direction: tuple[float, ...] = STRAIGHT,
        factor: float = 1.0,
        array: np.ndarray | None = None,
        seed: int = 0,
        **settings: object,
    ) -> Request:
        path = tmp_path / "image.nii.gz"
        if array is None:
            rng = np.random.default_rng(1)
            y, x = np.mgrid[: size[1], : size[2]]
            disc = np.hypot(y - size[1] / 2, x - size[2] / 2) < min(size[1:]) / 3
            array = disc * rng.uniform(40, 100, size)
        geometry = Geometry(tuple(array.shape[::-1]), spacing, (-30.0, 12.0, 5.0), direction)
        write_volume(Volume((factor * array).astype(np.float32), geometry), path)
        inputs = {"image": str(path)}
        if task == "degradation":
            chosen = DegradationSettings(**{"steps": 3, **settings})
            return Request(task, str(tiny_degrader_pack), inputs, chosen, seed, precision="fp32")
        chosen = EnhancementSettings(**{"level": 0.5, **settings})
        return Request(task, str(tiny_enhancer_pack), inputs, chosen, seed, precision="fp32")

    return build


@pytest.mark.parametrize("direction", [STRAIGHT, OBLIQUE, LEFT_HANDED])
@pytest.mark.parametrize("size", [(2, 32, 32), (1, 37, 30), (3, 16, 41)])
def test_the_result_has_the_grid_of_the_image(make, task, size, direction):
    request = make(task, size, (0.9, 1.3, 4.0), direction)
    made, given = tasks.run(request).volumes["result"], read_volume(request.inputs["image"])
    assert made.geometry == given.geometry and made.array.shape == size
    assert np.isfinite(made.array).all() and made.array.min() >= 0 and not np.array_equal(made.array, given.array)


def test_level_0_gives_the_image_back(make, task):
    request = make(task, level=0.0)
    assert np.array_equal(tasks.run(request).volumes["result"].array, read_volume(request.inputs["image"]).array)


@pytest.mark.parametrize("factor", [1e-3, 300.0])
def test_intensities_are_the_image_s(make, task, factor):
    one, other = (tasks.run(make(task, factor=f)).volumes["result"].array for f in (1.0, factor))
    assert np.allclose(other, factor * one, rtol=1e-3, atol=1e-3 * factor)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_slice_alone_is_the_slice_of_the_volume(make, task, batch):
    whole = tasks.run(replace(make(task), batch=4)).volumes["result"]
    alone = tasks.run(replace(make(task), slices=(1,), batch=batch)).volumes["result"]
    assert np.array_equal(whole.array[1], alone.array[0])
    assert np.allclose(whole.geometry.affine() @ [3, 4, 1, 1], alone.geometry.affine() @ [3, 4, 0, 1])


def test_a_run_is_made_again_from_its_provenance_bit_by_bit(make, task):
    first = tasks.run(make(task))
    again = tasks.run(request_from_provenance(json.dumps(first.provenance)))
    assert np.array_equal(first.volumes["result"].array, again.volumes["result"].array)


def test_seeds_give_their_own_noise(make):
    one, other = (tasks.run(make("degradation", seed=seed)).volumes["result"].array for seed in (1, 2))
    assert not np.allclose(one, other)


def test_the_level_matters(make, task):
    one, other = (tasks.run(make(task, level=level)).volumes["result"].array for level in (0.2, 0.9))
    assert not np.allclose(one, other)


def test_the_kind_matters_to_the_enhancer(make):
    one, other = (tasks.run(make("enhancement", kind=kind)).volumes["result"].array for kind in ("noise", "blur"))
    assert not np.allclose(one, other)


def test_an_estimated_level_is_written_down(make):
    result = tasks.run(make("enhancement", level=None))
    level = result.provenance["request"]["settings"]["level"]
    assert 0 < level < 1 and result.measurements["level"] == level
    assert result.warnings[0] == f"The level was estimated from the image: {level:.2f}."


def test_empty_slices_stay_empty_when_enhanced(make):
    array = np.random.default_rng(0).uniform(1, 9, (3, 32, 32))
    array[1] = 0
    made = tasks.run(make("enhancement", array=array)).volumes["result"].array
    assert not made[1].any() and made[0].any() and made[2].any()


def test_progress_counts_every_step(make, task):
    seen = []
    tasks.run(replace(make(task), batch=1), progress=seen.append)
    assert (seen[-1].slice, seen[-1].slices) == (3, 3)
    assert len(seen) == 3 * (3 if task == "degradation" else 1)


def test_previews_become_the_result(make):
    seen: list[tuple[int, Volume]] = []
    request = replace(make("degradation"), batch=2, slices=(1, 2))
    made = tasks.run(request, preview=lambda number, image: seen.append((number, image))).volumes["result"]
    assert [number for number, _ in seen] == [1, 1, 1]
    assert np.array_equal(seen[-1][1].array[0], made.array[0]) and seen[-1][1].geometry == made.geometry.part((0,))


# What is refused, and what is told.


def test_another_kind_than_the_pack_s_is_refused(make):
    with pytest.raises(PackError, match="degrades by noise, not blur"):
        tasks.run(make("degradation", kind="blur"))


def test_a_pack_of_another_task_is_refused(make, tiny_enhancer_pack: Path):
    with pytest.raises(PackError, match="is for the task enhancement"):
        tasks.run(replace(make("degradation"), pack=str(tiny_enhancer_pack)))


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan"), "high"])
def test_levels_outside_0_to_1_are_refused(make, task, level):
    with pytest.raises(SettingError, match="level"):
        make(task, level=level)


def test_an_unknown_kind_is_refused(make, task):
    with pytest.raises(SettingError, match="kind = 'fog' is unknown"):
        make(task, kind="fog")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1, 20, 20), 3.0), "have the value 3"),
        (np.eye(8)[None], "slices of 8x8 pixels are too small"),
        (-np.eye(20)[None], "largest intensity"),
    ],
)
def test_images_that_show_nothing_are_refused(make, task, array, message):
    with pytest.raises(InputError, match=message):
        tasks.run(make(task, array=array))


def test_what_the_pack_has_not_seen_is_told(make, task):
    told = "\n".join(tasks.run(make(task, spacing=(2.0, 1.0, 3.0), direction=OBLIQUE)).warnings)
    assert "turned by" in told and "column spacing of 2.00 mm differs from the 1.00 mm" in told
    dark = np.full((1, 32, 32), 1.0)
    dark[0, :6, :6] = 10.0
    assert "is not as bright as" in "\n".join(tasks.run(make(task, array=dark)).warnings)


# Parts.


def test_padded_slices_know_their_place(make, tiny_degrader_pack: Path):
    request = make("degradation", (1, 33, 40))
    image = read_image(request.inputs["image"], read_info(tiny_degrader_pack))
    padded = image.slices([0], torch.device("cpu"))
    assert padded.shape == (1, 1, 40, 40)
    np.testing.assert_allclose(image.intensities(padded)[0], image.array[0], rtol=1e-5, atol=1e-4)
    position = image.position(torch.device("cpu"))
    assert torch.allclose(position[0, :, :33], coordinates((33, 40)), atol=1e-6)


def test_residuals_have_deviation_one_at_every_level(tiny_degrader_pack: Path):
    """Of fast scans that lose a known part, and `degraded` is the inverse of `residual`."""
    network = Degrader("blur", read_info(tiny_degrader_pack).network["denoiser"], gamma_min=-12.0, gamma_max=6.0)
    generator = torch.Generator().manual_seed(0)
    level = (torch.arange(400) + 0.5) / 400
    clean = 2 * torch.rand((400, 1, 16, 16), generator=generator) - 1
    low = clean + (0.01 + 0.2 * level)[:, None, None, None] * torch.randn(clean.shape, generator=generator)
    network.measure([(clean, low, level)])
    residual = network.residual(low, clean, level)
    for part in range(10):
        assert residual[part * 40 : part * 40 + 40].std() == pytest.approx(1.0, abs=0.15), part
    assert torch.allclose(network.degraded(residual, clean, level), low, atol=1e-6)
    assert torch.equal(network._deviation(clean, torch.tensor([0.05, 0.95]))[:, 0, 0, 0], network.deviations[[0, -1]])
    halfway = network._deviation(clean, torch.tensor([0.1]))[0, 0, 0, 0]
    assert torch.allclose(halfway, network.deviations[:2].mean())


def test_a_magnitude_s_bias_and_deviation_are_those_of_its_grey(tiny_degrader_pack: Path):
    """Of Rician noise, whose moments are known (Gudbjartsson, Patz 1995): the residual has mean 0 and deviation 1."""
    network = Degrader("noise", read_info(tiny_degrader_pack).network["denoiser"], gamma_min=-12.0, gamma_max=6.0)
    level = torch.tensor([0.375, 0.775])  # the middles of parts 7 and 15 of 20
    sigma = 0.2 * level.double()[:, None, None, None]
    clean = torch.linspace(0, 1, 128).double()[None, None, None].expand(2, 1, 512, 128)
    drawn = torch.randn((2, *clean.shape), generator=torch.Generator().manual_seed(0)).double()
    low = torch.complex(clean + sigma * drawn[0], sigma * drawn[1]).abs()
    images = [(2 * values - 1).float() for values in (clean, low)]
    network.measure([(images[0], images[1], level)])
    mean = torch.from_numpy(rician_mean(clean.numpy(), sigma.expand_as(clean).numpy()))
    deviation = (clean**2 + 2 * sigma**2 - mean**2).sqrt()
    assert torch.allclose((network.expected(images[0], level) + 1) / 2, mean.float(), atol=4e-3)
    assert torch.allclose(network._deviation(images[0], level) / 2, deviation.float(), rtol=0.05)
    between = network.biases[11]
    assert torch.allclose(between, network.biases[[7, 15]].mean(0)), "of a part without pairs"
    network.deviations.copy_(torch.arange(20.0)[:, None])
    ends = network._deviation(images[0], torch.tensor([0.0, 1.0]))
    assert torch.allclose(ends[:, 0, 0, 0], torch.tensor([0.0, 19.5])), "it grows on to the last level"
    network.measure([(images[0], images[1], level)])
    residual = network.residual(images[1], images[0], level)
    for greys in residual.split(32, dim=-1):
        assert abs(float(greys.mean())) < 0.02 and float(greys.std()) == pytest.approx(1, abs=0.02)
    assert torch.allclose(network.degraded(residual, images[0], level), images[1], atol=1e-6)


def test_what_sampling_misses_of_the_moments_is_corrected(tiny_degrader_pack: Path):
    """A network whose residuals have a wrong mean and deviation makes images with the acquired ones' all the same."""
    network = Degrader("noise", read_info(tiny_degrader_pack).network["denoiser"], gamma_min=-12.0, gamma_max=6.0)
    generator = torch.Generator().manual_seed(0)
    level = (torch.arange(200) + 0.5) / 200
    clean = 2 * torch.rand((200, 1, 32, 32), generator=generator) ** 2 - 1
    noise = torch.randn((2, *clean.shape), generator=generator) * (0.05 + 0.2 * level)[:, None, None, None]
    low = 2 * torch.complex((clean + 1) / 2 + noise[0], noise[1]).abs() - 1
    network.measure([(clean, low, level)])
    wrong = 0.1 + 1.2 * torch.randn(clean.shape, generator=generator)
    network.match([(clean[::2], low[::2], level[::2])], [wrong[::2]])
    made = network.degraded(wrong, clean, level).clamp(min=-1)
    for dark in (clean < -0.9, clean > -0.5):
        added, wanted = ((images - clean)[dark] for images in (made, low))
        assert float(added.mean()) == pytest.approx(float(wanted.mean()), abs=0.01 * float(wanted.std()))
        assert float(added.std()) == pytest.approx(float(wanted.std()), rel=0.01)


def test_training_samples_as_the_task_does(tiny_degrader_pack: Path):
    model = PackCache().degrader(str(tiny_degrader_pack), torch.device("cpu"), "fp32")
    clean = np.random.default_rng(0).random((1, 32, 24), np.float32)
    geometry = Geometry((24, 32, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    settings = DegradationSettings(kind="noise", level=0.5)
    request = Request("degradation", model.info.name, {"image": "-"}, settings, 7, batch=1)
    task = degrade(Image(clean, geometry, "", 1.0, model.info.multiple, ()), model, request)
    images = torch.from_numpy(2 * clean - 1)[:, None]
    level = torch.tensor([settings.level])
    residual = sampled(model.network, model.schedule, images, level, [stream_seed(7, 0, 0)])
    own = model.network.degraded(residual, images, level).clamp(min=-1)
    np.testing.assert_allclose((own[:, 0].numpy() + 1) / 2, task, atol=1e-4)


def test_a_grey_that_hardly_occurs_has_what_lies_between_its_neighbours():
    image = torch.cat([torch.zeros(1000), torch.full((1000,), 0.25), torch.full((3,), 0.04), torch.full((1000,), 2.0)])
    sums, weights = sums_by_grey(torch.where(image == 0.04, 7.0, 4 * image)[None, None, None], image[None, None, None])
    table = mean_by_grey(sums, weights)
    assert table.shape == (1, GREYS) and float(table[0, 0]) == 0 and float(table[0, -1]) == 8
    nodes = torch.arange(GREYS) / (GREYS - 1)
    assert float(table[0, (nodes < 0.2).nonzero()[-1]]) < 0.5, "not the three pixels' 7"
    assert torch.allclose(
        by_grey(table.float(), image[None, None, None])[0, 0, 0, [0, 1000, -1]], torch.tensor([0.0, 1, 8])
    )


def test_the_band_beyond_a_scan_s_edge_is_its_residual(tiny_degrader_pack: Path):
    """Of a scan that measures the centre square of its level and no more."""
    network = Degrader("blur", read_info(tiny_degrader_pack).network["denoiser"], gamma_min=-12.0, gamma_max=6.0)
    network.deviations.copy_(torch.linspace(0.01, 0.1, NODES["blur"]))
    clean = 2 * torch.rand((2, 1, 32, 40), generator=torch.Generator().manual_seed(0)) - 1
    level = torch.tensor([0.3, 0.8])
    extent = measured_extent(level)
    assert torch.allclose(extent**-2, torch.tensor([acceleration(0.3), acceleration(0.8)]))
    condition = network.condition(clean, level)
    assert condition.shape == (2, 3 + len(EDGES), 32, 40) and torch.equal(condition[:, :1], clean)
    residual = network.residual(low_pass(clean, extent), clean, level)
    assert torch.allclose(condition[:, 2:3], -residual, atol=1e-4)
    bands = network._deviation(clean, level) * condition[:, 2:-1].sum(1, keepdim=True)
    assert torch.allclose(bands + low_pass(clean, EDGES[-1] * extent), clean, atol=1e-5)
    scan = FastScan(side=float(extent[1]), decay=0.8)
    weights = scan.weights((32, 40))
    slow = ifft2c(fft2c(low_pass(clean[1:], extent[1:])) * weights).real
    assert torch.allclose(low_pass(decayed(clean, extent, level), extent)[1:], slow, atol=1e-5)
    assert torch.allclose(condition[:, -1:], -network.residual(decayed(clean, extent, level), clean, level), atol=1e-4)


def test_what_scans_lose_on_average_is_not_left_to_chance(tiny_degrader_pack: Path):
    """Of scans that are all alike the residual is next to nothing, ringing included, and `degraded` is its inverse."""
    network = Degrader("blur", read_info(tiny_degrader_pack).network["denoiser"], gamma_min=-12.0, gamma_max=6.0)
    level = torch.tensor([0.3, 0.95] * 4)
    clean = torch.rand((8, 1, 64, 64), generator=torch.Generator().manual_seed(0))
    clean[..., :16] = 0
    weaker = decayed(low_pass(clean, measured_extent(level)), measured_extent(level), torch.full_like(level, 0.3))
    clean, low = 2 * clean - 1, 2 * weaker.abs() - 1
    assert (weaker < 0).any(), "beside the object the magnitude has lost a sign"
    network.measure([(clean[:4], low[:4], level[:4]), (clean[4:], low[4:], level[4:])])
    assert torch.allclose(network.losses[6], network.losses[[3, 9]].mean(0), atol=0.1), "between two parts with pairs"
    before = (low - clean).square().mean((1, 2, 3))
    after = (low - network.expected(clean, level)).square().mean((1, 2, 3))
    assert (after < 0.1 * before).all()
    residual = network.residual(low, clean, level)
    assert torch.allclose(residual.square().mean((1, 2, 3)), torch.ones(8), rtol=0.3)
    assert torch.allclose(network.degraded(residual, clean, level), low, atol=1e-6)
    assert torch.equal(network.expected(torch.full_like(clean, -1.0), level), torch.full_like(clean, -1.0)), (
        "air is air"
    )


def test_an_unknown_kind_of_degrader_is_refused():
    with pytest.raises(ValueError, match="kind = fog"):
        Degrader("fog", {}, gamma_min=-12.0, gamma_max=6.0)


@pytest.mark.parametrize("size", [(32, 24), (33, 40)])
def test_low_pass_keeps_the_centre_of_k_space(size):
    image = torch.rand((2, 1, *size), generator=torch.Generator().manual_seed(0))
    low = low_pass(image, torch.tensor([0.5, 1.0]))
    assert torch.allclose(low[1], image[1], atol=1e-5)
    k = [(torch.arange(n) - n // 2).abs() / (n / 2) for n in size]
    outside = torch.maximum(k[0][:, None], k[1][None]) > 0.5
    assert fft2c(low[0]).abs()[0][outside].max() < 1e-4
    assert torch.allclose(low_pass(low, torch.tensor([0.5, 1.0])), low, atol=1e-5)


def test_the_estimator_looks_where_the_signal_is():
    """Air beside the object changes next to nothing of what it sees in the image."""
    torch.manual_seed(0)
    estimator = LevelEstimator(1, (4,))
    torch.nn.init.zeros_(estimator.head[0].weight[:, : 4 * (SPECTRUM // 2) ** 2].detach())
    image = torch.full((1, 1, 16, 20), -1.0)
    image[..., 10:] = torch.rand((1, 1, 16, 10), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = estimator.image(image)[..., 5:].mean((2, 3))
        alone = estimator.head(torch.cat([torch.zeros(1, 4 * (SPECTRUM // 2) ** 2), seen], dim=1)).sigmoid()
        assert float(estimator(image)) == pytest.approx(float(alone), abs=0.02)


def test_steps_of_the_unrolled_descent_follow_the_misfit(tiny_enhancer_pack: Path):
    """Without its network the descent stays where the misfit is zero: at the given image."""
    network = Enhancer(**read_info(tiny_enhancer_pack).network)
    for parameter in network.unet.parameters():
        torch.nn.init.zeros_(parameter)
    low = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(network.restore(low, torch.tensor([[0.5, 0.0], [0.0, 0.5]])), low)
        moved = network._gradient(
            low, torch.tensor([[0.5, 0.0], [0.0, 1.0]]), torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.5])
        )
    assert torch.allclose(moved[0], 0.5 * low[0])
    assert torch.allclose(moved[1:], 0.5 * low_pass(low[1:], torch.tensor([0.5])), atol=1e-6)


@pytest.mark.parametrize(
    "change", [{"kinds": []}, {"kinds": ["fog"]}, {"kinds": ["noise", "noise"]}, {"iterations": 0}]
)
def test_settings_that_make_no_network_are_refused(tiny_enhancer_pack: Path, change):
    with pytest.raises(ValueError, match="make no network"):
        Enhancer(**{**read_info(tiny_enhancer_pack).network, **change})


def test_the_spectrum_tells_noise_and_fast_scans_whatever_the_gain():
    """Noise raises its edge, a fast scan empties it; brightness changes nothing, and nor does the size much."""
    generator = torch.Generator().manual_seed(0)
    y, x = (torch.arange(n).float() - n / 2 for n in (96, 80))
    clean = (0.5 + 0.4 * torch.sin(x / 2)) * ((y[:, None] / 40) ** 2 + (x / 30) ** 2 < 1)
    scans = [clean, noisy_scan(clean, 0.8, generator), fast_scan(clean, FastScan(0.5))]
    spectra = log_spectrum(2 * torch.stack(scans)[:, None] - 1)
    assert spectra.shape == (3, 1, SPECTRUM, SPECTRUM)
    edge = spectra[:, 0, [0, -1]].mean((1, 2))
    assert edge[1] > edge[0] + 1 and edge[2] < edge[0] - 0.3
    brighter = log_spectrum(2 * 1.7 * torch.stack(scans)[:, None] - 1)
    assert torch.allclose(brighter, spectra, atol=1e-3)
    assert torch.isfinite(log_spectrum(torch.full((1, 1, 33, 40), -1.0))).all(), "air alone"
