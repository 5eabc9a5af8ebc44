"""The bundles that a device accepts: signed by a trusted key, and not older than one that ran.

A device trusts the public keys in one folder, and keeps the newest version of each bundle.
"""

import fcntl
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devices import BadInput
from devices.regular_file import read_regular
from devices.schema_io import read_json
from edge_runtime.bundle.signing import Signature, fingerprint, read_public
from edge_runtime.files import configuration_folder, state_folder, whole_file

TRUST_VARIABLE = "SONOLITE_TRUST"
"""The variable with the folder of the trusted keys."""
TRUSTED_FOLDER, VERSIONS_FILE = "trusted", "versions.json"
_PACKAGE = Path(__file__).resolve().parents[1]


def trusted_folder() -> Path:
    """The folder of the trusted keys: from the environment, else from the user's configuration."""
    return Path(os.environ.get(TRUST_VARIABLE) or configuration_folder() / TRUSTED_FOLDER)


def admitted_versions() -> "AdmittedVersions":
    """The newest versions that ran on this machine."""
    return AdmittedVersions(state_folder() / VERSIONS_FILE)


@dataclass(frozen=True)
class TrustedKeys:
    """The contents of a folder of trusted keys."""

    keys: dict[bytes, str]
    """Each key, and the name of the key."""
    refused: tuple[str, ...]
    """One line for each file that is not trusted, with the reason."""


def read_trusted(folder: Path) -> TrustedKeys:
    """Reads the trusted keys, `*.pem` of a folder; none where there is no folder.

    A file that is no public Ed25519 key, or that another user may have written, is not trusted. The
    other files are: a device with one broken file still runs the bundles of good keys.
    Raises BadInput for a folder that cannot be listed, and for one that another user may have
    written, because then any key may be a stranger's.
    """
    keys: dict[bytes, str] = {}
    refused: list[str] = []
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".pem")
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from error
    if paths:
        _refuse_strangers(folder)
        if (mode := folder.resolve().parent.stat().st_mode) & 0o002 and not mode & stat.S_ISVTX:
            raise BadInput(f"{folder}: anybody can replace it; chmod o-w {folder.resolve().parent}")
    for path in paths:
        try:
            keys[_public(path)] = path.stem
        except BadInput as error:
            refused.append(str(error))
    return TrustedKeys(keys, tuple(refused))


def _public(path: Path) -> bytes:
    """The public key in a file. Raises BadInput where there is none, or anybody can write it."""
    if not path.is_file():  # reading a pipe would wait for a writer
        raise BadInput(f"{path}: not a file")
    _refuse_strangers(path)
    try:
        return read_public(read_regular(path))
    except ValueError as error:
        raise BadInput(f"{path}: not a public key in PEM") from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _refuse_strangers(path: Path) -> None:
    """Raises BadInput where another user than root or the owner of the folder above can write.

    What lies in the package itself is as safe as the program, and what is mounted read-only is the
    choice of whoever mounted it, as for a container.
    """
    place = path.resolve()
    if place.is_relative_to(_PACKAGE) or os.statvfs(place).f_flag & os.ST_RDONLY:
        return
    status, above = place.stat(), place.parent.stat()
    if status.st_mode & 0o022:
        writer = "anybody" if status.st_mode & 0o002 else "its group"
        raise BadInput(f"{path}: {writer} can write it; chmod go-w {path}")
    if status.st_uid not in (0, os.geteuid(), above.st_uid):
        raise BadInput(f"{path}: it belongs to another user; sudo chown {os.geteuid()} {path}")


def require_trusted(name: str, signature: Signature | None, trusted: Mapping[bytes, str]) -> bytes:
    """The key that signed the bundle `name`. Raises BadInput where the key is not trusted."""
    if signature is None:
        raise BadInput(f"{name}: it is not signed")
    if signature.key not in trusted:
        known = (
            ", ".join(f"{key_name} {fingerprint(key)}" for key, key_name in trusted.items())
            or "none"
        )
        raise BadInput(
            f"{name}: signed by the key {fingerprint(signature.key)}, which is not trusted here "
            f"(trusted: {known}); to trust it, put its public key into {trusted_folder()}"
        )
    return signature.key


class AdmittedVersions:
    """The newest version of each bundle that was admitted here, by signer and name.

    An older version is refused, so that a withdrawn model does not come back. The same version is
    admitted again, even with another model: raise the version with each release.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def note(self) -> str | None:
        """What a user should know: that the file was there, and has gone. Else None."""
        if self._path.with_suffix(".lock").exists() and not self._path.exists():
            return f"{self._path}: gone, so that an older bundle is not noticed; it begins anew"
        return None

    def require_not_older(self, key: bytes, name: str, version: int) -> None:
        """Raises BadInput where a newer version was admitted, or the file is damaged."""
        newest = self._read().get(_entry(key, name), 0)
        if version < newest:
            raise BadInput(
                f"{name}: version {version} is older than {newest}, which ran here before"
            )

    def admit(self, key: bytes, name: str, version: int) -> None:
        """Notes that this version was admitted."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC  # to write alone would wait at a pipe
        lock = os.open(self._path.with_suffix(".lock"), flags, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another session may admit another bundle
            versions = self._read()
            if versions.get(_entry(key, name), 0) < version:
                with whole_file(self._path) as part:
                    entries = {**versions, _entry(key, name): version}
                    part.write_text(json.dumps(entries, indent=2) + "\n")
        finally:
            os.close(lock)

    def _read(self) -> dict[str, int]:
        try:
            return read_json(read_regular(self._path), dict[str, int], str(self._path))
        except FileNotFoundError:
            return {}
        except BadInput as error:
            raise BadInput(f"{self._path}: damaged; remove it if you know why") from error


def _entry(key: bytes, name: str) -> str:
    return f"{fingerprint(key)} {name}"
