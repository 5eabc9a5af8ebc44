"""TOML files into frozen dataclasses that refuse what they do not know."""

import json
import tomllib
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from devices.errors import BadInput

Kind = TypeVar("Kind")


def read_toml(content: bytes, kind: type[Kind], name: str) -> Kind:
    """Reads the bytes of a TOML file as the dataclass `kind`.

    Raises BadInput, `name` first, naming the first entry that is wrong.
    """
    try:
        entries = json.dumps(tomllib.loads(content.decode()), default=str)
        return TypeAdapter(kind).validate_json(entries)
    except ValidationError as error:
        raise BadInput(f"{name}: {explain(error)}") from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise BadInput(f"{name}: {error}") from error


def explain(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: where, then what."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else first["msg"]
