"""The parts of this project that a device gets: a wheel and a tool, made from the code that runs.

The same code gives the same bytes, from a source tree and from an installed wheel. So a device
knows by the hash that nothing is new.
"""

import base64
import hashlib
import io
import zipfile
from importlib import resources
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("devices", "edge_runtime")
"""The packages that a device needs."""
TOOL_MAIN = b"from edge_runtime.release.tool import main\n\nmain()\n"


def pack_tool() -> bytes:
    """The bytes of `release.pyz`: `edge_runtime.release` for the Python of a device."""
    files = {
        name: content
        for name, content in _sources("edge_runtime").items()
        if name == "edge_runtime/__init__.py"
        or (name.startswith("edge_runtime/release/") and name.endswith(".py"))
    }
    return _zip({**files, "__main__.py": TOOL_MAIN})


def pack_wheel() -> tuple[str, bytes]:
    """The name and the bytes of the wheel for devices (Binary distribution format, PyPA)."""
    release = version("sonolite")
    info = f"sonolite-{release}.dist-info"
    files = {name: content for package in PACKAGES for name, content in _sources(package).items()}
    # As short as possible: a new word in the README must not make a new environment.
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: sonolite\nVersion: {release}\n".encode()
    )
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: sonolite\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{info}/entry_points.txt"] = (
        b"[console_scripts]\nsonolite = edge_runtime.__main__:main\n"
    )
    lines = [f"{name},{_hash(content)},{len(content)}" for name, content in sorted(files.items())]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    return f"sonolite-{release}-py3-none-any.whl", _zip(files)


def _sources(package: str) -> dict[str, bytes]:
    """Each file of a package by its path, without compiled files."""
    with resources.as_file(resources.files(package)) as folder:
        return {
            f"{package}/{path.relative_to(folder).as_posix()}": path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


def _hash(content: bytes) -> str:
    digest = hashlib.sha256(content).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _zip(files: dict[str, bytes]) -> bytes:
    """An archive that does not depend on a clock or on the order of the files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return buffer.getvalue()
