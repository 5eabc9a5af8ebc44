"""Who made a bundle: Ed25519 signatures (RFC 8032), the keys that a device trusts, and the newest
version that it has seen.

Keys are PEM files (RFC 7468), as OpenSSL writes and reads them; before the 32 bytes of an Ed25519
key the same few bytes always stand (RFC 8410, section 10). A signing key is private: it lies in a
file that its owner alone can read, or in the environment. A device trusts the public keys of one
folder.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devices import BadInput
from devices.schema_io import read_json
from edge_runtime.bundle.signing import Signature, fingerprint, read_public
from edge_runtime.files import configuration_folder, state_folder, whole_file

TRUST_VARIABLE = "SONOLITE_TRUST"
"""Names the folder of trusted keys."""
TRUSTED_FOLDER, VERSIONS_FILE = "trusted", "versions.json"


def trusted_folder() -> Path:
    """The folder whose public keys are trusted: as the environment says, or a person's own."""
    return Path(os.environ.get(TRUST_VARIABLE) or configuration_folder() / TRUSTED_FOLDER)


def admitted_versions() -> "AdmittedVersions":
    """The versions that ran on this machine."""
    return AdmittedVersions(state_folder() / VERSIONS_FILE)


@dataclass(frozen=True)
class TrustedKeys:
    """What lies in a folder of trusted keys."""

    keys: dict[bytes, str]
    """Each key, and what it is called."""
    refused: tuple[str, ...]
    """Of each file that is trusted for nothing, one line that says why."""


def read_trusted(folder: Path) -> TrustedKeys:
    """Reads the trusted keys, `*.pem` of a folder; none where it is not there.

    A file that is not a public Ed25519 key, or that anybody can write, is trusted for nothing and
    takes no trust from the others: a device with a broken file still runs what good keys signed.
    Raises BadInput where anybody can write the folder, as then each key may be anybody's.
    """
    keys: dict[bytes, str] = {}
    refused: list[str] = []
    paths = sorted(folder.glob("*.pem"))
    if paths:
        _refuse_open_to_all(folder)
    for path in paths:
        try:
            keys[_public(path)] = path.stem
        except BadInput as error:
            refused.append(str(error))
    return TrustedKeys(keys, tuple(refused))


def _public(path: Path) -> bytes:
    """The public key of a file. Raises BadInput where it is none, or anybody can write it."""
    if not path.is_file():  # nothing is read from a pipe, which would be waited for
        raise BadInput(f"{path}: not a file")
    _refuse_open_to_all(path)
    try:
        return read_public(path.read_bytes())
    except ValueError as error:
        raise BadInput(f"{path}: not a public key in PEM") from error
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _refuse_open_to_all(path: Path) -> None:
    if path.stat().st_mode & 0o002:
        raise BadInput(f"{path}: anybody can write it; chmod o-w {path}")


def require_trusted(name: str, signature: Signature | None, trusted: Mapping[bytes, str]) -> bytes:
    """The key that signed the bundle `name`. Raises BadInput where it is not trusted."""
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
    """The newest version of each bundle that was admitted here, by its signer and name.

    An older one is refused, so that a model that was withdrawn does not come back. Of equal
    versions each is admitted: count up with each release.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def require_not_older(self, key: bytes, name: str, version: int) -> None:
        """Raises BadInput where a newer version was admitted, or the file is damaged."""
        newest = self._read().get(_entry(key, name), 0)
        if version < newest:
            raise BadInput(
                f"{name}: version {version} is older than {newest}, which ran here before"
            )

    def admit(self, key: bytes, name: str, version: int) -> None:
        """Remembers that this version was admitted."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self._path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another session may admit another bundle
            versions = self._read()
            if versions.get(_entry(key, name), 0) < version:
                with whole_file(self._path) as part:
                    entries = {**versions, _entry(key, name): version}
                    part.write_text(json.dumps(entries, indent=2) + "\n")

    def _read(self) -> dict[str, int]:
        try:
            return read_json(self._path.read_bytes(), dict[str, int], str(self._path))
        except FileNotFoundError:
            return {}
        except BadInput as error:
            raise BadInput(f"{self._path}: damaged; remove it if you know why") from error


def _entry(key: bytes, name: str) -> str:
    return f"{fingerprint(key)} {name}"
