"""The exams that are kept, and what a worklist and a PACS answer."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from pydicom import Dataset, uid
from pydicom.dataset import FileMetaDataset
from pynetdicom import AE, evt

from devices import Box
from edge_runtime.commands.exam import _opened, _whole
from edge_runtime.exams import worklist
from edge_runtime.exams.dicom import dimse
from edge_runtime.exams.dicom.dimse import store_objects
from edge_runtime.exams.dicom.stow import post_objects
from edge_runtime.exams.export import exam_record, exam_summary, export_exam, without_identity
from edge_runtime.exams.report import make_report
from edge_runtime.exams.schema import DATABASE, open_exams
from edge_runtime.exams.store import (
    ExamDecision,
    ExamNodule,
    Identity,
    Provenance,
    insert_decision,
    insert_exam,
    insert_still,
    put_nodule,
    read_exams,
    set_ended,
    still_path,
    write_picture,
)
from edge_runtime.exams.worklist import WORKLIST_FIND, WorklistAddress, ask_worklist
from edge_runtime.results.result import to_json
from edge_runtime.sinks.pacs import DicomNode, DicomWeb, parse_pacs
from edge_runtime.sinks.sink_uri import SinkUri
from tests.edge_runtime.exams.examples import FOUND, result
from tests.fuzz.target import target
from tests.fuzz.targets.pictures import answering

PLACE = Path("exams")
CELLS = [
    (table, column)
    for table, columns in {
        "exam": "last study source thresholds prevalence",
        "nodule": "track label probability interval box best",
        "still": "nodule result",
        "decision": "at state reason probability",
    }.items()
    for column in columns.split()
]
"""Tables and columns; the first byte of an input says which of them is damaged."""


@cache
def picture() -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


@cache
def database() -> bytes:
    """The database of one exam with a nodule, a decision and a picture."""
    identity = Identity("4711", "Doe", "", "1980-05-01", "1.2.3")
    shares = {"benign": 0.25, "malignant": 0.75}
    bounds = dict.fromkeys(shares, (0.1, 0.9))
    provenance = Provenance("a.mp4", False, "n", 1, "0" * 64, {"malignant": 0.5}, shares, "x", "1")
    at, box, seen = "2026-01-01T00:00:00+00:00", Box(1, 2, 30, 40), result(3, FOUND, file="a.mp4")
    with closing(open_exams(Path("seed-exams"), create=True)) as connection:
        exam = insert_exam(connection, at, identity, provenance)
        nodule = ExamNodule(
            1, 1, "a.mp4", at, at, 3, "malignant", None, shares, bounds, box, (1, 2)
        )
        put_nodule(connection, exam, nodule)
        decision = ExamDecision(
            *(at, 0.5, 3, "a.mp4", "LIVE", None, "cpu", None, 1, 1, "malignant"),
            *(shares, shares, bounds, box),
        )
        insert_decision(connection, exam, decision)
        insert_still(connection, exam, "best", 1, to_json(seen).decode(), 10)
        set_ended(connection, exam, at, 0)
        connection.execute("PRAGMA journal_mode = DELETE").fetchall()
    return (Path("seed-exams") / DATABASE).read_bytes()


def use_exams(content: bytes, still: bytes, damage: Callable[[], object] = lambda: None) -> object:
    """Lists and exports the exams of a database; what is told of them is told in one line."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    (PLACE / DATABASE).write_bytes(content)
    write_picture(still_path(PLACE, 1, 1), still)
    damage()
    with _opened(PLACE) as (_, connection):
        exams = read_exams(connection, None)
        json.dumps([exam_summary(exam) for exam in exams])
        whole = [_whole(connection, exam) for exam in exams[:3]]
    shutil.rmtree("out", ignore_errors=True)
    for parts in whole:
        chosen = without_identity(*parts)
        for exam, nodules, stills, decisions in (parts, chosen):
            make_report(PLACE, exam, nodules, stills, decisions)
            msgspec.json.format(msgspec.json.encode(exam_record(exam, nodules, stills)))
        export_exam(PLACE, Path("out"), *chosen, dicom=True, fhir=True)
        shutil.rmtree("out")
    return exams


@target(lambda: [database()])
def exam_database(content: bytes) -> object:
    return use_exams(content, picture())


@target(lambda: [picture()], inputs=10)
def kept_picture(content: bytes) -> object:
    return use_exams(database(), content)


