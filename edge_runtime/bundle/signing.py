"""Ed25519 signatures (RFC 8032) over a bundle's manifest, and the PEM files of their keys.

Keys are PEM files (RFC 7468), as OpenSSL writes and reads them. The same few bytes stand before the
32 bytes of every Ed25519 key (RFC 8410, section 10). A signing key is private: it lies in a file
that only the owner can read, or in the environment.
"""

import base64
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from devices import BadInput
from devices.regular_file import read_regular
from edge_runtime.files import configuration_folder, refuse_existing, whole_file

SIGNING_KEY = "signing.pem"
KEY_VARIABLE = "SONOLITE_SIGNING_KEY"
"""The variable with a signing key as PEM; for build servers."""
_PUBLIC, _PRIVATE = b"PUBLIC KEY", b"PRIVATE KEY"
_DER_PREFIX = {
    _PUBLIC: bytes.fromhex("302a300506032b6570032100"),
    _PRIVATE: bytes.fromhex("302e020100300506032b657004220420"),
}
"""The bytes before the 32 bytes of a key (ASN.1 DER), by the label of its PEM file."""


@dataclass(frozen=True)
class Signature:
    """The member `signature` of a bundle: 32 bytes of the key, 64 bytes of the signature."""

    key: bytes
    """The public key of the signer."""
    over_manifest: bytes

    def to_bytes(self) -> bytes:
        """The member's content."""
        return self.key + self.over_manifest


def fingerprint(key: bytes) -> str:
    """The first twelve digits of the sha256 of a public key, for people to compare."""
    return hashlib.sha256(key).hexdigest()[:12]


def new_key(path: Path, public: Path) -> str:
    """Writes a new signing key to `path`, for the owner only, and the public key to `public`.

    Returns the fingerprint. Raises BadInput where one of the files exists, or where `path` lies in
    a run, because people pass runs on.
    """
    for key_path in (path, public):
        key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        refuse_existing(key_path)
    refuse_in_run(path)
    key = SigningKey.generate()
    # O_EXCL: never write into a file that somebody else put there.
    alone = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with whole_file(path) as part, open(os.open(part, alone, 0o600), "wb") as file:
        file.write(_pem(_PRIVATE, bytes(key)))
    write_public(public, bytes(key.verify_key))
    return fingerprint(bytes(key.verify_key))


def write_public(path: Path, key: bytes) -> None:
    """Writes a public key as PEM."""
    with whole_file(path) as part:
        part.write_bytes(public_pem(key))
        part.chmod(0o644)


def public_pem(key: bytes) -> bytes:
    """A public key as PEM."""
    return _pem(_PUBLIC, key)


def read_public(pem: bytes) -> bytes:
    """The 32 bytes of a public key in PEM.

    Raises ValueError where there is no such PEM, and BadInput for a key of another kind.
    """
    return _from_pem(_PUBLIC, pem)


def _pem(label: bytes, key: bytes) -> bytes:
    """The 32 bytes of a key as PEM."""
    content = base64.b64encode(_DER_PREFIX[label] + key)
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label, content, label)


def _from_pem(label: bytes, pem: bytes) -> bytes:
    """The 32 bytes of the key in PEM.

    Raises ValueError where there is no such PEM, and BadInput for a key of another kind.
    """
    block = re.search(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", pem, re.DOTALL)
    if block is None or block[1] != label:
        raise ValueError("no such PEM")
    content = base64.b64decode(b"".join(block[2].split()), validate=True)
    before, key = content[:-32], content[-32:]
    if before != _DER_PREFIX[label]:
        raise BadInput("not an Ed25519 key")
    return key


def refuse_in_run(path: Path) -> None:
    """Raises BadInput for a signing key in the folder of a run, because people pass runs on."""
    if any((folder / "run.json").exists() for folder in path.resolve().parents):
        raise BadInput(f"{path}: a signing key does not belong in a run")


def read_signing_key(path: Path | None) -> SigningKey:
    """The signing key from `path`, else from the environment, else from the user's configuration.

    Raises BadInput where there is no key, where others can read the file, or where it is no key.
    """
    if path is None and (pem := os.environ.get(KEY_VARIABLE)):
        return _private(pem.encode(), KEY_VARIABLE)
    key_path = path or configuration_folder() / SIGNING_KEY
    try:
        if key_path.is_file() and key_path.stat().st_mode & 0o077:
            raise BadInput(f"{key_path}: others can read this signing key; chmod 600 {key_path}")
        refuse_in_run(key_path)
        return _private(read_regular(key_path), str(key_path))
    except FileNotFoundError:
        raise BadInput(
            f"{key_path}: there is no signing key; make one with `sonolite keys new`, "
            f"or name it with --key or {KEY_VARIABLE}"
        ) from None
    except OSError as error:
        raise BadInput(f"{key_path}: {error.strerror}") from error


def _private(pem: bytes, where: str) -> SigningKey:
    try:
        return SigningKey(_from_pem(_PRIVATE, pem))
    except ValueError as error:
        raise BadInput(f"{where}: not a signing key without a password, in PEM") from error
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from error


def sign(key: SigningKey, manifest: bytes) -> Signature:
    """Signs the bytes of `manifest.json`, which hold the hash of every other member."""
    return Signature(bytes(key.verify_key), key.sign(manifest).signature)


def read_signature(content: bytes, manifest: bytes) -> Signature:
    """Reads the member `signature`. Raises BadInput where it does not belong to the manifest."""
    signature = Signature(content[:32], content[32:])
    try:
        VerifyKey(signature.key).verify(manifest, signature.over_manifest)
    except (ValueError, BadSignatureError) as error:
        raise BadInput("the signature is not of this manifest") from error
    return signature
