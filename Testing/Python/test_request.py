"""A request and its settings: checked on the way in, equal after JSON, explained in words."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from MRDiffusionLib.errors import SettingError
from MRDiffusionLib.request import Request, request_from_provenance
from MRDiffusionLib.settings import (
    ROLES,
    TASKS,
    SuperResolutionSettings,
    help_text,
    info_of,
    kind_of,
    range_text,
    settings_from,
    settings_to,
)

INPUTS = {"low_resolution": "low.nrrd"}
COMPLETE = {
    "task": "superresolution",
    "pack": "brain-t1-128",
    "inputs": INPUTS,
    "settings": {"matrix": [96, 80], "weight": 0.25, "method": "replacement", "noise": 3.5, "steps": 7},
    "seed": 2**63 - 1,
    "device": "cuda:1",
    "precision": "bf16",
    "batch": 3,
    "slices": [0, 4, 5],
}


def changed(**values: object) -> dict[str, object]:
    return {**COMPLETE, **values}


def test_a_request_survives_json() -> None:
    request = Request.from_json(COMPLETE)
    again = Request.from_json(json.loads(json.dumps(request.to_json())))
    assert again == request
    assert again.settings.matrix == (96, 80) and again.slices == (0, 4, 5) and again.seed == 2**63 - 1
    minimal = Request("superresolution", "brain-t1-128", INPUTS)
    assert Request.from_json(minimal.to_json()) == minimal


def test_missing_entries_take_the_documented_defaults() -> None:
    request = Request.from_json({"task": "superresolution", "pack": "p", "inputs": INPUTS})
    assert request.settings == SuperResolutionSettings()
    assert (request.seed, request.device, request.precision, request.batch, request.slices) == (
        0, "auto", "auto", 0, None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("task", "segmentation"), ("task", ["superresolution"]), ("task", None),
        ("pack", ""), ("pack", 3), ("pack", None),
        ("inputs", {}), ("inputs", {"low": "a"}), ("inputs", {**INPUTS, "mask": "m"}), ("inputs", "low.nrrd"),
        ("inputs", {"low_resolution": None}), ("inputs", {"low_resolution": ""}), ("inputs", None),
        ("settings", []), ("settings", None), ("settings", "weight"),
        ("seed", -1), ("seed", 2**63), ("seed", 1.0), ("seed", True), ("seed", "1"), ("seed", None),
        ("device", "gpu"), ("device", "cuda:"), ("device", "cuda:x"), ("device", "cuda:²"), ("device", 0),
        ("device", None), ("precision", "fp16"), ("precision", None), ("precision", ["fp32"]),
        ("batch", -1), ("batch", 1025), ("batch", 1.5), ("batch", True), ("batch", "4"),
        ("slices", []), ("slices", [-1]), ("slices", [2, 1]), ("slices", [1, 1]), ("slices", [0.5]),
        ("slices", [True]), ("slices", "12"), ("slices", ["1"]), ("slices", 3), ("slices", {"1": 2}),
    ],
)  # fmt: skip
def test_a_bad_entry_is_refused_by_name(entry: str, value: object) -> None:
    with pytest.raises(SettingError) as caught:
        Request.from_json(changed(**{entry: value}))
    assert entry.rstrip("s") in caught.value.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weight", 1.01), ("weight", -1e-9), ("weight", math.nan), ("weight", math.inf), ("weight", "1"),
        ("weight", True), ("weight", None), ("weight", [1]), ("weight", 10**400),
        ("steps", 0), ("steps", 1001), ("steps", 2.5), ("steps", math.inf), ("steps", math.nan), ("steps", "ten"),
        ("samples", 0), ("samples", 65), ("eta", -0.1), ("eta", 2), ("strength", 0), ("strength", 1.5),
        ("noise", -1), ("noise", math.inf), ("noise", 10**400), ("noise", "auto"),
        ("matrix", [128]), ("matrix", [128, 128, 1]), ("matrix", 128), ("matrix", [7, 128]), ("matrix", [128, 2000]),
        ("matrix", [128.5, 128]), ("matrix", ["128", 128]), ("matrix", None),
        ("method", "magic"), ("method", None), ("method", ["projection"]), ("sampler", "euler"), ("sampler", 1),
    ],
)  # fmt: skip
def test_a_bad_setting_is_refused_with_name_and_value(name: str, value: object) -> None:
    for build in (
        lambda: settings_from("superresolution", {name: value}),
        lambda: Request.from_json(changed(settings={name: value})),
        lambda: Request("superresolution", "p", INPUTS, SuperResolutionSettings(**{name: value})),
    ):
        with pytest.raises(SettingError) as caught:
            build()
        assert name in caught.value.message
        assert len(str(caught.value)) < 300
        assert caught.value.hint


def test_an_unknown_setting_names_the_known_ones() -> None:
    with pytest.raises(SettingError, match=r"lambda.*unknown.*weight"):
        settings_from("superresolution", {"lambda": 1})
    with pytest.raises(SettingError, match="unknown 'colour'"):
        Request.from_json(changed(colour="red"))
    with pytest.raises(SettingError, match="no pack"):
        Request.from_json({"task": "superresolution", "inputs": INPUTS})
    with pytest.raises(SettingError, match="JSON object"):
        Request.from_json([1])  # type: ignore[arg-type]


def test_limits_themselves_are_allowed() -> None:
    for f in fields(SuperResolutionSettings):
        info = info_of(SuperResolutionSettings, f.name)
        for limit in (info.minimum, info.maximum):
            if limit is not None:
                value = [limit, limit] if isinstance(f.default, tuple) else limit
                settings = settings_from("superresolution", {f.name: value})
                assert settings_to(settings)[f.name] == value


def test_numbers_get_the_settings_own_type() -> None:
    settings = settings_from(
        "superresolution",
        {"weight": 1, "steps": 20.0, "matrix": (64.0, np.int64(32)), "noise": np.float32(0.5), "eta": np.float64(0)},
    )
    assert [type(v) for v in (settings.weight, settings.steps, *settings.matrix, settings.noise, settings.eta)] == [
        float, int, int, int, float, float,
    ]  # fmt: skip
    json.dumps(settings_to(settings))


def test_every_setting_explains_itself() -> None:
    for task, settings_type in TASKS.items():
        assert task in ROLES
        for f in fields(settings_type):
            info, text = info_of(settings_type, f.name), help_text(settings_type, f.name)
            assert info.label and info.tip.endswith(".")
            assert info.tip in text and "default" in text
            assert all(choice in text for choice, _ in info.choices)
            if info.unit:
                assert info.unit in text
            if info.choices:
                assert f.default in [choice for choice, _ in info.choices]


def test_ranges_and_kinds_in_words() -> None:
    def words(name: str) -> str:
        return range_text(info_of(SuperResolutionSettings, name), kind_of(SuperResolutionSettings, name))

    assert words("weight") == "0 to 1"
    assert words("steps") == "whole number, 1 to 1000"
    assert words("matrix") == "8 to 1024 pixels"
    assert words("noise") == "0 or more intensity"
    assert words("method") == ""
    kinds = {f.name: kind_of(SuperResolutionSettings, f.name) for f in fields(SuperResolutionSettings)}
    assert (kinds["method"], kinds["steps"], kinds["weight"], kinds["matrix"], kinds["noise"]) == (
        str, int, float, tuple, float,
    )  # fmt: skip


def test_a_provenance_gives_its_request_back() -> None:
    request = Request.from_json(COMPLETE)
    assert request_from_provenance(json.dumps({"request": request.to_json(), "synthetic": True})) == request


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", '{"pack": 1}', '{"request": null}', '{"request": {"task": "superresolution"}}',
     '{"request": ' + "9" * 5000 + "}", "[" * 100_000],
)  # fmt: skip
def test_a_bad_provenance_is_refused(text: str) -> None:
    with pytest.raises(SettingError):
        request_from_provenance(text)


def test_requests_load_no_heavy_library() -> None:
    code = (
        "import sys, MRDiffusionLib.request, MRDiffusionLib.settings, MRDiffusionLib.errors;"
        "print([m for m in ('torch', 'monai', 'numpy', 'SimpleITK') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
