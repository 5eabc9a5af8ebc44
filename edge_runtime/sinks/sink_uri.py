"""The URI of a sink: `KIND:PLACE?option=value`, with a name that holds no secret.

A password may stand anywhere in an address, so that `devices.capture.source_uri` names it. Neither
an unknown option nor a wrong value is quoted: each may be a password.
"""

import math
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from devices import BadInput
from devices.capture.source_uri import SourceUri
from devices.regular_file import read_regular
from edge_runtime.release.address import is_ip_address

_ENDPOINT = re.compile(r"[\w.\[\]:-]{0,80}")
_HOST = re.compile(r"[\w.-]+")
_KIND = re.compile(r"[a-z]{1,16}")
FILE_KINDS = ("jsonl", "csv", "drift", "video", "terminal")
"""Kinds of sinks whose place is a file or a folder, or that have none."""
MAX_HOST = 253
"""Bytes of the name of a host (RFC 1035, without the length of the first label and the root)."""
MAX_SECRET = 4096
"""Bytes of a file with a secret."""


class SinkUri:
    """The text of a sink as a user wrote it. `str` gives a name of it without secrets.

    `rest`, which follows the kind, may hold a password: never print it.
    """

    __slots__ = ("kind", "name", "rest")

    def __init__(self, text: str) -> None:
        self.kind, colon, self.rest = text.partition(":")
        if not colon or not _KIND.fullmatch(self.kind):
            self.kind = ""
        self.name = self._shown(str)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"SinkUri({self.name!r})"

    @property
    def key(self) -> str:
        """A name that two sinks of one host do not share; see `SourceUri.key`."""
        return self._shown(lambda address: address.key)

    @property
    def is_misplaced(self) -> bool:
        """Whether an address, which may hold a password, stands in the place of a file."""
        if self.kind not in FILE_KINDS:
            return False
        return "://" in self.rest or re.search(r":.*@", self.rest, re.DOTALL) is not None

    def split(self, known: Collection[str], mark: str = "?") -> tuple[str, "Options"]:
        """What follows the kind: the place before the last `mark`, and the options behind it.

        Raises BadInput for an option that is not `known`, or that comes twice or without a value.
        """
        place, separator, query = self.rest.rpartition(mark)
        if not separator:
            return self.rest, Options(self.name, {})
        options: dict[str, str] = {}
        for number, part in enumerate(filter(None, query.split("&")), 1):
            key, _, value = part.partition("=")
            if key not in known:
                raise BadInput(f"{self}: option {number} is none of {', '.join(known) or 'none'}")
            if key in options or not value:
                raise BadInput(f"{self}: {key} needs one value")
            options[key] = unquote(value)
        return place, Options(self.name, options)

    def _shown(self, name_of: Callable[[SourceUri], str]) -> str:
        kind, rest = self.kind, self.rest
        if not kind:
            return "(not shown, as it may hold a password)"
        if kind in FILE_KINDS and not self.is_misplaced:
            return f"{kind}:{rest.rpartition('?')[0] or rest}"
        place = rest.partition("?")[0]
        if kind in ("prometheus", "igtl") and _ENDPOINT.fullmatch(place):
            return f"{kind}:{place}"
        if kind in ("mqtt", "mqtts", "dicom", "dicoms") and rest.startswith("//"):
            return name_of(SourceUri(f"{kind}:{rest}"))
        if "://" in rest:
            return f"{kind}:{name_of(SourceUri(rest))}"
        return f"{kind}:..."


class Options:
    """The options of a sink."""

    def __init__(self, name: str, values: dict[str, str]) -> None:
        """`name` is that of the sink, for errors."""
        self._name, self._values = name, values

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """A number. Raises BadInput where it is none, or lies outside `least` to `most`."""
        if key not in self._values:
            return default
        try:
            value = float(self._values[key])
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise BadInput(f"{self._name}: {key} is a number from {least:g} to {most:g}")
        return value

    def choice(self, key: str, choices: Collection[str]) -> str:
        """One of the choices, by default the first. Raises BadInput for another word."""
        value = self._values.get(key, next(iter(choices)))
        if value not in choices:
            raise BadInput(f"{self._name}: {key} is one of {', '.join(choices)}")
        return value

    def text(self, key: str) -> str | None:
        """A text; None where the option is not given."""
        return self._values.get(key)

    def secret(self, key: str) -> str | None:
        """The secret in the variable that `KEY_env` names, or in the file that `KEY_file` names.

        None where neither is given. Raises BadInput where it is missing or empty, or where another
        user may read the file.
        """
        variable, file = self.text(f"{key}_env"), self.text(f"{key}_file")
        if variable is not None and file is not None:
            raise BadInput(f"{self._name}: give {key}_env or {key}_file, not both")
        if variable is not None:
            if not (word := os.environ.get(variable)):
                raise BadInput(f"{self._name}: the variable that {key}_env names is not set here")
            return word
        return None if file is None else self._read_secret(key)

    def file(self, key: str, limit: int, private: bool = False) -> bytes | None:
        """The content of the file that the option names, of `limit` bytes at most; None without.

        Raises BadInput where it cannot be read, and where it is `private` and another user may
        read it.
        """
        if (path := self.text(key)) is None:
            return None
        try:
            return read_regular(Path(path), limit, private)
        except (FileNotFoundError, BadInput) as error:
            reason = error.strerror if isinstance(error, FileNotFoundError) else str(error)
            why = str(reason).removeprefix(f"{path}: ")  # which may be a password by mistake
            raise BadInput(f"{self._name}: the file that {key} names: {why}") from error

    def _read_secret(self, key: str) -> str:
        about = f"{self._name}: the file that {key}_file names"
        try:
            word = (self.file(f"{key}_file", MAX_SECRET, private=True) or b"").decode().strip()
        except UnicodeDecodeError as error:
            raise BadInput(f"{about} cannot be read: not UTF-8") from error
        if not word:
            raise BadInput(f"{about} is empty")
        return word


def parse_place(uri: SinkUri, text: str, form: str) -> SplitResult:
    """The parts of an address, with a host that a name server can be asked for.

    Raises BadInput, with the `form` that is needed, for anything else.
    """
    try:
        url = urlsplit(text)
        if is_host(url.hostname or "") and url.port != 0:  # of a wrong port: ValueError
            return url
    except ValueError:
        pass
    raise BadInput(f"{uri}: needs {form}")


def is_host(text: str) -> bool:
    """Whether a text is an IP address, or a name of a host with labels of 1 to 63 letters."""
    if ":" in text:
        return is_ip_address(text)
    try:
        return bool(_HOST.fullmatch(text)) and len(text.encode("idna")) <= MAX_HOST
    except UnicodeError:
        return False
