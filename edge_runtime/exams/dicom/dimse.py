"""Objects to a PACS by C-STORE (DICOM PS3.4, B), and storage commitment (PS3.4, J)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ASSOCIATE_RJ
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

from devices import BadInput, CheckFailed, NotDelivered
from devices.capture.dicom_network import accepts_what_was_offered, end_quietly, keep_silent
from edge_runtime.sinks.pacs import DicomNode

ASSOCIATION_SECONDS = 20.0
"""Seconds until a PACS must have accepted a connection, and the association."""
MESSAGE_SECONDS = 60.0
"""Seconds that a PACS may take to answer a message."""
COMMITMENT_SECONDS = 60.0
"""Seconds that a PACS may take to confirm that it keeps the objects."""
SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
STORED_CLASSES = {
    SecondaryCaptureImageStorage: SYNTAXES,
    Comprehensive3DSRStorage: SYNTAXES,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage: [JPEGBaseline8Bit],
    MultiFrameTrueColorSecondaryCaptureImageStorage: [JPEGBaseline8Bit],
}
"""What is sent, and in which transfer syntaxes."""
TAKEN = (0x0000, 0x0111, 0xB000, 0xB006, 0xB007)
"""Answers that say that the PACS has the object: 0x0111 that it had it before (PS3.7, C)."""
UNREADABLE = (range(0xA900, 0xAA00), range(0xC000, 0xD000), range(0x0122, 0x0123))
"""Answers that another attempt will not change: the PACS cannot take such an object."""


def store_objects(node: DicomNode, objects: Iterator[tuple[str, Dataset]]) -> int:
    """Stores objects over one association, and returns how many.

    Where `node` asks for it, waits until the PACS has confirmed that it keeps them.
    Raises NotDelivered where a later attempt may help, and CheckFailed where none will.
    """
    references: list[Dataset] = []
    with _commitment(node) as commitment, _associated(node, commitment.handlers) as association:
        for _, content in objects:
            _store(node, association, content)
            reference = Dataset()
            reference.ReferencedSOPClassUID = content.SOPClassUID
            reference.ReferencedSOPInstanceUID = content.SOPInstanceUID
            references.append(reference)
        if node.commit:
            commitment.ask(association, references)
    return len(references)


@contextmanager
def _associated(node: DicomNode, handlers: list[Any]) -> Iterator[Association]:
    """An association with the PACS. Raises NotDelivered where there is none."""
    entity = _entity(node)
    for kind, syntaxes in STORED_CLASSES.items():
        entity.add_requested_context(kind, syntaxes)
    if node.commit:
        entity.add_requested_context(StorageCommitmentPushModel, SYNTAXES)
    refusals: list[str] = []

    def note(event: evt.Event) -> None:
        if isinstance(event.pdu, A_ASSOCIATE_RJ):  # the association itself may miss it
            refusals.append(event.pdu.reason_str)

    handlers = [*handlers, (evt.EVT_CONN_OPEN, end_quietly), (evt.EVT_PDU_RECV, note)]
    tls = None if node.tls is None else (node.tls, node.host)
    association = entity.associate(
        node.host, node.port, ae_title=node.called, tls_args=tls, evt_handlers=handlers
    )
    if not association.is_established:
        if refusals:
            raise NotDelivered(f"{node.name}: the PACS refuses this device: {refusals[0]}")
        raise NotDelivered(f"{node.name}: the PACS cannot be reached")
    try:
        if not accepts_what_was_offered(association):
            words = "the PACS accepts a transfer syntax that was not offered"
            raise NotDelivered(f"{node.name}: {words}")
        yield association
    finally:
        if association.is_established:
            association.release()
        else:
            association.abort()


def _entity(node: DicomNode) -> AE:
    keep_silent()
    entity = AE(node.calling)
    entity.connection_timeout = entity.acse_timeout = ASSOCIATION_SECONDS
    entity.dimse_timeout = entity.network_timeout = MESSAGE_SECONDS
    return entity


def _store(node: DicomNode, association: Association, content: Dataset) -> None:
    """Stores one object. Raises as `store_objects`."""
    kind = UID(content.SOPClassUID)
    if kind not in {context.abstract_syntax for context in association.accepted_contexts}:
        if not association.is_established:
            raise NotDelivered(f"{node.name}: the PACS went away")
        raise CheckFailed(f"{node.name}: the PACS does not take {kind.name}")
    try:
        answer = association.send_c_store(content)
    except RuntimeError as error:
        raise NotDelivered(f"{node.name}: the PACS went away") from error
    status = answer.get("Status")
    if status in TAKEN:
        return
    if status is None:
        raise NotDelivered(f"{node.name}: the PACS does not answer")
    words = f"{node.name}: the PACS answers {status:#06x} to {kind.name}"
    if any(status in codes for codes in UNREADABLE):
        raise CheckFailed(f"{words}, and refuses it")
    raise NotDelivered(words)


class _Commitment:
    """One transaction of storage commitment."""

    def __init__(self, node: DicomNode) -> None:
        self._node, self._transaction = node, generate_uid()
        self._answered = threading.Event()
        self._failed = 0
        self.handlers: list[Any] = [(evt.EVT_N_EVENT_REPORT, self._take)] if node.commit else []

    def ask(self, association: Association, references: list[Dataset]) -> None:
        """Asks the PACS to keep objects, and waits for the answer. Raises NotDelivered."""
        name = self._node.name
        contexts = {context.abstract_syntax for context in association.accepted_contexts}
        if StorageCommitmentPushModel not in contexts:
            raise CheckFailed(f"{name}: the PACS knows no storage commitment; leave out commit=1")
        request = Dataset()
        request.TransactionUID = self._transaction
        request.ReferencedSOPSequence = references
        try:
            status, _ = association.send_n_action(
                request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        except RuntimeError as error:
            raise NotDelivered(f"{name}: the PACS went away") from error
        if status.get("Status") != 0:
            raise NotDelivered(f"{name}: the PACS does not take a storage commitment now")
        if not self._answered.wait(COMMITMENT_SECONDS):
            raise NotDelivered(f"{name}: stored, but the PACS has not confirmed that it keeps it")
        if self._failed:
            raise NotDelivered(f"{name}: the PACS does not keep {self._failed} of the objects")

    def _take(self, event: evt.Event) -> tuple[int, None]:
        """Takes an N-EVENT-REPORT; one about another transaction is answered, and not heeded."""
        report = event.event_information
        if report.get("TransactionUID") == self._transaction:
            self._failed = len(report.get("FailedSOPSequence") or ())
            self._answered.set()
        return 0x0000, None


@contextmanager
def _commitment(node: DicomNode) -> Iterator[_Commitment]:
    """Listens for the answer of a PACS that connects for it, where a port is given."""
    commitment = _Commitment(node)
    if not node.commit or node.listen is None:
        yield commitment
        return
    entity = _entity(node)
    entity.add_supported_context(StorageCommitmentPushModel, SYNTAXES, scu_role=True, scp_role=True)
    try:
        server = entity.start_server(
            ("", node.listen),
            block=False,
            evt_handlers=[*commitment.handlers, (evt.EVT_CONN_OPEN, end_quietly)],
        )
    except OSError as error:
        raise BadInput(
            f"{node.name}: the port {node.listen} cannot be listened at: {error.strerror}"
        ) from error
    try:
        yield commitment
    finally:
        if server is not None:
            server.shutdown()
