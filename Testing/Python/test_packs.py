"""Packs: what a pack says is checked, and nothing damaged or hostile gets as far as a network."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from MRDiffusionLib.diffusion.schedule import SCHEDULES, schedule_from_dict
from MRDiffusionLib.errors import PackError, StorageError
from MRDiffusionLib.networks.autoencoder import Autoencoder
from MRDiffusionLib.networks.cmrdiff import CMRDiff
from MRDiffusionLib.networks.conditional import ConditionalUNet
from MRDiffusionLib.networks.features import PatchEncoder
from MRDiffusionLib.networks.translation import TranslationUNet
from MRDiffusionLib.networks.unet import VDMUNet
from MRDiffusionLib.packs import find_pack, list_packs, read_info, scan_packs, verify, verify_files, verify_pack
from MRDiffusionLib.packs.info import _SCHEDULES
from MRDiffusionLib.packs.networks import _CMRDIFF, _VDM_UNET
from MRDiffusionLib.packs.weights import load_network, write_pack

NETWORK = {
    "channels": [8, 16],
    "num_res_blocks": [1, 1],
    "image_channels": 1,
    "condition_channels": 0,
    "fourier_exponents": [6, 7],
    "fold": 2,
    "head_channels": 8,
    "norm_groups": 4,
}


def description(**changes: Any) -> dict[str, Any]:
    return {
        "name": "tiny",
        "version": "1.0",
        "title": "A tiny prior",
        "task": "superresolution",
        "roles": ["low_resolution"],
        "matrix": [32, 48],
        "pixel_size_mm": [1.5, 1],
        "prediction": "v",
        "network": dict(NETWORK),
        "schedule": {"name": "linear", "gamma_min": -13.3, "gamma_max": 5},
        "normalisation": {"percentile": 99.5, "value": 0.9},
        "domain": {"plane": "any", "median": {}},
        "training_data": "noise",
        "licence": "CC0-1.0",
        "quality": {"psnr_db": 31.5, "note": ["none", None, True]},
        "intended_use": "tests",
        "limits": ["It has seen nothing."],
        **changes,
    }


def random_network(schedule: dict[str, Any] | None = None, seed: int = 0) -> dict[str, torch.Tensor]:
    """State of a network whose weights are all random: MONAI starts some layers at zero, which would hide mistakes."""
    torch.manual_seed(seed)
    state = dict(VDMUNet(**NETWORK).state_dict())
    if schedule is not None:
        state |= {f"schedule.{name}": value for name, value in schedule_from_dict(schedule).state_dict().items()}
    return {name: torch.randn(value.shape) * 0.1 for name, value in state.items()}


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    write_pack(folder, description(), random_network(), "# Tiny\n", "CC0 1.0\n")
    return folder


@pytest.fixture
def users_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "users"
    folder.mkdir()
    monkeypatch.setenv("MRDIFFUSION_PACKS", str(folder))
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Change entries of pack.json; None removes one."""
    values = json.loads((folder / "pack.json").read_text())
    values |= changes
    (folder / "pack.json").write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def put_weights(folder: Path, data: bytes) -> None:
    """Other weights with their right checksum, so that what is found is not the checksum."""
    (folder / "weights.safetensors").write_bytes(data)
    edit(folder, weights_sha256=hashlib.sha256(data).hexdigest())


def refused(folder: Path, message: str, check: Callable[[Any], Any] = verify_pack) -> PackError:
    with pytest.raises(PackError, match=message) as caught:
        check(read_info(folder))
    assert caught.value.hint
    assert folder.name in caught.value.message
    return caught.value


# Writing and loading


