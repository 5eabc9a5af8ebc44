"""Objects to a PACS by STOW-RS (DICOM PS3.18, 10.5): one POST for each."""

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO

from pydicom import dcmwrite
from pydicom.dataset import Dataset
from pydicom.uid import UID

from devices import CheckFailed, NotDelivered
from edge_runtime.sinks.pacs import DicomWeb

WEB_SECONDS = 60.0
"""Seconds that the server may take to answer."""
MAX_WEB_ANSWER = 1_000_000
"""Bytes of an answer that are read."""
BOUNDARY = "sonolite-b7e1d5b7a6a94f0c"
FAILED_SEQUENCE, FAILURE_REASON = "00081198", "00081197"
"""Failed SOP Sequence and Failure Reason in the DICOM JSON model (PS3.18, F)."""
ALREADY_STORED = 0x0111
UNUSABLE_OBJECT = (400, 409, 413, 415, 422)
"""Answers that another attempt will not change."""


def post_objects(web: DicomWeb, objects: Iterator[tuple[str, Dataset]]) -> int:
    """Stores objects one by one, and returns how many. Raises as `dimse.store_objects`."""
    host, port = web.url.hostname or "", web.url.port
    connection = (
        http.client.HTTPConnection(host, port, timeout=WEB_SECONDS)
        if web.tls is None
        else http.client.HTTPSConnection(host, port, timeout=WEB_SECONDS, context=web.tls)
    )
    count = 0
    with closing(connection):
        for _, content in objects:
            idle = connection.sock is not None
            try:
                try:
                    status, body = _post(web, connection, content)
                except (OSError, http.client.HTTPException):
                    connection.close()
                    if not idle:
                        raise
                    status, body = _post(web, connection, content)  # the server had closed it
            except (OSError, http.client.HTTPException) as error:
                known = isinstance(error, OSError) and error.strerror
                raise NotDelivered(f"{web.name}: {known or type(error).__name__}") from error
            _check(web, UID(content.SOPClassUID).name, status, body)
            count += 1
    return count


def _post(
    web: DicomWeb, connection: http.client.HTTPConnection, content: Dataset
) -> tuple[int, bytes]:
    """The status and the beginning of the body of the server's answer."""
    file = BytesIO()
    dcmwrite(file, content, enforce_file_format=True)
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
        "Accept": "application/dicom+json",
        "User-Agent": "sonolite",
    }
    if web.token is not None:
        headers["Authorization"] = f"Bearer {web.token}"
    elif web.user is not None:
        word = base64.b64encode(f"{web.user}:{web.password}".encode()).decode()
        headers["Authorization"] = f"Basic {word}"
    target = f"{web.url.path.rstrip('/')}/studies"
    body = b"".join((head, file.getvalue(), f"\r\n--{BOUNDARY}--\r\n".encode()))
    connection.request("POST", target, body, headers)
    answer = connection.getresponse()
    taken = answer.read(MAX_WEB_ANSWER)
    if len(taken) == MAX_WEB_ANSWER:
        connection.close()
    return answer.status, taken


def _check(web: DicomWeb, kind: str, status: int, body: bytes) -> None:
    """Raises NotDelivered or CheckFailed where the server has not got the object."""
    reasons = _failures(body)
    if reasons and set(reasons) <= {ALREADY_STORED}:
        return
    words = f"{web.name}: the PACS answers {status} to {kind}"
    if 200 <= status < 300 and not reasons:
        return
    if reasons or status in UNUSABLE_OBJECT:
        raise CheckFailed(f"{words}, and refuses it")
    raise NotDelivered(words)


def _failures(body: bytes) -> list[int | None]:
    """The reasons of the objects that the server could not store; none in an unreadable answer."""
    try:
        items = json.loads(body)[FAILED_SEQUENCE]["Value"]
        reasons = [item.get(FAILURE_REASON, {}).get("Value", [None])[0] for item in items]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return []
    return [reason if isinstance(reason, int) else None for reason in reasons]
