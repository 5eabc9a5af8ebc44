"""What a person needs beside the link to a live view: a fingerprint, and a QR code for a tablet."""

import io
import sys
from urllib.parse import urlsplit

from edge_runtime.text import printable, say
from edge_runtime.view import WEB_SERVER


def say_link_notes(link: str, fingerprint: str | None) -> None:
    """Prints to stderr how to know the certificate of a link again, if it has one.

    On a terminal a QR code follows where other machines reach the link.
    """
    from edge_runtime.release.address import is_loopback  # here: few commands have a link

    if fingerprint is not None:
        say(f"view: the certificate's SHA-256 fingerprint is {printable(fingerprint)}")
    if is_loopback(urlsplit(link).hostname or "") or not sys.stderr.isatty():
        return
    if WEB_SERVER.missing() is not None:
        say(f"note: for a QR code, {WEB_SERVER.cure}")
        return
    say(qr_code(link))


def qr_code(text: str) -> str:
    """The QR code of a text, in half and whole blocks of a terminal."""
    import segno

    drawn = io.StringIO()
    segno.make_qr(text).terminal(drawn, compact=True)
    return drawn.getvalue().rstrip("\n")