@pytest.mark.parametrize("schedule", [None, {"name": "learned", "gamma_min": -10.0, "gamma_max": 4.0, "width": 16}])
def test_loaded_network_predicts_what_was_written(tmp_path: Path, schedule: dict[str, Any] | None) -> None:
    state = random_network(schedule)
    values = description(**({} if schedule is None else {"schedule": schedule}))
    info = write_pack(tmp_path / "tiny", values, state, "# Tiny\n", "CC0\n")
    verify_pack(info)
    network, gamma_of = load_network(info)

    ends = (gamma_of.gamma_min, gamma_of.gamma_max)
    original = VDMUNet(**NETWORK, gamma_min=ends[0], gamma_max=ends[1])
    of_network = {n: v.bfloat16().float() for n, v in state.items() if not n.startswith("schedule.")}
    original.load_state_dict(of_network)
    z, gamma = torch.randn(2, 1, 32, 48), torch.tensor([-8.0, 1.0])
    with torch.no_grad():
        expected, found = original.eval()(z, gamma), network(z, gamma)
    assert expected.std() > 0.01
    assert torch.allclose(found, expected, atol=1e-6)

    assert not network.training and not any(p.requires_grad for p in network.parameters())
    convolution = network.get_parameter("unet.conv_in.conv.weight")
    assert convolution.is_contiguous(memory_format=torch.channels_last)
    if schedule is not None:
        trained = schedule_from_dict(schedule)
        names = ("schedule." + n for n in trained.state_dict())
        trained.load_state_dict({n.removeprefix("schedule."): state[n] for n in names})
        t = torch.linspace(0, 1, 11)
        assert torch.equal(gamma_of(t), trained(t)), "a learned schedule keeps single precision"


def test_network_is_loaded_in_the_wanted_precision(pack: Path) -> None:
    network, _ = load_network(read_info(pack), "cpu", torch.bfloat16)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert network(torch.randn(1, 1, 32, 48), torch.zeros(1)).dtype == torch.float32


def test_pack_holds_four_plain_files_in_bfloat16(pack: Path) -> None:
    assert sorted(p.name for p in pack.iterdir()) == ["LICENSE", "README.md", "pack.json", "weights.safetensors"]
    tensors = safetensors.torch.load_file(pack / "weights.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    digest = hashlib.sha256((pack / "weights.safetensors").read_bytes()).hexdigest()
    assert json.loads((pack / "pack.json").read_text())["weights_sha256"] == digest
    assert [p.name for p in pack.parent.iterdir()] == ["tiny"]


def test_description_survives_the_file(pack: Path) -> None:
    info = read_info(pack)
    assert info.matrix == (32, 48) and info.field_of_view_mm == (48.0, 48.0) and info.multiple == 4
    assert {**description(), "format": 1, "weights_sha256": info.weights_sha256} == info.to_json()


def test_write_pack_keeps_an_older_pack_unless_told(pack: Path) -> None:
    before = (pack / "weights.safetensors").read_bytes()
    with pytest.raises(StorageError, match="exists"):
        write_pack(pack, description(), random_network(seed=1), "# Tiny\n", "CC0\n")
    assert (pack / "weights.safetensors").read_bytes() == before
    with pytest.raises(PackError):
        write_pack(pack, description(), {"unet.x": torch.zeros(1)}, "# Tiny\n", "CC0\n", replace=True)
    assert (pack / "weights.safetensors").read_bytes() == before
    write_pack(pack, description(), random_network(seed=1), "# Tiny\n", "CC0\n", replace=True)
    assert (pack / "weights.safetensors").read_bytes() != before
    verify_pack(read_info(pack))
    assert [p.name for p in pack.parent.iterdir()] == ["tiny"]


def test_write_pack_refuses_what_could_not_be_read_again(tmp_path: Path) -> None:
    state = random_network()
    with pytest.raises(PackError, match=r"0\.\d MB, more than 0\.0 MB"):
        write_pack(tmp_path / "p", description(), state, "# Tiny\n", "CC0\n", largest=1000)
    with pytest.raises(PackError, match="LICENSE would be empty"):
        write_pack(tmp_path / "p", description(), state, "# Tiny\n", " ")
    with pytest.raises(PackError, match="version"):
        write_pack(tmp_path / "p", description(version=""), state, "# Tiny\n", "CC0\n")
    broken = {**state, "unet.out.0.weight": torch.full_like(state["unet.out.0.weight"], float("nan"))}
    with pytest.raises(PackError, match="NaN"):
        write_pack(tmp_path / "p", description(), broken, "# Tiny\n", "CC0\n")
    with pytest.raises(StorageError, match="cannot be written"):
        write_pack(tmp_path / "none" / "p", description(), state, "# Tiny\n", "CC0\n")
    assert list(tmp_path.iterdir()) == []


# The description


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", "../tiny", "name"),
        ("name", "a/b", "name"),
        ("name", "..", "name"),
        ("name", "tiny\n", "name"),
        ("name", 7, "name = 7"),
        ("version", "../1", "version"),
        ("title", "", "title"),
        ("title", "x" * 1000, "title"),
        ("task", "segmentation", "task = 'segmentation' is unknown; known are superresolution, regression"),
        ("task", ["superresolution"], "task"),
        ("roles", "low_resolution", "roles"),
        ("matrix", [128], "matrix"),
        ("matrix", [128, 128.5], "matrix"),
        ("matrix", [128, True], "matrix"),
        ("matrix", [30, 32], "matrix = 30x32 is no multiple of 4"),
        ("matrix", [0, 32], "matrix"),
        ("pixel_size_mm", [0, 1], "pixel_size_mm"),
        ("pixel_size_mm", 1.0, "pixel_size_mm"),
        ("prediction", "noise", "prediction"),
        ("network", {}, "network"),
        ("network", {**NETWORK, "code": "import os"}, "network"),
        ("network", {**NETWORK, "channels": [10**9, 16]}, "channels = 1000000000, which is not"),
        ("network", {**NETWORK, "channels": [8, 16, 32]}, "as many num_res_blocks as channels"),
        ("network", {**NETWORK, "channels": 8}, "channels"),
        ("network", {**NETWORK, "fold": "2"}, "network"),
        ("schedule", {"name": "quadratic"}, "schedule"),
        ("schedule", {"name": ["linear"]}, "schedule"),
        ("schedule", {"name": "linear", "gamma_min": 5, "gamma_max": -5}, "gamma_min below gamma_max"),
        ("schedule", {"name": "linear", "gamma_min": -5}, "gamma_max"),
        ("schedule", {"name": "linear", "gamma_min": -5, "gamma_max": "5"}, "gamma_max = '5', which is not"),
        ("schedule", {"name": "ddpm", "kind": "linear", "beta_min": 1e-4, "beta_max": 0.02, "steps": 10**9}, "steps"),
        ("normalisation", {"percentile": 99.5}, "normalisation"),
        ("normalisation", {"percentile": 101, "value": 0.9}, "percentile = 101, which is outside 1 to 100"),
        ("normalisation", {"percentile": 99.5, "value": 0}, "value"),
        ("quality", [1], "quality"),
        ("limits", "none", "limits"),
        ("weights_sha256", "ab" * 31, "64 hexadecimal digits"),
        ("format", 2, "format = 2"),
    ],
)
def test_wrong_entries_are_refused_by_name(pack: Path, key: str, value: Any, message: str) -> None:
    edit(pack, **{key: value})
    error = refused(pack, message)
    assert key in error.message or key == "matrix"


