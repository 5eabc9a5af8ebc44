"""The name of a source, which cannot be printed with its secret.

A password may stand anywhere in an address: before the host, in the path, in the query. So only
the scheme, the host and the port are shown. In a key `~` and four digits stand for the path: they
tell two streams of one host apart. Who has a key can test guesses of a short password in the path,
so that a key goes to the user's own files, and to no message or log.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from devices.capture.registry import on_disk, scheme_of
from devices.errors import BadInput

WITHHELD = "the source (not shown, as it may hold a password)"
MAX_INDEX_DIGITS = 3
"""Of a camera's index; V4L2 counts to 255."""
MAX_SHOWN = 255
"""Letters of a name on disk that is shown although nothing lies there."""

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,15})://(?P<rest>.*)", re.DOTALL)
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{0,5})?")
_MARKED = re.compile(rf"[a-z][a-z0-9+.-]{{0,15}}://(?:(?:{_HOST.pattern})/)?~[0-9a-f]{{4}}")
"""An address as it stands in a key."""
_CAMERA = re.compile(r"v4l2:(?://)?/[\w./:+-]+")
_OPTION = r"[a-z]+=(?:[\d.]+|yes|no|[bm]\w+n\w*)"
_PHANTOM = re.compile(rf"phantom:(?://)?(?:\?{_OPTION}(?:&{_OPTION})*)?")
_LISTEN = re.compile(r"(?P<address>dicom-listen:[\[\]\w.:-]*)(?:\?.*)?", re.DOTALL)
_SCRIPT = re.compile(r"script:[\w .,/#\n-]*")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class SourceUri:
    """The text of a source as a user wrote it. `str` gives a name of it without secrets.

    In an address `${NAME}` stands for a variable of the environment, so that a password need not
    stand on a command line or in a file.
    """

    __slots__ = ("_name", "_text")

    def __init__(self, text: "str | SourceUri") -> None:
        self._text: str = text._text if isinstance(text, SourceUri) else text
        self._name: str = text._name if isinstance(text, SourceUri) else _named(text)

    def __str__(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"SourceUri({self._name!r})"

    def __reduce__(self) -> str:
        raise TypeError("the name of a source is not pickled: it may hold a password")

    @property
    def unexpanded(self) -> str:
        """The text as it was written. It may hold a password: never print it."""
        return self._text

    def reveal(self) -> str:
        """The text with the values of its variables. It may hold a password: never print it.

        A value is percent-encoded, so that any letter may stand in a password. Raises BadInput
        where a variable is not set.
        """
        if not _ADDRESS.fullmatch(self._text):
            return self._text

        def value(variable: re.Match[str]) -> str:
            if (word := os.environ.get(variable[1])) is None:
                raise BadInput(f"{self}: the variable {variable[1]} is not set here")
            return quote(word, safe="")

        return _VARIABLE.sub(value, self._text)

    @property
    def is_camera_index(self) -> bool:
        """Whether the text is the index of a camera."""
        text = self._text
        return text.isdecimal() and text.isascii() and len(text) <= MAX_INDEX_DIGITS

    @property
    def key(self) -> str:
        """A name for the user's own files: a camera by its device, a file by its whole path.

        A stream has the mark of its path, and no query: two that differ in the query alone have
        one key.
        """
        if self.is_camera_index:
            return f"v4l2:///dev/video{int(self._text)}"
        if self._name != self._text or (":" in self._text and not on_disk(self._text)):
            return _named(self._text, marked=True)
        try:
            return str(Path(self._text).resolve())
        except (OSError, ValueError, RuntimeError):  # a name that no file can have
            return self._name


def read_options(
    uri: SourceUri, query: str, readers: Mapping[str, Callable[[str], Any]]
) -> dict[str, Any]:
    """The options in the query of a source, each as its reader gives it.

    A reader raises ValueError or KeyError for a value that it cannot read. Raises BadInput for that
    and for an option without a reader. Neither is quoted: each may be a password.
    """
    options: dict[str, Any] = {}
    for name, word in parse_qsl(query, keep_blank_values=True):
        if name not in readers:
            known = ", ".join(readers)
            raise BadInput(f"{uri}: an option that it does not have; there are {known}")
        try:
            options[name] = readers[name](word)
        except (ValueError, KeyError):
            raise BadInput(f"{uri}: no value for {name} that can be read") from None
    return options


def without_secrets(line: str, words: list[str]) -> str:
    """The line, where the safe name stands for each of the words that may be an address."""
    for word in sorted(words, key=len, reverse=True):
        texts = (word, word.partition("=")[2] if word.startswith("-") else "")
        for text in filter(None, texts):
            plain = unquote(text)
            if scheme_of(text) or "://" in plain or re.search(r":.*@", plain, re.DOTALL):
                path = Path(text)
                folders = [str(path.parent)] if len(path.parts) > 2 else []
                for written in (text, repr(text)[1:-1], str(path), *folders):
                    line = line.replace(written, str(SourceUri(text)))
    return line


def _named(text: str, marked: bool = False) -> str:
    """The text without what may be secret; `marked` gives the path of an address its mark."""
    if on_disk(text):
        return text
    if marked and _MARKED.fullmatch(text):
        return text
    for simulated in (_PHANTOM, _SCRIPT):
        if simulated.fullmatch(text):
            return text
    if listen := _LISTEN.fullmatch(text):
        return listen["address"]
    source = scheme_of(text)
    scheme = text.partition(":")[0]
    if source is not None and source.scheme == "v4l2":
        device = text.partition("?")[0]
        return device if _CAMERA.fullmatch(device) else "v4l2://..."
    if source is not None and source.simulated:
        return f"{scheme}:..."
    if address := _ADDRESS.fullmatch(text):
        return _named_address(address["scheme"].lower(), address["rest"], marked)
    if set(unquote(text)) & set("@:?=$") or len(text) > MAX_SHOWN:
        return WITHHELD
    return text


def _named_address(scheme: str, rest: str, marked: bool) -> str:
    """The address without user, password, path and query.

    A host is named only where it is clear which part that is: not where a `@` follows a `/`, `?`
    or `#`, as in a password with such a letter.
    """
    cut = re.search(r"[/?#]", rest)
    authority, tail = (rest, "") if cut is None else (rest[: cut.start()], rest[cut.start() :])
    host = authority.rpartition("@")[2]
    path = re.split(r"[?#]", tail)[0]
    if "@" in tail or not _HOST.fullmatch(host):
        return f"{scheme}://{f'~{_mark(rest)}' if marked else '...'}"
    tail_name = f"~{_mark(path)}" if marked else "..."
    return f"{scheme}://{host}" + (f"/{tail_name}" if path.strip("/") else "")


def _mark(text: str) -> str:
    """Four digits: 16 bits of the sha256."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:4]
