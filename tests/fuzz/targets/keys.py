"""Keys, certificates, signatures, and the versions that were admitted."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from nacl.signing import SigningKey

from edge_runtime.bundle.signing import (
    new_key,
    public_pem,
    read_signature,
    read_signing_key,
    sign,
)
from edge_runtime.bundle.trust import AdmittedVersions, read_trusted
from edge_runtime.view.certificate import make_certificate, read_certificate
from tests.fuzz.target import target

KEY = SigningKey(bytes(range(32)))


@target(lambda: [public_pem(bytes(KEY.verify_key))])
def trusted_key(content: bytes) -> object:
    Path("trusted").mkdir(exist_ok=True)
    Path("trusted/own.pem").write_bytes(content)
    return read_trusted(Path("trusted"))


def private_keys() -> Sequence[bytes]:
    for name in ("key.pem", "public.pem"):
        Path(name).unlink(missing_ok=True)
    new_key(Path("key.pem"), Path("public.pem"))
    return [Path("key.pem").read_bytes()]


@target(private_keys)
def signing_key(content: bytes) -> object:
    path = Path("private.pem")
    path.write_bytes(content)
    path.chmod(0o600)
    return read_signing_key(path)


@target(lambda: [sign(KEY, b"manifest").to_bytes()])
def signature(content: bytes) -> object:
    return read_signature(content, b"manifest")


@target(lambda: [make_certificate(datetime.now(UTC))])
def certificate(content: bytes) -> object:
    path = Path("certificate.pem")
    path.write_bytes(content)
    return read_certificate(path)


@target(lambda: [b'{"aaaa nodule": 3, "bbbb other": 17}\n'])
def versions(content: bytes) -> object:
    path = Path("versions.json")
    path.write_bytes(content)
    admitted = AdmittedVersions(path)
    admitted.require_not_older(bytes(KEY.verify_key), "nodule", 3)
    with suppress(OSError):
        admitted.admit(bytes(KEY.verify_key), "nodule", 3)
    return admitted