def test_unknown_and_missing_entries_are_refused(pack: Path) -> None:
    edit(pack, colour="red")
    refused(pack, "unknown 'colour'")
    edit(pack, colour=None, licence=None)
    refused(pack, "no licence")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[]", "no object"),
        ("[" * 100_000, "cannot be read"),
        ('{"format": NaN}', "NaN"),
        ('{"format": 1, "format": 1}', "twice"),
        ('{"format": ' + "9" * 10_000 + "}", "cannot be read"),
        ('{"format": "' + "x" * 2_000_000 + '"}', "2000014 bytes"),
        ("\udcff", "cannot be read"),
    ],
)
def test_text_that_is_no_description_is_refused(pack: Path, text: str, message: str) -> None:
    (pack / "pack.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(pack, message)


def test_infinite_numbers_are_refused(pack: Path) -> None:
    text = (pack / "pack.json").read_text()
    (pack / "pack.json").write_text(text.replace("31.5", "1e999"))
    refused(pack, "quality = .* not finite")
    (pack / "pack.json").write_text(text.replace("-13.3", "-1e999"))
    refused(pack, "schedule = .* not a finite number")


def test_network_that_monai_cannot_build_is_refused(pack: Path) -> None:
    edit(pack, network={**NETWORK, "norm_groups": 3})
    refused(pack, "cannot be built")


def test_description_knows_every_setting_of_networks_and_schedules() -> None:
    def arguments(network: type, *but: str) -> set[str]:
        return set(inspect.signature(network.__init__).parameters) - {"self", "gamma_min", "gamma_max", *but}  # type: ignore[misc]

    assert set(_VDM_UNET) == arguments(VDMUNet)
    assert set(_CMRDIFF) == arguments(CMRDiff, "sequences")
    assert set(_CMRDIFF["autoencoder"]) == arguments(Autoencoder)
    assert set(_CMRDIFF["features"]) == arguments(PatchEncoder, "sequences")
    assert set(_CMRDIFF["denoiser"]) == arguments(ConditionalUNet, "sequences", "latent_channels", "feature_channels")
    assert set(_CMRDIFF["regression"]) == set(TranslationUNet().settings) - {"sequences"}
    assert set(_SCHEDULES) == set(SCHEDULES)
    for name, cls in SCHEDULES.items():
        assert {"name", *_SCHEDULES[name]} == set(cls().to_dict())
        assert schedule_from_dict(cls().to_dict()).name == name


# The files


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "weights.safetensors"])
def test_missing_and_empty_files_are_refused(pack: Path, name: str) -> None:
    (pack / name).write_bytes(b"")
    refused(pack, f"{name} has 0 bytes", verify_files)
    (pack / name).unlink()
    refused(pack, f"{name} is missing", verify_files)
    (pack / name).mkdir()
    refused(pack, f"{name} is no plain file", verify_files)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "weights.safetensors"])
