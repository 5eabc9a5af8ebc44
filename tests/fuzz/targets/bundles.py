"""A bundle and its members."""

import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from nacl.signing import SigningKey

from devices import Box
from devices.compute.first_opening import try_in_process
from edge_runtime.bundle import preprocess
from edge_runtime.bundle.archive import (
    GATE,
    Bundle,
    list_members,
    open_bundle,
    open_trusted,
    write_bundle,
)
from edge_runtime.bundle.gate import read_gate, read_locator_gate, rows
from edge_runtime.bundle.golden import (
    GOLDEN,
    Golden,
    golden_tensors,
    read_arrays,
    read_golden,
    write_golden,
)
from edge_runtime.bundle.manifest import LOCATOR_GATE, read_manifest, write_manifest
from edge_runtime.bundle.scope import Scope, read_scope, write_scope
from edge_runtime.bundle.shipped import open_shipped
from tests.fuzz.target import target

STEPS = "gray|crop(context=1.6)|resize(16)"
KEY = SigningKey(bytes(range(32)))


@cache
def shipped() -> Bundle:
    with open_shipped() as bundle:
        return bundle


class Held(Bundle):
    """The shipped bundle with another member."""

    def read(self, member: str) -> bytes:
        return Path("member").read_bytes()


def holding(content: bytes) -> Bundle:
    """A bundle that passed every check of the archive, with `content` for a member."""
    Path("member").write_bytes(content)
    return Held(Path("x.sonolite"), shipped().manifest, shipped().digest, None)


def small_bundles() -> Sequence[bytes]:
    """A bundle with members of a few bytes, signed and not signed."""
    contents = {name: name.encode() for name in shipped().manifest.members}
    manifest = replace(shipped().manifest, members=list_members(contents))
    made = []
    for key in (KEY, None):
        write_bundle(Path("seed.sonolite"), manifest, contents, key)
        made.append(Path("seed.sonolite").read_bytes())
    return made


@target(small_bundles)
def bundle(content: bytes) -> object:
    path = Path("x.sonolite")
    path.write_bytes(content)
    opened = open_bundle(path)
    for member in opened.manifest.members:
        opened.read(member)
    return open_trusted(path, {bytes(KEY.verify_key): "own"})


@target(lambda: [write_manifest(shipped().manifest)])
def manifest(content: bytes) -> object:
    read = read_manifest(content)
    for stage in read.stages:
        preprocess.parse(stage.preprocessing)
    return read.classifier


@target(lambda: [shipped().read(GATE)])
def gate(content: bytes) -> object:
    return rows(read_gate(holding(content)).variants)


@target(lambda: [shipped().read(LOCATOR_GATE)])
def locator_gate(content: bytes) -> object:
    return rows(read_locator_gate(holding(content)).variants)


def small_scopes() -> Sequence[bytes]:
    mean, eye = np.arange(4, dtype=np.float32), np.eye(4, dtype=np.float32)
    made = Scope(mean, eye, 3.0, eye[:, :2], np.zeros(2, np.float32))
    packed = io.BytesIO()
    np.savez_compressed(packed, mean=mean, whitening=eye, limit=np.float32(2))
    return [write_scope(made), packed.getvalue()]


@target(small_scopes)
def scope(content: bytes) -> object:
    read = read_scope(content)
    return read.score(np.ones(len(read.mean), np.float32))


def small_golden() -> Sequence[bytes]:
    frame = np.arange(20 * 24 * 3, dtype=np.uint8).reshape(20, 24, 3)
    answers = np.full((2, 2), 0.5, np.float32)
    return [write_golden(Golden((frame, frame), Box(2, 2, 10, 10), answers))]


@target(small_golden)
def golden(content: bytes) -> object:
    read = read_golden(holding(content))
    with suppress(ValueError):  # a classifier refuses these
        return golden_tensors(read.frames, read.box, preprocess.parse(STEPS))
    return None


@target(small_golden)
def arrays(content: bytes) -> object:
    return read_arrays(holding(content), GOLDEN)


def models() -> Sequence[bytes]:
    """The smaller of the shipped models."""
    stage = shipped().manifest.classifier
    return [shipped().read(stage.variants["int8"])]


@target(models, inputs=0)
def model(content: bytes) -> None:
    tensors = np.zeros((1, 128, 128, 1), np.uint8)
    try_in_process("cpu", "", (), content, "int8.tflite", 1, tensors)
