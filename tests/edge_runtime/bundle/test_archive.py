"""A bundle is sound from end to end, or it is refused before a model is parsed."""

import io
import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices import BadInput
from edge_runtime.bundle.archive import (
    MANIFEST,
    SIGNATURE,
    Bundle,
    list_members,
    open_bundle,
    write_bundle,
)
from edge_runtime.bundle.golden import GOLDEN, read_golden
from edge_runtime.bundle.manifest import read_manifest
from edge_runtime.bundle.signing import read_signing_key
from tests.conftest import refused, sonolite

Members = dict[str, bytes]


@pytest.fixture
def members(demo_path: Path) -> Members:
    """Of the shipped bundle, without its signature: what is changed here is not about trust."""
    with zipfile.ZipFile(demo_path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != SIGNATURE}


def pack(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    """Lays members into an archive as a bundle's writer does."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(entry(name), content, compress_type=compression)
    return path


def entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o100644 << 16
    return info


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as refused_with:
        open_bundle(path)
    assert "\n" not in str(refused_with.value)
    return str(refused_with.value)


def test_the_shipped_bundle_is_sound_and_small(shipped_path: Path) -> None:
    shipped = open_bundle(shipped_path)
    assert [set(stage.variants) for stage in shipped.manifest.stages] == [{"int8"}, {"int8"}]
    assert shipped.manifest.locator is not None
    assert shipped_path.stat().st_size < 12_000_000
    assert shipped.id.startswith("demo 4 ")


def test_the_shipped_card_says_what_it_must(demo_bundle: Bundle) -> None:
    card = demo_bundle.read("card.md").decode()
    for words in ("Research use only", "EfficientNet-Lite0", "tn5000", "3993 images", "AUROC"):
        assert words in card


def test_the_same_contents_give_the_same_bytes(
    tmp_path: Path, demo_bundle: Bundle, members: Members
) -> None:
    contents = {name: its for name, its in members.items() if name != MANIFEST}
    paths = [tmp_path / "a.sonolite", tmp_path / "b.sonolite"]
    for path in paths:
        write_bundle(path, demo_bundle.manifest, contents, None)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_bundle_that_would_not_open_is_not_written(
    tmp_path: Path, demo_bundle: Bundle, members: Members
) -> None:
    with pytest.raises(BadInput):
        write_bundle(tmp_path / "a.sonolite", demo_bundle.manifest, {"card.md": b"other"}, None)
    assert list(tmp_path.iterdir()) == []


def test_a_changed_byte_in_each_member_is_noticed(tmp_path: Path, members: Members) -> None:
    for name in members:
        content = bytearray(members[name])
        content[len(content) // 2] ^= 0x10
        path = pack(tmp_path / "a.sonolite", {**members, name: bytes(content)})
        assert str(path) in refusal(path)


def test_a_missing_member_is_named(tmp_path: Path, members: Members) -> None:
    for name in members:
        rest = {other: its for other, its in members.items() if other != name}
        assert name in refusal(pack(tmp_path / "a.sonolite", rest))


def test_an_extra_member_is_named(tmp_path: Path, members: Members) -> None:
    path = pack(tmp_path / "a.sonolite", {**members, "extra.txt": b"x"})
    assert "extra.txt is not in the manifest" in refusal(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_member_is_refused(tmp_path: Path, members: Members) -> None:
    path = pack(tmp_path / "a.sonolite", members)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(entry("int8.tflite"), members["int8.tflite"])
    assert "int8.tflite stands twice" in refusal(path)


def test_deflated_members_are_refused(tmp_path: Path, members: Members) -> None:
    path = pack(tmp_path / "a.sonolite", members, compression=zipfile.ZIP_DEFLATED)
    assert "bundles store" in refusal(path)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x.txt", "a/b.txt", "..", "A.TFLITE", "x\0.txt", "c:x.txt", "x" * 300]
)
def test_names_that_are_paths_are_refused(tmp_path: Path, members: Members, name: str) -> None:
    assert "refused" in refusal(pack(tmp_path / "a.sonolite", {**members, name: b"x"}))


def test_a_symbolic_link_is_refused(tmp_path: Path, members: Members) -> None:
    path = pack(tmp_path / "a.sonolite", members)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("link.txt")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "directory is not that of a bundle" in refusal(path)


def test_an_entry_that_points_outside_the_archive_is_refused(
    tmp_path: Path, members: Members
) -> None:
    path = pack(tmp_path / "a.sonolite", members)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<I", content, entry + 42, len(content) * 2)
    path.write_bytes(content)
    refusal(path)


def test_a_size_larger_than_the_file_is_refused(tmp_path: Path, members: Members) -> None:
    path = pack(tmp_path / "a.sonolite", members)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    struct.pack_into("<II", content, entry + 20, 1 << 30, 1 << 30)
    path.write_bytes(content)
    assert "does not lie where it should" in refusal(path)


def test_bytes_that_belong_to_no_member_are_refused(tmp_path: Path, demo_path: Path) -> None:
    path, content = tmp_path / "a.sonolite", demo_path.read_bytes()
    path.write_bytes(b"#!/bin/sh\n" + content)
    assert "directory is not that of a bundle" in refusal(path)
    path.write_bytes(content[:-2] + b"\x04\x00note")
    assert "directory is not that of a bundle" in refusal(path)
    path.write_bytes(content + b"trailing")
    refusal(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.sonolite"
    path.write_bytes(content)
    refusal(path)


def test_a_bundle_that_is_not_there_or_a_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.sonolite")
    assert "not a file" in refusal(tmp_path)
    assert "not a file" in refusal(Path("/dev/zero"))


def edit(members: Members, change: Callable[[dict[str, object]], None]) -> Members:
    manifest = json.loads(members[MANIFEST])
    change(manifest)
    return {**members, MANIFEST: json.dumps(manifest).encode()}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), 1),
        (("schema",), 3),
        (("stages", 0, "kind"), "detector"),
        (("version",), 0),
        (("version",), "1"),
        (("extra",), 1),
        (("name",), "../x"),
        (("stages",), []),
        (("stages", 0, "labels"), ["a", "a"]),
        (("stages", 0, "preprocessing"), "eval(1)"),
        (("stages", 0, "operating_point", "thresholds"), {"malignant": 2.0}),
        (("stages", 0, "operating_point", "thresholds"), {"benign": 0.5}),
        (("stages", 0, "decision", "margin"), -1.0),
        (("stages", 0, "variants", "int8"), "../x"),
        (("stages", 0, "variants", "int16"), "int8.tflite"),
        (("members", "int8.tflite", "sha256"), "00"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(
    tmp_path: Path, members: Members, path: tuple[str | int, ...], value: object
) -> None:
    def change(manifest: dict[str, object]) -> None:
        place: object = manifest
        for part in path[:-1]:
            place = place[part]  # type: ignore[index]
        place[path[-1]] = value  # type: ignore[index]

    assert "manifest.json" in refusal(pack(tmp_path / "a.sonolite", edit(members, change)))


def test_a_member_that_changes_after_opening_is_noticed(tmp_path: Path, members: Members) -> None:
    bundle = open_bundle(pack(tmp_path / "a.sonolite", members))
    pack(bundle.path, {**members, "int8.tflite": members["int8.tflite"][::-1]})
    with pytest.raises(BadInput, match=r"int8.tflite is not what"):
        bundle.read("int8.tflite")


def golden_of(tmp_path: Path, demo_bundle: Bundle, members: Members, **arrays: object) -> Path:
    """A bundle, sound by its hashes, whose golden frames are `arrays`."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    contents = {name: its for name, its in members.items() if name != MANIFEST}
    contents[GOLDEN] = packed.getvalue()
    text = json.loads(members[MANIFEST])
    text["members"] = {
        name: {"size": its.size, "sha256": its.sha256}
        for name, its in list_members(contents).items()
    }
    path = tmp_path / "golden.sonolite"
    manifest = read_manifest(json.dumps(text).encode())
    write_bundle(path, manifest, contents, read_signing_key(None))
    return path


@pytest.mark.parametrize(
    "arrays",
    [
        {"frames": np.zeros((1, 8, 8, 3), np.uint8)},
        {
            "frames": np.array([object()]),
            "box": np.zeros(4, np.int64),
            "probability": np.zeros((1, 2), np.float32),
        },
        {
            "frames": np.zeros((1, 8, 8, 3), np.uint8),
            "box": np.zeros(3, np.int64),
            "probability": np.zeros((1, 2), np.float32),
        },
        {
            "frames": np.zeros((70, 1000, 1000, 1), np.uint8),
            "box": np.zeros(4, np.int64),
            "probability": np.zeros((70, 2), np.float32),
        },
        {
            "frames": np.zeros((200_000, 1, 1, 3), np.uint8),
            "box": np.array([0, 0, 1, 1]),
            "probability": np.zeros((200_000, 2), np.float32),
        },
        {
            "frames": np.zeros((1, 1, 40_000, 3), np.uint8),
            "box": np.array([0, 0, 40_000, 1]),
            "probability": np.zeros((1, 2), np.float32),
        },
        {
            "frames": np.zeros((1, 8, 8, 3), np.uint8),
            "box": np.array([1 << 62, 0, 1 << 62, 1]),
            "probability": np.zeros((1, 2), np.float32),
        },
    ],
    ids=["missing", "pickled", "box", "bomb", "many", "wide", "overflow"],
)
def test_golden_frames_that_are_none_are_refused(
    tmp_path: Path, demo_bundle: Bundle, members: Members, arrays: dict[str, object]
) -> None:
    bundle = open_bundle(golden_of(tmp_path, demo_bundle, members, **arrays))
    with pytest.raises(BadInput, match=r"golden.npz"):
        read_golden(bundle)


def test_a_backend_that_answers_otherwise_does_not_go_live(
    tmp_path: Path, demo_bundle: Bundle, members: Members
) -> None:
    golden = read_golden(demo_bundle)
    path = golden_of(
        tmp_path,
        demo_bundle,
        members,
        frames=np.stack(golden.frames),
        box=np.array(golden.box),
        probability=golden.probability[:, ::-1].copy(),
    )
    refused(sonolite("run", path, "--source", "phantom:?frames=1"), "golden frames differently")


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_flipped_bits_are_ever_believed(
    tmp_path: Path, demo_path: Path, data: st.DataObject
) -> None:
    content = bytearray(demo_path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "a.sonolite"
    path.write_bytes(content)
    if bytes(content) != demo_path.read_bytes():  # two flips may undo each other
        refusal(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 0.9999))
def test_no_truncated_bundle_is_ever_believed(tmp_path: Path, demo_path: Path, cut: float) -> None:
    content = demo_path.read_bytes()
    path = tmp_path / "a.sonolite"
    path.write_bytes(content[: int(cut * len(content))])
    refusal(path)


def test_every_byte_around_the_members_counts(tmp_path: Path, demo_path: Path) -> None:
    content = demo_path.read_bytes()
    path = tmp_path / "a.sonolite"
    headers = content.index(b'{\n  "schema"')
    for place in [*range(headers), *range(len(content) - 500, len(content))]:
        changed = bytearray(content)
        changed[place] ^= 0x01
        path.write_bytes(changed)
        refusal(path)


def test_the_command_says_it_in_one_line(tmp_path: Path, members: Members) -> None:
    path = tmp_path / "a.sonolite"
    shutil.copy(pack(tmp_path / "b.sonolite", {**members, "../../x": b""}), path)
    for arguments in (("inspect", path), ("run", path, "--source", "phantom:?frames=1")):
        refused(sonolite(*arguments), "'../../x' is refused")
