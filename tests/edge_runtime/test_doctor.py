"""What a machine can do is tried, not asked."""

import json
from pathlib import Path

import pytest

from edge_runtime import doctor
from tests.conftest import refused, sonolite


def test_each_variant_is_tried_and_timed(bundle_path: Path) -> None:
    done = sonolite("doctor", bundle_path, "--json")
    assert done.code == 0, done
    found = {its["name"]: its for its in json.loads(done.stdout)}
    for variant in ("float32", "float16", "dynamic", "int8"):
        assert found[f"cpu {variant}"]["there"]
        assert "ms a picture" in found[f"cpu {variant}"]["says"]
    assert {"gpu float32", "gpu float16", "edgetpu"} <= set(found)
    assert "gpu int8" not in found


def test_without_a_bundle_the_shipped_one_is_tried() -> None:
    done = sonolite("doctor")
    assert done.code == 0, done
    assert "network streams" in done.stdout
    assert "cpu int8" in done.stdout


def test_what_is_missing_is_said_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(doctor.LIBRARIES, "DICOM files", ("no-such-library", "pip install it"))
    cameras, _, dicom, _ = doctor._captures(tmp_path)
    assert not cameras.there
    assert "is a grabber plugged in?" in cameras.says
    assert (dicom.there, dicom.says) == (False, "pip install it")


def test_a_camera_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "video0").write_text("no camera")
    camera, *_ = doctor._captures(tmp_path)
    assert (camera.name, camera.there) == (str(tmp_path / "video0"), False)


def test_a_bundle_that_is_not_trusted_is_not_tried(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONOLITE_TRUST", str(tmp_path))
    refused(sonolite("doctor", bundle_path), "not trusted here")
