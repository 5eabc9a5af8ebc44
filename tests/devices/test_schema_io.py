"""A record is read whole, or refused by its first wrong entry; what was written is read back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput
from devices.boards import Board
from devices.schema_io import read_json, read_toml, write_json
from edge_runtime.bench.measure import Bench
from edge_runtime.bundle.gate import Gate
from edge_runtime.bundle.manifest import Manifest
from edge_runtime.deploy.fleet import _Fleet
from edge_runtime.deploy.plan import DeviceFacts
from edge_runtime.screen.saved_regions import _File as _Sectors
from train.cross_validation import CrossValidation
from train.run import Record


class Place(NamedTuple):
    """Written as a list."""

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Crystal:
    """A record within a record."""

    name: Annotated[str, msgspec.Meta(pattern=r"\A[a-z]+\Z")]
    gain: float = 0.0

    def __post_init__(self) -> None:
        if self.name == "broken":
            raise ValueError("it is broken")


@dataclass(frozen=True, slots=True)
class Probe:
    """Something to read."""

    name: str
    elements: tuple[int, ...]
    crystals: dict[Literal["near", "far"], Crystal] = field(default_factory=dict)
    place: Place | None = None


def test_a_toml_file_becomes_the_dataclass() -> None:
    assert read_toml(b'name = "linear"\nelements = [128, 192]', Probe, "p") == Probe(
        "linear", (128, 192)
    )


def test_what_was_written_is_read_back() -> None:
    probe = Probe("l\u00e9", (1, 2), {"near": Crystal("a", 1e-7)}, Place(3, 4))
    written = write_json(probe)
    assert "l\u00e9".encode() in written
    assert read_json(written, Probe, "p") == probe


def test_a_default_is_written_too() -> None:
    probe = read_json('{"name": "l", "elements": []}', Probe, "p")
    assert json.loads(write_json(probe)) == {
        "name": "l",
        "elements": [],
        "crystals": {},
        "place": None,
    }


@pytest.mark.parametrize(
    "kind", [Manifest, Gate, Bench, Board, DeviceFacts, Record, CrossValidation, _Fleet, _Sectors]
)
def test_every_dataclass_of_a_record_has_slots(kind: type) -> None:
    seen, waiting = set(), [kind]
    while waiting:
        its = waiting.pop()
        waiting += get_args(its)
        if isinstance(its, type) and is_dataclass(its) and its not in seen:
            seen.add(its)
            waiting += get_type_hints(its, include_extras=True).values()
    assert seen
    assert all("__slots__" in vars(its) for its in seen)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'name = "linear"', "p.toml: elements: is missing"),
        (b"name = 3\nelements = []", "p.toml: name: "),
        (b'name = "l"\nelements = ["many"]', "p.toml: elements[0]: "),
        (b'name = "l"\nelements = [1.5]', "p.toml: elements[0]: "),
        (b'name = "l"\nelements = [true]', "p.toml: elements[0]: "),
        (b'name = "l"\nelements = []\ncolour = 1', "p.toml: colour: there is no such entry"),
        (b'name = "l"\nelements = []\n[crystals.mid]\nname = "a"', "p.toml: crystals: "),
        (b'name = "l"\nelements = []\n[crystals.far]\n', "p.toml: crystals.far.name: is missing"),
        (
            b'name = "l"\nelements = []\n[crystals.far]\nname = "a"\nage = 3',
            "p.toml: crystals.far.age: there is no such entry",
        ),
        (
            b'name = "l"\nelements = []\n[crystals.far]\nname = "broken"',
            "p.toml: crystals.far: it",
        ),
        (b'name = "l"\nelements = []\n[crystals.far]\nname = "a\\n"', "p.toml: crystals.far.name"),
        (
            b'name = "l"\nelements = []\ncrystals = { near = {name = "a"}, far = {name = "0"} }',
            "p.toml: crystals.far.name: ",
        ),
        (
            b'name = "l"\nelements = []\n[crystals.far]\nname = "a"\ngain = ' + b"9" * 400,
            "p.toml: crystals.far.gain: ",
        ),
        (b'name = "l"\nelements = []\nplace = [1, 2, 3]', "p.toml: place: "),
        (b'name = "l"\nelements = []\nplace = [1]', "p.toml: place: "),
        (b'name = "l"\nelements = [2020-01-01]', "p.toml: elements[0]: "),
        (b"name = ", "p.toml: Invalid value"),
        (b"\xff", "p.toml: 'utf-8' codec"),
    ],
)
def test_the_first_wrong_entry_is_named_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read_toml(content, Probe, "p.toml")
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


def test_of_a_part_what_stands_beside_is_passed_over() -> None:
    beside = b'{"name": "l", "elements": [], "colour": 1}'
    assert read_json(beside, Probe, "p", whole=False) == Probe("l", ())
    with pytest.raises(BadInput, match="p: colour: there is no such entry"):
        read_json(beside, Probe, "p")


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    probe = Probe("l", (np.int64(3),), {"near": Crystal("a", np.float32(0.5))})  # type: ignore[arg-type]
    assert read_json(write_json(probe), Probe, "p") == Probe("l", (3,), {"near": Crystal("a", 0.5)})


@pytest.mark.parametrize(
    "content", ['"\ud800"', b"", b"{", b"\xff", b'{"name": "\xff"}', b"[" * 100_000]
)
def test_what_is_no_json_is_refused(content: bytes | str) -> None:
    with pytest.raises(BadInput, match=r"p: (not JSON: |nested too deep)"):
        read_json(content, Probe, "p")


@given(st.binary() | st.text().map(str.encode))
def test_whatever_bytes_there_are_nothing_else_is_raised(content: bytes) -> None:
    for read in (read_json, read_toml):
        with pytest.raises(BadInput):
            read(content, Probe, "p")


@dataclass(frozen=True, slots=True)
class Loose:
    """A record that takes any value, however deep."""

    a: Any


EXTREMES = [
    *(b"[" * depth + b"]" * depth for depth in (100, 400, 900, 100_000)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (100, 400, 900, 100_000)),
    b"[" * 100_000,
    *(b"9" * digits for digits in (401, 4000, 5000)),
]


@pytest.mark.parametrize("content", EXTREMES, ids=lambda text: f"{text[:6].decode()}{len(text)}")
@pytest.mark.parametrize("kind", [dict[str, int], dict[str, float], Probe, Loose])
def test_an_extreme_of_depth_or_digits_is_read_or_refused_in_one_line(
    content: bytes, kind: type
) -> None:
    """Neither ends the interpreter, nor takes its stack."""
    for read, text in (
        (read_json, b'{"a": ' + content + b"}"),
        (read_toml, b"a = " + content.replace(b'"a":', b"a =")),
    ):
        with refused_in_one_line():
            read(text, kind, "here")


@contextmanager
def refused_in_one_line() -> Iterator[None]:
    refusal = "here: "
    try:
        yield
    except BadInput as error:
        refusal = str(error)
    assert refusal.startswith("here: ")
    assert "\n" not in refusal


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000])
def test_too_deep_a_nesting_is_named(content: bytes) -> None:
    with pytest.raises(BadInput, match="here: nested too deep"):
        read_json(content, dict[str, int], "here")
    with pytest.raises(BadInput, match="here: nested too deep"):
        read_toml(b"a = " + content.replace(b'"a":', b"a ="), dict[str, int], "here")


@pytest.mark.parametrize("comment", [b"_" * 402, b"[" * 70, b"9" * 500])
def test_a_comment_may_hold_anything(comment: bytes) -> None:
    text = b"# " + comment + b'\nname = "l"\nelements = []'
    assert read_toml(text, Probe, "here") == Probe("l", ())


def test_brackets_and_digits_in_text_are_no_nesting() -> None:
    content = b'{"a": "' + b"[{" * 500 + b'", "b": "x' + b"9" * 500 + b'"}'
    assert set(read_json(content, dict[str, str], "here")) == {"a", "b"}
