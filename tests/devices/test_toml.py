"""A TOML file is read whole, or refused by its first wrong entry."""

from dataclasses import dataclass

import pytest
from pydantic import ConfigDict

from devices import BadInput
from devices.toml import read_toml


@dataclass(frozen=True)
class Probe:
    """Something to read."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    name: str
    elements: tuple[int, ...]


def test_a_file_becomes_the_dataclass() -> None:
    assert read_toml(b'name = "linear"\nelements = [128, 192]', Probe, "p") == Probe(
        "linear", (128, 192)
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'name = "linear"', "p.toml: elements: Field required"),
        (b"name = 3\nelements = []", "p.toml: name: "),
        (b'name = "l"\nelements = ["many"]', "p.toml: elements.0: "),
        (b'name = "l"\nelements = []\ncolour = 1', "p.toml: colour: "),
        (b"name = ", "p.toml: Invalid value"),
        (b"\xff", "p.toml: 'utf-8' codec"),
    ],
)
def test_the_first_wrong_entry_is_named_in_one_line(content: bytes, said: str) -> None:
    with pytest.raises(BadInput) as refusal:
        read_toml(content, Probe, "p.toml")
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)