def cells() -> Sequence[bytes]:
    """Each column of the database with its value, as text."""
    path = Path("seed.sqlite")
    path.write_bytes(database())
    with closing(sqlite3.connect(path)) as seed:
        values = [seed.execute(f"SELECT {c} FROM {t}").fetchone()[0] for t, c in CELLS]
    return [bytes([n]) + str(value).encode() for n, value in enumerate(values)]


@target(cells, inputs=20)
def exam_row(content: bytes) -> object:
    table, column = CELLS[content[0] % len(CELLS) if content else 0]

    def damage() -> None:
        with suppress(sqlite3.IntegrityError), closing(sqlite3.connect(PLACE / DATABASE)) as base:
            base.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT)", (content[1:],))
            base.commit()

    return use_exams(database(), picture(), damage)


def said(handlers: list[Any], contexts: Sequence[Any], ask: Callable[[Any], object]) -> bytes:
    """What a DICOM server says to whoever asks it, from the association on to its last answer."""
    pieces: list[bytes] = []
    entity = AE("THERE")
    for context in contexts:
        entity.add_supported_context(context)
    handlers = [*handlers, (evt.EVT_DATA_SENT, lambda event: pieces.append(event.data))]
    there: Any = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    caller = AE("SONOLITE")
    for context in contexts:
        caller.add_requested_context(context)
    try:
        association = caller.associate("127.0.0.1", there.server_address[1], ae_title="THERE")
        ask(association)
        answers = b"".join(pieces)
        association.release()
    finally:
        there.shutdown()
    return answers


def worklists() -> Sequence[bytes]:
    """Two steps of a worklist."""

    def steps(event: Any) -> Any:
        for charset in ("ISO_IR 192", "ISO_IR 100"):
            step, content = Dataset(), Dataset()
            step.ScheduledProcedureStepStartDate = "20260101"
            step.ScheduledProcedureStepStartTime = "083000"
            content.ScheduledProcedureStepSequence = [step]
            content.SpecificCharacterSet, content.PatientName = charset, "Wang^Xiao"
            content.PatientID, content.PatientBirthDate = "4711", "19800501"
            yield 0xFF00, content

    def ask(association: Any) -> None:
        query = Dataset()
        query.PatientID = ""
        assert len([*association.send_c_find(query, WORKLIST_FIND)]) == 3

    return [said([(evt.EVT_C_FIND, steps)], [WORKLIST_FIND], ask)]


@target(worklists, inputs=20)
def worklist_answer(content: bytes) -> object:
    there = answering(content)
    worklist.WORKLIST_SECONDS = 1.0
    answer = ask_worklist(WorklistAddress("127.0.0.1", there.port))
    json.dumps([asdict(step) for step in answer.steps])
    return len(answer.steps)


def capture() -> Dataset:
    """A small object for a PACS."""
    content = Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    content.SOPClassUID, content.SOPInstanceUID = uid.SecondaryCaptureImageStorage, "1.2.3"
    return content


def pacs_answers() -> Sequence[bytes]:
    """What a PACS says to an object that it takes."""

    def ask(association: Any) -> None:
        assert association.send_c_store(capture()).Status == 0

    return [said([(evt.EVT_C_STORE, lambda _: 0)], [uid.SecondaryCaptureImageStorage], ask)]


@target(pacs_answers, inputs=20)
def pacs_answer(content: bytes) -> object:
    there = answering(content)
    dimse.ASSOCIATION_SECONDS = dimse.MESSAGE_SECONDS = 1.0
    node = parse_pacs(SinkUri(f"dicom://{there.address}"))
    assert isinstance(node, DicomNode)
    return store_objects(node, iter([("a.dcm", capture())]))


STOW = b"""HTTP/1.1 %d There\r\nContent-Type: application/dicom+json\r\n\r\n%b"""
REFUSED = b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [%d]}}]}}'


@target(lambda: [STOW % (200, b"{}"), STOW % (409, REFUSED % 272), STOW % (202, REFUSED % 290)])
def stow_answer(content: bytes) -> object:
    there = answering(content)
    web = parse_pacs(SinkUri(f"dicomweb:http://{there.address}/"))
    assert isinstance(web, DicomWeb)
    return post_objects(web, iter([("a.dcm", capture())] * 2))
