"""The certificate of an encrypted view: a given one, or one that is made here."""

import base64
import ipaddress
import os
import socket
import ssl
import warnings
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devices import BadInput
from devices.regular_file import read_regular
from edge_runtime.files import whole_file
from edge_runtime.view.address import own_address

OWN_CERTIFICATE = "view.pem"
"""The file of the certificate that is made here, with its key."""
UNKNOWN = (ValueError, x509.InvalidVersion, x509.DuplicateExtension, UnsupportedAlgorithm)
"""What a certificate raises that is damaged or of a kind that cryptography does not know."""
VALID_DAYS = 825
"""Days that such a certificate is valid: the most that Apple's devices accept."""


@dataclass(frozen=True)
class Certificate:
    """A certificate with its key, ready for a server."""

    context: ssl.SSLContext
    fingerprint: str
    """The SHA-256 of the certificate, as browsers show it: `AB:CD:...`."""
    pin: str
    """The SHA-256 of the public key in base64, as Chromium takes it (RFC 7469, section 2.4)."""
    names: tuple[str, ...] = ()
    """The names of hosts that a given certificate is for; `*.DOMAIN` stands for one label more."""


def read_certificate(path: Path, key: Path | None = None) -> Certificate:
    """Reads a certificate, or a chain of which it is the first, and its private key, in PEM.

    Without `key`, the file of the certificate holds the key, too. Raises BadInput where a file
    cannot be read, the key is not that of the certificate, or the certificate is not valid now.
    """
    content = _read(path)
    try:
        with warnings.catch_warnings():
            # As of a serial number of 0, which TLS takes; a user can do nothing about it.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificate = x509.load_pem_x509_certificate(content)
            public = certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            names = _host_names(certificate)
            first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNKNOWN as error:
        raise BadInput(f"{path}: no certificate in PEM, or of an unknown kind") from error
    now = datetime.now(UTC)
    if now < first:
        raise BadInput(f"{path}: the certificate is not valid before {first:%Y-%m-%d}")
    if now > last:
        raise BadInput(f"{path}: the certificate expired on {last:%Y-%m-%d}")
    _read(key or path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(path, key, password=_refuse_password)
    except ssl.SSLError as error:
        why = "no private key in PEM"
        if "MISMATCH" in (error.reason or ""):
            why = f"not the key of the certificate {path}"
        raise BadInput(f"{key or path}: {why}") from error
    except _Encrypted as error:
        raise BadInput(f"{key or path}: the key has a password; give one without") from error
    return Certificate(
        context,
        certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
        base64.b64encode(sha256(public).digest()).decode(),
        names,
    )


def _host_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.UnsupportedGeneralNameType, ValueError):
        # ValueError: an extension that is damaged
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def own_certificate(path: Path) -> Certificate:
    """The self-signed certificate at `path`; made where there is none that is valid.

    It has no names: it names this machine, which every view knows. Raises BadInput where it cannot
    be written.
    """
    try:
        return replace(read_certificate(path), names=())
    except BadInput:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with whole_file(path) as part:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(part, flags, 0o600), "wb") as file:
                file.write(make_certificate(datetime.now(UTC)))
    return replace(read_certificate(path), names=())


def make_certificate(now: datetime) -> bytes:
    """A certificate for the names and addresses of this machine and its new key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sonolite live view")])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # another machine's clock may be behind
        .not_valid_after(now + timedelta(days=VALID_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName(_own_names()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _own_names() -> list[x509.GeneralName]:
    machine = socket.gethostname()
    names = ["localhost", *([machine, f"{machine}.local"] if machine.isascii() else [])]
    addresses = {ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")}
    if (own := own_address()) is not None:
        addresses.add(ipaddress.ip_address(own))
    return [*map(x509.DNSName, names), *map(x509.IPAddress, sorted(addresses, key=str))]


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: {error.strerror}") from error


class _Encrypted(Exception):
    """The private key needs a password, and nobody is asked for it."""


def _refuse_password() -> str:
    raise _Encrypted