def test_links_out_of_the_pack_are_refused(pack: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (pack / name).rename(outside)
    (pack / name).symlink_to(outside)
    refused(pack, "outside the pack", verify_files)
    if name == "weights.safetensors":
        refused(pack, "outside the pack", load_network)


def test_pack_reached_through_a_link_is_fine(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "shortcut").symlink_to(pack)
    verify_pack(find_pack(tmp_path / "shortcut"))


def test_changed_weights_are_refused(pack: Path) -> None:
    path = pack / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    for check in (verify_files, verify_pack, load_network):
        refused(pack, "checksum", check)


def test_hash_is_taken_again_when_the_file_changes(pack: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack / "weights.safetensors"
    first = verify.file_sha256(path)
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("hashed again although nothing changed"))
    assert verify.file_sha256(path) == first
    monkeypatch.undo()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns + 1))
    assert verify.file_sha256(path) == hashlib.sha256(data).hexdigest() != first


def test_weights_larger_than_any_pack_are_refused(pack: Path) -> None:
    with (pack / "weights.safetensors").open("wb") as stream:
        stream.truncate(verify.LARGEST_WEIGHTS + 1)  # sparse: takes no room
    refused(pack, "512000001 bytes", verify_files)


def test_pickles_are_refused_and_never_run(pack: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    for protocol in (2, 3, 4, 5):
        put_weights(pack, pickle.dumps({"unet": Trap()}, protocol=protocol))
        refused(pack, "pickle", load_network)
    torch.save({"unet": Trap()}, tmp_path / "trap.pt")
    put_weights(pack, (tmp_path / "trap.pt").read_bytes())
    refused(pack, "zip archive", load_network)
    put_weights(pack, pickle.dumps({"unet": Trap()}, protocol=0))
    refused(pack, "no safetensors file", load_network)
    assert not (tmp_path / "ran").exists()


def with_header(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"abc", "only 3 bytes"),
        (with_header({}, length=2**63), "no safetensors file"),
        (with_header({}, length=3000), "no safetensors file"),
        (with_header(b"{not json}"), "no JSON"),
        (with_header(b"\xff\xfe{}"), "no JSON"),
        (with_header(b"[" * 50_000), "no JSON"),
        (with_header([1, 2]), "no JSON object"),
        (with_header({"unet.x": 3}), "is not described"),
        (with_header({"unet.x": tensor([1], 0, 4, "I64")}, bytes(4)), "'I64'"),
        (with_header({"unet.x": tensor([2], 0, 4)}, bytes(4)), "does not fit offsets"),
        (with_header({"unet.x": tensor([-1], 0, 4)}, bytes(4)), "no whole numbers"),
        (with_header({"unet.x": tensor([1], 0, 4.0)}, bytes(4)), "no whole numbers"),  # type: ignore[arg-type]
        (with_header({"unet.x": tensor([1], 0, 4)}, bytes(2)), "the tensors take 4 bytes, the file holds 2"),
        (with_header({"unet.x": tensor([1], 0, 4)}, bytes(9)), "the tensors take 4 bytes, the file holds 9"),
        (with_header({"a": tensor([1], 0, 4), "b": tensor([1], 2, 6)}, bytes(6)), "begin at 2, not at 4"),
        (with_header({"a": tensor([1], 0, 4), "b": tensor([1], 6, 10)}, bytes(10)), "begin at 6, not at 4"),
    ],
)
def test_headers_that_lie_are_refused(pack: Path, data: bytes, message: str) -> None:
    put_weights(pack, data)
    refused(pack, message, verify_files)
    refused(pack, message, load_network)


