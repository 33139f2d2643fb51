"""Simulated cardiac patients: anatomy, infarcts, acquisition, and the files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from MRDiffusionLib.cli import main
from MRDiffusionLib.errors import InputError, StorageError
from MRDiffusionLib.imaging.volume import read_volume
from MRDiffusionLib.simulation.anatomy import LABELS, NUMBER, Anatomy, polar, window
from MRDiffusionLib.simulation.cine import anatomy_of
from MRDiffusionLib.simulation.cohort import MYOPS_LABELS, Options, simulate, write_cohort
from MRDiffusionLib.simulation.infarct import TERRITORIES, Infarct, draw_infarct, wall_depth, with_infarct
from MRDiffusionLib.simulation.sequences import Scanner, draw_protocol, ideal_image, tissue_signals
from MRDiffusionLib.simulation.sunnybrook import CineSlice, filled, read_slices
from MRDiffusionLib.simulation.ventricles import draw_heart, modelled_stack

WALL = ("myocardium", "oedema", "acute scar", "chronic scar", "obstruction")


@pytest.fixture(scope="module")
def stack() -> list[Anatomy]:
    generator = np.random.default_rng(4)
    return modelled_stack(draw_heart(generator), generator, slices=6, matrix=128)


def infarct(territory: str = "LAD", acute: bool = True, **changes: float) -> Infarct:
    usual = Infarct(territory, 0, 40, 0.8, 0.5, 2.0, acute, 1.3, acute)
    return replace(usual, **changes)  # type: ignore[arg-type]


def test_window_cuts_around_a_point_and_pads_with_zeros() -> None:
    image = np.arange(1, 26).reshape(5, 5)
    cut = window(image, (0, 2), 4)
    assert cut.shape == (4, 4) and (cut[:2] == 0).all() and cut[2].tolist() == [1, 2, 3, 4]


def test_partial_volume_shares_a_voxel_out(stack: list[Anatomy]) -> None:
    shares = stack[2].fractions()
    assert shares.shape == (len(LABELS), 128, 128) and shares.min() >= 0
    np.testing.assert_allclose(shares.sum(0), 1, atol=1e-9)


def test_the_modelled_heart_is_a_heart(stack: list[Anatomy]) -> None:
    cavities = [int(a.where("blood", "papillary").sum()) for a in stack]
    assert cavities[0] > 2 * cavities[-1] > 0 and cavities == sorted(cavities, reverse=True)
    right = [int(a.where("venous blood").sum()) for a in stack]
    assert right[0] > right[-2] > right[-1] == 0
    for anatomy in stack:
        distance, _ = polar(anatomy.labels.shape, anatomy.centre)
        wall, cavity = anatomy.where("myocardium"), anatomy.where("blood", "papillary")
        # The wall closes around the cavity, and what lies in the middle is blood.
        assert ndimage.binary_fill_holes(wall)[tuple(round(c) for c in anatomy.centre)]
        assert distance[wall].mean() > distance[cavity & (distance < 40)].mean()
        assert anatomy.where("lung").any() and anatomy.where("fat").any()


@pytest.mark.parametrize("seed", range(3))
def test_modelled_hearts_are_whole_and_alike_for_one_seed(seed: int) -> None:
    first, again = (modelled_stack(draw_heart(g), g, 3) for g in map(np.random.default_rng, (seed, seed)))
    for anatomy, same in zip(first, again, strict=True):
        assert np.array_equal(anatomy.labels, same.labels) and np.array_equal(anatomy.texture, same.texture)
        assert anatomy.labels.max() < len(LABELS) and not anatomy.where("oedema", "acute scar", "obstruction").any()
        wall, right = anatomy.where("myocardium"), anatomy.where("venous blood")
        assert ndimage.label(wall)[1] == 1 and anatomy.where("blood")[tuple(round(c) for c in anatomy.centre)]
        if right.any():
            # The right ventricle lies on the side of the septum, and touches nothing but walls.
            row, column = np.argwhere(right).mean(0) - anatomy.centre
            assert math.cos(math.atan2(-row, column) - anatomy.septum) > 0.8
            assert not (ndimage.binary_dilation(right) & anatomy.where("lung", "liver", "air", "blood")).any()


@pytest.mark.parametrize("territory", list(TERRITORIES))
def test_an_infarct_lies_in_its_territory_and_starts_at_the_endocardium(stack: list[Anatomy], territory: str) -> None:
    before = stack[2]
    after = with_infarct([before], infarct(territory, transmurality=0.6), np.random.default_rng(0))[0]
    scar = after.where("acute scar", "obstruction")
    _, direction = polar(before.labels.shape, before.centre)
    expected = before.septum + math.radians(TERRITORIES[territory])
    mean = np.angle(np.exp(1j * direction[scar]).mean() * np.exp(-1j * expected))
    assert abs(mean) < math.radians(12)
    depth = wall_depth(before)
    wall = before.where("myocardium")
    assert depth[scar].mean() < depth[wall].mean() < 0.7
    # Nothing but healthy wall is replaced, and the oedema is where the scar is and around it.
    changed = after.labels != before.labels
    assert (before.labels[changed] == NUMBER["myocardium"]).all()
    assert after.where("oedema").sum() > 0.3 * scar.sum()


def test_depth_runs_from_endocardium_to_epicardium(stack: list[Anatomy]) -> None:
    depth, wall = wall_depth(stack[2]), stack[2].where("myocardium")
    inner = wall & ndimage.binary_dilation(stack[2].where("blood") & (depth == 0))
    assert 0 < depth[wall].min() < 0.3 and 0.8 < depth[wall].max() <= 1
    assert depth[inner].mean() < 0.3


def test_an_old_scar_shows_in_lge_alone(stack: list[Anatomy]) -> None:
    old = with_infarct(stack, infarct(acute=False), np.random.default_rng(0))
    assert not any(a.where("oedema", "acute scar", "obstruction").any() for a in old)
    protocol = draw_protocol(np.random.default_rng(1))
    scar, wall = old[2].where("chronic scar"), old[2].where("myocardium")
    contrast = {}
    for sequence in ("T2", "LGE"):
        image = ideal_image(replace(old[2], texture=np.ones_like(old[2].texture)), protocol, sequence)
        contrast[sequence] = image[scar].mean() / max(image[wall].mean(), 1e-9)
    assert contrast["LGE"] > 2 and 0.8 < contrast["T2"] < 1.25


def test_an_infarct_ends_along_the_stack(stack: list[Anatomy]) -> None:
    after = with_infarct(stack, infarct(middle=0.1, extent=0.3), np.random.default_rng(0))
    ill = [bool(a.where("acute scar").any()) for a in after]
    assert ill[0] and not any(ill[3:])
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(after[3:], stack[3:], strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_the_magnitude_lge_is_that_of_the_clinic(seed: int) -> None:
    """Nulled wall black, muscle dark grey, blood, scar and fat bright."""
    protocol = draw_protocol(np.random.default_rng(seed))
    shown = dict(zip(LABELS, np.abs(tissue_signals(protocol, "LGE")), strict=True))
    assert max(shown["muscle"], shown["obstruction"]) < 0.5 * min(shown["blood"], shown["acute scar"])
    assert shown["myocardium"] < 0.3 * shown["blood"] and shown["fat"] > shown["muscle"]


def test_voxels_of_fat_and_water_are_dark_in_bssfp(stack: list[Anatomy]) -> None:
    signals = dict(zip(LABELS, tissue_signals(draw_protocol(np.random.default_rng(0)), "bSSFP"), strict=True))
    assert signals["fat"] < 0 < signals["blood"]
    assert ideal_image(stack[2], draw_protocol(np.random.default_rng(0), phase_sensitive=True), "bSSFP").min() >= 0


@pytest.mark.parametrize("stir", [False, True])
def test_oedema_is_bright_on_t2_and_stir_blood_is_dark(stir: bool) -> None:
    signals = dict(zip(LABELS, tissue_signals(draw_protocol(np.random.default_rng(2), stir), "T2"), strict=True))
    assert signals["oedema"] > 1.08 * signals["myocardium"] and signals["papillary"] == signals["myocardium"]
    assert (signals["blood"] < signals["myocardium"]) == stir
    assert not stir or signals["fat"] < 0.3 * signals["myocardium"]


def test_phase_sensitive_lge_keeps_its_sign(stack: list[Anatomy]) -> None:
    protocol = draw_protocol(np.random.default_rng(3), phase_sensitive=True)
    signed = ideal_image(stack[2], protocol, "LGE")
    magnitude = ideal_image(stack[2], replace(protocol, phase_sensitive=False), "LGE")
    assert signed.min() < 0 <= magnitude.min()
    np.testing.assert_allclose(np.abs(signed), magnitude)


def test_the_scanner_adds_rician_noise_of_the_stated_level() -> None:
    air, even = np.zeros((96, 96)), np.ones((96, 96))
    generator = np.random.default_rng(0)
    measured = Scanner(1, 0.1, 0, (0, 0)).acquire(air, even, generator)
    assert measured.mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=0.02)
    measured = Scanner(1, 0.1, 0, (0, 0)).acquire(air + 10, even, generator)
    assert measured.std() == pytest.approx(0.1, rel=0.03) and measured.mean() == pytest.approx(10, rel=1e-3)
    signed = Scanner(1, 0.1, 0, (0, 0)).acquire(air, even, generator, magnitude=False)
    assert abs(signed.mean()) < 0.005 and signed.std() == pytest.approx(0.1, rel=0.03)


def test_the_scanner_moves_shades_and_blurs() -> None:
    y, x = np.mgrid[:64, :65]
    blob = np.exp(-((y - 30) ** 2 + (x - 33) ** 2) / 18)
    even = np.ones_like(blob)
    generator = np.random.default_rng(0)
    moved = Scanner(1, 0, 0, (1.25, -0.5)).acquire(blob, even, generator)
    np.testing.assert_allclose(ndimage.center_of_mass(moved), (31.25, 32.5), atol=0.01)
    shading = np.exp(0.02 * (x - 33))
    np.testing.assert_allclose(
        Scanner(1, 0, 0.5, (0, 0)).acquire(blob, shading, generator), blob * np.sqrt(shading), atol=1e-9
    )
    blurred = Scanner(0.5, 0.01, 0, (0, 0)).acquire(blob, even, generator, magnitude=False)
    outside = np.abs(np.fft.fftshift(np.fft.fft2(blurred)))
    assert outside[:14].max() < 1e-9 and blurred.shape == blob.shape


def cine_slice(anatomy: Anatomy, number: int = 0) -> CineSlice:
    """A modelled slice that plays a real one."""
    image = ideal_image(anatomy, draw_protocol(np.random.default_rng(5)), "bSSFP") * anatomy.shading**0.3
    epi = ndimage.binary_fill_holes(anatomy.where(*WALL))
    endo = epi & anatomy.where("blood", "papillary")
    return CineSlice("MODEL", number, 1000 * image, endo, epi, None, 1.4)


def test_tissues_are_found_again_in_a_bssfp_image(stack: list[Anatomy]) -> None:
    truth = stack[1]
    cut = cine_slice(truth)
    found = anatomy_of(cut.image, cut.endo, cut.epi)

    def dice(*names: str) -> float:
        a, b = truth.where(*names), found.where(*names)
        return float(2 * (a & b).sum() / (a.sum() + b.sum()))

    assert dice("venous blood") > 0.7 and dice("lung", "air") > 0.8 and dice("myocardium", "papillary") > 0.9
    turn = (found.septum - truth.septum + math.pi) % (2 * math.pi) - math.pi
    assert abs(turn) < math.radians(25)
    assert found.bssfp is not None and np.array_equal(found.bssfp, cut.image)


def test_a_real_bssfp_image_is_kept(stack: list[Anatomy]) -> None:
    cut = cine_slice(stack[1])
    patient = simulate([anatomy_of(cut.image, cut.endo, cut.epi)], 3, Options(), (1.4, 10), "test")
    kept = window(cut.image, ndimage.center_of_mass(cut.epi), 160)
    assert np.corrcoef(kept.ravel(), patient.images["bSSFP"].ravel())[0, 1] > 0.999
    assert patient.images["LGE"].shape == (1, 160, 160)


def test_the_same_seed_makes_the_same_patient(stack: list[Anatomy]) -> None:
    first, again, other = (simulate(stack, seed, Options(), (1.4, 10), "model") for seed in (1, 1, 2))
    for name, image in first.images.items():
        assert np.array_equal(image, again.images[name]) and not np.array_equal(image, other.images[name])


def test_an_acute_scar_is_bright_in_the_simulated_lge(stack: list[Anatomy]) -> None:
    patient = simulate(stack, 5, Options(infarct=1, acute=1), (1.4, 10), "model")
    labels = patient.labels
    assert set(np.unique(labels)) <= {0, *MYOPS_LABELS.values()}
    lge, t2 = patient.images["LGE"], patient.images["T2"]
    assert lge[labels == 2221].mean() > 2 * lge[labels == 200].mean()
    # The coil shades the image: oedema is compared with the wall beside it.
    beside = (labels == 200) & ndimage.binary_dilation(labels == 1220, np.ones((1, 7, 7)))
    assert t2[labels == 1220].mean() > 1.05 * t2[beside].mean()
    assert lge[labels == 500].mean() > 2 * lge[labels == 200].mean()


def test_infarcts_vary() -> None:
    generator = np.random.default_rng(0)
    drawn = [draw_infarct(generator, acute=True) for _ in range(60)]
    assert {i.territory for i in drawn} == set(TERRITORIES)
    assert 0.2 < np.mean([i.obstruction for i in drawn]) < 0.6


def test_a_cohort_has_the_layout_of_myops(tmp_path: Path) -> None:
    lines: list[str] = []
    out = write_cohort(tmp_path / "set", {}, modelled=(2, 1), seed=7, log=lines.append)
    assert len(lines) == 3
    names = {str(path.relative_to(out)) for path in out.rglob("*.nii.gz")}
    expected = {f"train25/myops_training_{n}_{s}.nii.gz" for n in (101, 102) for s in ("C0", "T2", "DE")}
    expected |= {f"train25_myops_gd/myops_training_{n}_gd.nii.gz" for n in (101, 102)}
    assert names == expected | {f"test20/myops_test_201_{s}.nii.gz" for s in ("C0", "T2", "DE", "gd")}
    volumes = [read_volume(out / name) for name in sorted(names) if "101" in name]
    assert all(v.geometry.agrees_with(volumes[0].geometry) for v in volumes)
    manifest = json.loads((out / "simulated.json").read_text())
    assert manifest["simulated"] is True and set(manifest["patients"]) == {
        "myops_training_101",
        "myops_training_102",
        "myops_test_201",
    }
    with pytest.raises(StorageError, match="is not empty"):
        write_cohort(out, {})


def test_sunnybrook_files_are_read(tmp_path: Path, stack: list[Anatomy]) -> None:
    folder = tmp_path / "ed_es_8bit"
    contours = folder / "manual_contour" / "SC-N-99" / "contours-manual" / "IRCCI-expert"
    contours.mkdir(parents=True)
    (folder / "N-99").mkdir()
    turn = np.linspace(0, 2 * np.pi, 60)
    # The apex comes first in these files.
    for number, radius in ((20, 8), (40, 14), (60, 20)):
        Image.fromarray(np.full((64, 72), number, np.uint8)).save(folder / "N-99" / f"d-{number}.jpg")
        for kind, r in (("i", radius), ("o", radius + 6)):
            points = np.stack([36 + r * np.cos(turn), 32 + r * np.sin(turn)], axis=1)
            np.savetxt(contours / f"IM-0001-{number:04d}-{kind}contour-manual.txt", points)
    stacks = read_slices(tmp_path)
    assert [s.number for s in stacks["N-99"]] == [60, 40, 20]
    largest = stacks["N-99"][0]
    assert largest.endo.shape == (64, 72) and largest.endo.sum() == pytest.approx(math.pi * 400, rel=0.05)
    np.testing.assert_allclose(ndimage.center_of_mass(largest.endo), (32, 36), atol=0.5)
    with pytest.raises(InputError, match="no slice with both contours"):
        read_slices(tmp_path / "empty")


def test_a_contour_is_filled_where_it_lies() -> None:
    square = filled(np.array([(10, 20), (30, 20), (30, 25), (10, 25)]), (40, 50))
    rows, columns = np.nonzero(square)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 25, 10, 30)


def test_a_cohort_of_healthy_hearts_has_no_scar(tmp_path: Path) -> None:
    assert main(["simulate", str(tmp_path / "out"), "--modelled", "1", "0", "--infarct", "0"]) == 0
    labels = read_volume(tmp_path / "out/train25_myops_gd/myops_training_101_gd.nii.gz").array
    assert {200, 500, 600} <= set(np.unique(labels).tolist()) and not np.isin(labels, [1220, 2221]).any()
