"""Reads JSON and TOML as frozen dataclasses that refuse unknown entries, and writes JSON.

A field limits its values with `msgspec.Meta`. Limits on several fields together stand in
`__post_init__`, which raises ValueError. The dataclasses have slots: without slots, msgspec does
not write the fields that kept their default when they were read.
"""

import re
import tomllib
from copy import deepcopy
from typing import Any, TypeVar

import msgspec

from devices.errors import BadInput

Record = TypeVar("Record")
_PLACE = re.compile(r"(?P<problem>.*) - at (?:`key` in )?`\$\.?(?P<where>[^`]*)`", re.DOTALL)
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_TOO_DEEP = "nested too deep"
_MISSING = re.compile(r"Object missing required field `(?P<entry>[^`]*)`")


def read_json(content: bytes | str, kind: type[Record], name: str, whole: bool = True) -> Record:
    """Reads JSON as `kind`, a dataclass or a container of dataclasses.

    Raises BadInput, which begins with `name` and names the first wrong entry. An entry that `kind`
    does not have is wrong, too, unless `whole` is False.
    """
    text = content.encode(errors="surrogatepass") if isinstance(content, str) else content
    try:
        entries = msgspec.json.decode(text)
    except ValueError as error:  # not JSON, or not UTF-8
        raise BadInput(f"{name}: not JSON: {error}") from error
    except RecursionError:
        raise BadInput(f"{name}: {_TOO_DEEP}") from None
    return _convert(entries, kind, name, whole)


def read_toml(content: bytes, kind: type[Record], name: str) -> Record:
    """Reads the bytes of a TOML file as `kind`; see `read_json`."""
    try:
        entries = tomllib.loads(content.decode())
    except ValueError as error:  # not UTF-8, or not TOML
        raise BadInput(f"{name}: {error}") from error
    except RecursionError:
        raise BadInput(f"{name}: {_TOO_DEEP}") from None
    return _convert(entries, kind, name, whole=True)


def write_json(record: object, indent: int = 2) -> bytes:
    """The bytes of a dataclass as JSON: UTF-8, indented, the same for the same record."""
    return msgspec.json.format(msgspec.json.encode(plain(record)), indent=indent) + b"\n"


def plain(record: object) -> Any:
    """A dataclass as the types of JSON: dictionaries, lists, strings and numbers."""
    return msgspec.to_builtins(record, enc_hook=lambda number: number.item())  # NumPy's


def _convert(entries: object, kind: type[Record], name: str, whole: bool) -> Record:
    try:
        try:
            record = msgspec.convert(entries, kind)
        except msgspec.ValidationError as error:
            raise BadInput(f"{name}: {_explain(error, entries, kind)}") from error
        if whole and (unknown := _unknown(entries, msgspec.to_builtins(record))):
            raise BadInput(f"{name}: {unknown}: there is no such entry")
    except RecursionError:
        raise BadInput(f"{name}: {_TOO_DEEP}") from None
    return record


def _explain(error: msgspec.ValidationError, entries: object, kind: object) -> str:
    """The error in one line: the place, then the problem."""
    problem, where = str(error), ""
    if place := _PLACE.fullmatch(problem):
        problem, where = (
            place["problem"],
            _named(place["where"], str(error), deepcopy(entries), kind),
        )
    if missing := _MISSING.fullmatch(problem):
        where, problem = f"{where}.{missing['entry']}".lstrip("."), "is missing"
    return f"{where}: {problem}" if where else problem


def _named(where: str, error: str, entries: Any, kind: Any) -> str:
    """The place of an error; a name replaces the `[...]` of msgspec for one entry of a table.

    The entry is the first that alone gives the same error; `entries` are reduced to find it.
    """
    inner, named = entries, ""
    for name, index in _STEP.findall(where):
        step: str | int = int(index) if index.isdecimal() else name
        if index == "...":
            for step, entry in dict(inner).items():
                inner.clear()
                inner[step] = entry
                if _refusal(entries, kind) == error:
                    break
            else:
                return where
        named += f"[{step}]" if isinstance(step, int) else f".{step}"
        inner = inner[step]
    return named.removeprefix(".")


def _refusal(entries: object, kind: Any) -> str | None:
    try:
        msgspec.convert(entries, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def _unknown(given: Any, known: Any, where: str = "") -> str:
    """The first entry of `given` that is missing in `known`, which was read from it; else empty."""
    if isinstance(given, dict):
        for name, value in given.items():
            inner = f"{where}.{name}" if where else str(name)
            if name not in known:
                return inner
            if unknown := _unknown(value, known[name], inner):
                return unknown
    elif isinstance(given, list):
        for index, (value, known_item) in enumerate(zip(given, known, strict=True)):
            if unknown := _unknown(value, known_item, f"{where}[{index}]"):
                return unknown
    return ""