def test_tensors_of_another_network_are_refused(pack: Path) -> None:
    state = random_network()
    name = "unet.conv_in.conv.weight"
    rest = {n: v for n, v in state.items() if n != name}
    cases = {
        f"no tensor '{name}'": rest,
        "an unknown tensor 'evil'": {**state, "evil": torch.zeros(1)},
        r"shape \(1, 2\), not \(8": {**state, name: torch.zeros(1, 2)},
        "no tensor 'schedule.l1'": state,
        f"{name} holds NaN or infinite": {**rest, name: torch.full_like(state[name], float("inf"))},
    }
    for message, tensors in cases.items():
        put_weights(pack, safetensors.torch.save(tensors))
        if "schedule" in message:
            edit(pack, schedule={"name": "learned", "gamma_min": -13.3, "gamma_max": 5.0, "width": 8})
        else:
            edit(pack, schedule={"name": "linear", "gamma_min": -13.3, "gamma_max": 5.0})
        refused(pack, message, verify_pack)
        refused(pack, message, load_network)


# Finding


def test_packs_are_found_by_name_and_by_folder(pack: Path, users_packs: Path) -> None:
    assert find_pack(pack).name == find_pack(str(pack)).name == "tiny"
    with pytest.raises(PackError, match="'tiny' is unknown"):
        find_pack("tiny")
    pack.rename(users_packs / "tiny")
    assert find_pack("tiny").folder == users_packs / "tiny"
    assert "tiny" in [info.name for info in list_packs()]


def test_a_broken_pack_does_not_hide_the_others(pack: Path, users_packs: Path) -> None:
    pack.rename(users_packs / "tiny")
    for name in ("broken", "other"):
        (users_packs / name).mkdir()
    (users_packs / "broken" / "pack.json").write_text("{}")
    packs, errors = scan_packs()
    assert "tiny" in [info.name for info in packs]
    assert len(errors) == 1 and "broken" in errors[0].message
    with pytest.raises(PackError, match="format"):
        find_pack("broken")


def test_two_packs_of_one_name_are_told(pack: Path, users_packs: Path) -> None:
    pack.rename(users_packs / "tiny")
    write_pack(users_packs / "zz-copy", description(), random_network(), "# Tiny\n", "CC0\n")
    packs, errors = scan_packs()
    assert [info.folder.name for info in packs if info.name == "tiny"] == ["tiny"]
    assert "the name tiny belongs to" in errors[0].message


def test_archives_and_other_folders_are_no_packs(tmp_path: Path, users_packs: Path) -> None:
    (tmp_path / "pack.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(PackError, match=r"pack\.zip is a file, not a pack") as caught:
        find_pack(tmp_path / "pack.zip")
    assert "unpack" in caught.value.hint
    with pytest.raises(PackError, match="does not exist"):
        find_pack(tmp_path / "none")
    with pytest.raises(PackError, match=r"no pack\.json"):
        find_pack(users_packs)


def test_users_folder_may_be_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MRDIFFUSION_PACKS", str(tmp_path / "none"))
    scan_packs()
    with pytest.raises(PackError, match="'nothing' is unknown"):
        find_pack("nothing")


def test_shipped_packs_are_whole() -> None:
    for info in list_packs():
        verify_pack(info)
        assert info.folder.name == info.name


def test_describing_packs_loads_no_torch(pack: Path) -> None:
    program = (
        "import sys; from MRDiffusionLib.packs import find_pack, verify_files; "
        f"verify_files(find_pack({str(pack)!r})); "
        "print([name for name in ('torch', 'monai', 'SimpleITK') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"roles": ["T1", "T1", "T2"]}, "two or more different"),
        ({"roles": ["noise", "T1", "T2"]}, "what a sampling starts from"),
        ({"roles": ["../T1", "T1", "T2"]}, "letters, digits"),
        ({"matrix": [64, 64]}, "features are of a matrix"),
        ({"matrix": [40, 32]}, "multiple|features are of a matrix"),
    ],
    ids=str,
)
def test_a_synthesis_pack_whose_entries_do_not_go_together_is_refused(
    tiny_synthesis_pack: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(tiny_synthesis_pack, folder)
    values = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps({**values, **changes}))
    with pytest.raises(PackError, match=words):
        read_info(folder)
