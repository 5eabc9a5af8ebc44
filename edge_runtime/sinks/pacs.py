"""The address of a PACS, as a user writes it: DIMSE (DICOM PS3.7) or DICOMweb (PS3.18).

dicom://HOST:PORT?called=AE&calling=AE&commit=1&listen=PORT
dicoms://HOST:PORT?called=AE&ca=FILE            the same over TLS
dicomweb:https://HOST/PATH#user=NAME&password_env=NAME
"""

import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult

from devices import BadInput
from devices.capture.dicom_listen import AE_TITLE, OWN_TITLE
from devices.capture.source_uri import SourceUri
from edge_runtime.sinks.sink_uri import Options, SinkUri, parse_place
from edge_runtime.sinks.webhook import MAX_CERTIFICATES, parse_server, tls_context

DIMSE_OPTIONS = ("called", "calling", "commit", "listen", "ca", "certificate", "key")
WEB_OPTIONS = ("user", "password_env", "password_file", "token_env", "token_file", "ca")
PACS_VARIABLE = "SONOLITE_PACS"
"""The variable with the address for the process that sends: others could read a command line."""
CALLED = "ANY-SCP"
"""The title of the other side, where the address does not say."""


@dataclass(frozen=True)
class DicomNode:
    """A PACS that takes objects by C-STORE."""

    name: str
    host: str
    port: int
    called: str
    """The title of the PACS."""
    calling: str
    """The title of this device."""
    commit: bool
    """Whether the PACS is asked to confirm that it keeps the objects."""
    listen: int | None
    """The port to which the PACS sends that confirmation; None for the same connection."""
    tls: ssl.SSLContext | None


@dataclass(frozen=True)
class DicomWeb:
    """A PACS that takes objects by STOW-RS."""

    name: str
    url: SplitResult
    tls: ssl.SSLContext | None
    user: str | None = field(repr=False)
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)


def parse_pacs(uri: SinkUri) -> DicomNode | DicomWeb:
    """The PACS of a URI. Raises BadInput for a wrong address or option."""
    match uri.kind:
        case "dicom" | "dicoms":
            return _node(uri)
        case "dicomweb":
            return _web(uri)
    raise BadInput(f"{uri}: no PACS; there are dicom://, dicoms:// and dicomweb:https://")


def _node(uri: SinkUri) -> DicomNode:
    place, options = uri.split(DIMSE_OPTIONS)
    form = f"{uri.kind}://HOST:PORT?called=TITLE"
    url = parse_place(uri, SourceUri(f"{uri.kind}:{place}").reveal(), form)
    host, port = url.hostname, url.port
    if not host or not port or url.username is not None or url.path.strip("/"):
        raise BadInput(f"{uri}: needs {form}")
    secure = uri.kind == "dicoms"
    if not secure and any(options.text(key) for key in ("ca", "certificate", "key")):
        raise BadInput(f"{uri}: ca, certificate and key need dicoms://")
    listen = options.number("listen", 0, 0, 65535)
    return DicomNode(
        uri.name,
        host,
        port,
        _title(uri, options, "called", CALLED),
        _title(uri, options, "calling", OWN_TITLE),
        options.choice("commit", ("0", "1")) == "1",
        int(listen) or None,
        _dimse_tls(uri, options) if secure else None,
    )


def _dimse_tls(uri: SinkUri, options: Options) -> ssl.SSLContext:
    """What checks the PACS, and shows the own certificate if the options name one."""
    context = tls_context(uri, options)
    certificate = options.text("certificate")
    if certificate is not None:
        for key in ("certificate", "key"):
            options.file(key, MAX_CERTIFICATES)  # OpenSSL would wait for the writer of a pipe
        try:
            # Without a password OpenSSL would ask for it on the terminal.
            context.load_cert_chain(certificate, options.text("key"), password="")
        except (OSError, ValueError) as error:
            raise BadInput(f"{uri}: the certificate and the key cannot be read") from error
    return context


def _title(uri: SinkUri, options: Options, key: str, default: str) -> str:
    title = (options.text(key) or default).strip()
    if not AE_TITLE.fullmatch(title):
        raise BadInput(f"{uri}: {key} is a title: 1 to 16 letters of ASCII, without a backslash")
    return title


def _web(uri: SinkUri) -> DicomWeb:
    place, options = uri.split(WEB_OPTIONS, "#")
    url = parse_server(uri, SourceUri(place).reveal())
    if url.query:
        raise BadInput(f"{uri}: options stand behind #, as #user=me&password_env=PASSWORD")
    user, password = options.text("user"), options.secret("password")
    token = options.secret("token")
    if (user is None) != (password is None):
        raise BadInput(f"{uri}: a user needs password_env or password_file, and they need a user")
    if token is not None and user is not None:
        raise BadInput(f"{uri}: give a user or a token, not both")
    tls = None if url.scheme == "http" else tls_context(uri, options)
    return DicomWeb(uri.name, url, tls, user, password, token)
