"""A scanner sends, with the real `storescu` of dcmtk, and bytes that no scanner would send."""

import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.encaps import encapsulate
from pynetdicom import AE, build_context
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from devices import BadInput, Box, DeviceStalled, NothingSent
from devices.capture import dicom_listen, dicom_server, open_device
from devices.capture.dicom_listen import AWAITED, DicomListen, parse_listen
from devices.capture.dicom_server import MAX_CALLERS
from devices.capture.source_uri import SourceUri
from tests.devices.capture.dicom_files import GREY, PATIENT, region, write_dicom, write_jpegs
from tests.devices.capture.storescu import STILL, panics, send, storescu

pytestmark = pytest.mark.skipif(storescu is None, reason="no storescu: apt install dcmtk")
STUDY = "1.2.3.4"


Listening = Callable[..., DicomListen]


@pytest.fixture
def listening() -> Iterator[Listening]:
    """`listening(options)` opens a device on a free port."""
    with ExitStack() as stack:
        yield lambda options="", **more: stack.enter_context(
            DicomListen(f"dicom-listen:127.0.0.1:0{options}", **more)
        )


def write_still(path: Path, **attributes: object) -> Path:
    return write_dicom(path, GREY, **(STILL | attributes))


def test_a_still_is_given_as_it_was_stored(listening: Listening, tmp_path: Path) -> None:
    device = listening()
    assert send(device.port, write_still(tmp_path / "a.dcm")).returncode == 0
    frame = device.read(60)
    assert np.array_equal(frame.pixels, GREY)
    assert (frame.timestamp, frame.name, frame.recording) == (None, "object 1", 1)


def test_a_clip_comes_frame_by_frame_with_its_times(listening: Listening, tmp_path: Path) -> None:
    device = listening()
    clip = write_jpegs(tmp_path / "clip.dcm", [GREY, GREY + 1, GREY + 2], FrameTime=20)
    began = time.monotonic()
    assert send(device.port, clip).returncode == 0
    frames = [device.read(60) for _ in range(3)]
    assert [frame.timestamp for frame in frames] == [0.0, 0.02, 0.04]
    assert {frame.name for frame in frames} == {"object 1"}
    assert frames[2].captured_at >= frames[0].captured_at + 0.04
    assert frames[0].captured_at >= began


def test_rle_is_taken(listening: Listening, tmp_path: Path) -> None:
    device = listening()
    plain = write_still(tmp_path / "plain.dcm")
    dataset = dcmread(plain)
    dataset.compress(uid.RLELossless, encoding_plugin="pydicom")
    dataset.save_as(tmp_path / "rle.dcm")
    assert send(device.port, tmp_path / "rle.dcm", coding="-xr").returncode == 0
    assert np.array_equal(device.read(60).pixels, GREY)


def test_each_object_names_its_own_region(listening: Listening, tmp_path: Path) -> None:
    device = listening()
    first = write_still(tmp_path / "1.dcm", SequenceOfUltrasoundRegions=[region(4, 2, 43, 33)])
    assert send(device.port, first, write_still(tmp_path / "2.dcm")).returncode == 0
    frames = [device.read(60) for _ in range(2)]
    assert [frame.region for frame in frames] == [Box(4, 2, 40, 32), None]
    assert [frame.recording for frame in frames] == [1, 2]
    assert [frame.index for frame in frames] == [0, 1]


def test_whom_an_object_shows_is_known_and_not_said(
    listening: Listening, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    device = listening()
    path = write_still(
        tmp_path / "a.dcm",
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Wang^Xiao=王^小",
        PatientBirthDate="19800501",
        AccessionNumber="A7",
        StudyInstanceUID=STUDY,
    )
    send(device.port, path)
    identity = device.received[device.read(60).name or ""]
    assert (identity.patient_id, identity.name) == (PATIENT, "Wang^Xiao=王^小")
    assert (identity.birth_date, identity.accession, identity.study) == ("1980-05-01", "A7", STUDY)
    for text in (repr(identity), caplog.text, repr(device.notes)):
        assert PATIENT not in text
        assert "Wang" not in text
        assert STUDY not in text


@pytest.mark.parametrize("declared", ["ISO_IR 999", "ISO_IR 100", None])
def test_a_wrong_character_set_spoils_the_name_alone(
    listening: Listening, tmp_path: Path, declared: str | None
) -> None:
    device = listening()
    path = write_still(
        tmp_path / "a.dcm",
        SpecificCharacterSet="ISO_IR 192",
        PatientName="王^小",
        StudyInstanceUID=STUDY,
    )
    wrong = path.read_bytes().replace(b"ISO_IR 192", (declared or "").ljust(10).encode())
    path.write_bytes(wrong)
    assert send(device.port, path).returncode == 0
    identity = device.received[device.read(60).name or ""]
    assert (identity.patient_id, identity.study) == (PATIENT, STUDY)


def bomb(path: Path) -> Path:
    """A header of 30,000 x 30,000 pixels over a few bytes."""
    write_still(path)
    data = path.read_bytes()
    for tag in (b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x11\x00US\x02\x00"):
        place = data.index(tag) + len(tag)
        data = data[:place] + struct.pack("<H", 30_000) + data[place + 2 :]
    path.write_bytes(data)
    return path


def many_frames(path: Path) -> Path:
    """2.45 thousand million pixels in 38 MB."""
    side, frames = 7000, 50
    run = bytes([256 - 127, 0]) * (side * side // 128 + 1)
    one = struct.pack("<16I", 1, 64, *[0] * 14) + run
    return write_dicom(
        path,
        GREY,
        TransferSyntaxUID=uid.RLELossless,
        NumberOfFrames=frames,
        Rows=side,
        Columns=side,
        PixelData=encapsulate([one] * frames),
    )


def cut_off(path: Path) -> Path:
    return write_dicom(path, GREY, **STILL, PixelData=b"\0" * 100)


def without_pixels(path: Path) -> Path:
    return write_dicom(path, GREY, **STILL, PixelData=None)


@pytest.mark.parametrize(
    ("make", "coding"),
    [
        (bomb, "-xy"),
        (many_frames, "-xr"),
        (panics, "-xr"),
        (cut_off, "-xy"),
        (without_pixels, "-xy"),
    ],
)
def test_a_broken_object_is_refused_and_counted_and_the_next_one_is_taken(
    listening: Listening, tmp_path: Path, make: Callable[[Path], Path], coding: str
) -> None:
    device = listening()
    done = send(device.port, make(tmp_path / "broken.dcm"), coding=coding)
    assert "Received Store Response (Error: CannotUnderstand)" in done.stdout
    assert device.damaged == 1
    (note,) = device.notes
    assert note.startswith("an object was refused: ")
    assert "/" not in note
    assert send(device.port, write_still(tmp_path / "good.dcm")).returncode == 0
    assert np.array_equal(device.read(60).pixels, GREY)


def test_an_object_beyond_the_limit_ends_its_association_alone(
    listening: Listening, tmp_path: Path
) -> None:
    device = listening("?max_mb=0.01")
    large = write_dicom(tmp_path / "large.dcm", np.zeros((2000, 2000), np.uint8), **STILL)
    assert send(device.port, large).returncode != 0
    assert send(device.port, write_still(tmp_path / "small.dcm")).returncode == 0
    assert np.array_equal(device.read(60).pixels, GREY)


def test_a_caller_waits_for_room_and_is_then_told_to_try_again(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_listen, "MAX_WAITING", 1)
    monkeypatch.setattr(dicom_listen, "ROOM_SECONDS", 0.1)
    device = listening()
    paths = [write_still(tmp_path / f"{number}.dcm") for number in range(2)]
    done = send(device.port, *paths)
    assert "Refused: OutOfResources" in done.stdout
    assert device.notes == {"an object was refused: too many objects wait": 1}
    device.read(60)
    assert send(device.port, paths[1]).returncode == 0


def test_objects_that_wait_are_bounded_in_bytes_and_a_larger_object_waits_alone(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_listen, "MAX_WAITING_BYTES", 1)
    monkeypatch.setattr(dicom_listen, "ROOM_SECONDS", 0.1)
    device = listening()
    paths = [write_still(tmp_path / f"{number}.dcm") for number in range(2)]
    assert "Refused: OutOfResources" in send(device.port, *paths).stdout
    device.read(60)
    assert send(device.port, paths[1]).returncode == 0


@pytest.mark.parametrize(
    ("options", "calling", "called", "admitted"),
    [
        ("", "ANY", "SONOLITE", True),
        ("", "ANY", "OTHER", False),
        ("?ae=ROOM-3", "ANY", "ROOM-3", True),
        ("?allow=CART,ECHO", "ECHO", "SONOLITE", True),
        ("?allow=CART,ECHO", "ANY", "SONOLITE", False),
        ("?hosts=127.0.0.0/8", "ANY", "SONOLITE", True),
        ("?hosts=10.0.0.5,10.1.0.0/16", "ANY", "SONOLITE", False),
    ],
)
def test_only_those_who_may_send_do(
    listening: Listening, tmp_path: Path, options: str, calling: str, called: str, admitted: bool
) -> None:
    device = listening(options)
    done = send(device.port, write_still(tmp_path / "a.dcm"), calling=calling, called=called)
    assert (done.returncode == 0) == admitted
    assert len(device.received) == admitted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("dicom-listen:0.0.0.0:104", "anybody on the network could send"),
        ("dicom-listen:[::]:104", "anybody on the network could send"),
        ("dicom-listen:104?port=3", "the options after [?] are ae, allow, hosts, max_mb"),
        ("dicom-listen:104?ae", "is expected"),
        ("dicom-listen:104?ae=A&ae=B", "is expected"),
        ("dicom-listen:99999", "is expected"),
        ("dicom-listen:scanner:104", "HOST an address of this machine"),
        ("dicom-listen:104?ae=MORE-THAN-16-LETTERS", "a title has 1 to 16"),
        ("dicom-listen:104?allow=", "a title has 1 to 16"),
        ("dicom-listen:104?hosts=cart", "is expected"),
        ("dicom-listen:104?max_mb=nan", "is expected"),
        ("dicom-listen:104?max_mb=0", "is expected"),
    ],
)
def test_a_uri_that_says_no_listener_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_listen(SourceUri(text))


def test_a_listener_is_at_home_on_loopback_unless_it_is_told_otherwise() -> None:
    settings = parse_listen(SourceUri("dicom-listen:"))
    assert (settings.host, settings.port, settings.title) == ("127.0.0.1", 11112, "SONOLITE")
    settings = parse_listen(SourceUri("dicom-listen:0.0.0.0:104?allow=CART"))
    assert (settings.host, settings.port, settings.callers) == ("0.0.0.0", 104, ("CART",))


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadInput, match=f"dicom-listen:127.0.0.1:{port}: cannot listen there"):
            open_device(f"dicom-listen:127.0.0.1:{port}")


def test_bytes_that_are_no_dicom_harm_nobody(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_server, "NEGOTIATION_SECONDS", 0.2)
    device = listening()
    held = [socket.create_connection(("127.0.0.1", device.port)) for _ in range(MAX_CALLERS)]
    try:
        held[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        held[1].sendall(b"\x01\x00\xff\xff\xff\xff")
        held[2].sendall(b"\x04\x00\x00\x00\x00\x10" + bytes(16))
    finally:
        for each in held:
            each.close()
    for _ in range(100):
        if send(device.port, write_still(tmp_path / "a.dcm")).returncode == 0:
            break
    assert np.array_equal(device.read(60).pixels, GREY)


def test_a_message_that_is_too_large_is_not_read(listening: Listening) -> None:
    device = listening()
    with socket.create_connection(("127.0.0.1", device.port), 20) as caller:
        caller.sendall(b"\x01\x00" + (2 * dicom_server.MAX_PDU_BYTES).to_bytes(4, "big"))
        with suppress(ConnectionError):
            assert caller.recv(1) in (b"", b"\x07"), "neither closed nor aborted"


def test_nothing_that_a_caller_says_is_warned_of(
    listening: Listening, recwarn: pytest.WarningsRecorder
) -> None:
    def item(kind: int, content: bytes) -> bytes:
        return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content

    names = b"\0\1\0\0" + b"SONOLITE".ljust(16) + b"CART".ljust(16) + bytes(32)
    classes = item(0x30, b"Doe^Jane") + item(0x40, b"1.2.840.10008.1.2")
    items = item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, b"\1\0\0\0" + classes)
    words = names + items + item(0x50, item(0x51, bytes([0, 1, 0, 0])))
    device = listening()
    with socket.create_connection(("127.0.0.1", device.port), 20) as caller:
        caller.sendall(b"\x01\x00" + len(words).to_bytes(4, "big") + words)
        assert caller.recv(1) == b"\x02", "it was not accepted"
    assert not recwarn.list


def test_a_caller_that_goes_in_the_midst_of_an_object_leaves_no_file(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "parts"))
    (tmp_path / "parts").mkdir()
    device = listening("?max_mb=0.01")
    large = write_dicom(tmp_path / "large.dcm", np.zeros((2000, 2000), np.uint8), **STILL)
    send(device.port, large)
    send(device.port, write_still(tmp_path / "small.dcm"))
    device.read(60)
    end = time.monotonic() + 60
    while [*(tmp_path / "parts").iterdir()]:
        assert time.monotonic() < end


def open_parts(folder: Path) -> list[str]:
    """Files of the folder that are open here; `(deleted)` follows a name that is gone."""
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(each.readlink()))
    return [link for link in links if link.startswith(str(folder))]


def test_an_object_that_is_coming_has_no_name(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    device = listening()
    context = build_context(uid.UltrasoundImageStorage, uid.ExplicitVRLittleEndian)
    caller = AE("CART").associate("127.0.0.1", device.port, [context], ae_title="SONOLITE")
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = context.abstract_syntax, STUDY
    request.DataSet = BytesIO(bytes(100_000))
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    for part in islice(message.encode_msg(1, 16_382), 3):
        caller.dul.send_pdu(part)
    end = time.monotonic() + 60
    while not any(link.endswith("(deleted)") for link in open_parts(tmp_path)):
        assert time.monotonic() < end
    assert [*tmp_path.iterdir()] == []
    caller.abort()
    while open_parts(tmp_path):
        assert time.monotonic() < end


def test_an_object_that_came_at_once_has_no_name(
    listening: Listening, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parts := tmp_path / "parts").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(parts))
    names: list[list[Path]] = []
    decode = dicom_listen._decode

    def decode_and_look(path: Path) -> int:
        names.append([*parts.iterdir()])
        return decode(path)

    monkeypatch.setattr(dicom_listen, "_decode", decode_and_look)
    assert send(listening().port, write_still(tmp_path / "a.dcm")).returncode == 0
    assert names == [[]]


def test_silence_is_told_once_and_ends_with_a_picture(listening: Listening, tmp_path: Path) -> None:
    now = [100.0]
    device = listening(clock=lambda: now[0])
    with pytest.raises(NothingSent, match=AWAITED):
        device.read(0.01)
    with pytest.raises(DeviceStalled) as stalled:
        device.read(0.01)
    assert not isinstance(stalled.value, NothingSent)
    send(device.port, write_still(tmp_path / "a.dcm"))
    device.read(60)
    with pytest.raises(DeviceStalled) as stalled:  # the picture stays for a while
        device.read(0.01)
    assert not isinstance(stalled.value, NothingSent)
    now[0] += dicom_listen.SHOWN_SECONDS
    with pytest.raises(NothingSent):
        device.read(0.01)


def test_a_message_that_makes_no_sense_leaves_no_traceback(
    listening: Listening, capfd: pytest.CaptureFixture[str]
) -> None:
    """pynetdicom stumbles over it in a thread of its own, whose traceback may quote it."""
    device = listening()
    context = build_context(uid.UltrasoundImageStorage, uid.ExplicitVRLittleEndian)
    caller = AE("CART").associate("127.0.0.1", device.port, [context], ae_title="SONOLITE")
    kind_missing = b"\1\3" + struct.pack("<HHIH", 0, 0x800, 2, 0x101)
    length = struct.pack(">I", len(kind_missing))
    message = struct.pack(">BBI", 4, 0, len(length + kind_missing)) + length + kind_missing
    connection: Any = caller.dul.socket
    connection.socket.sendall(message)
    end = time.monotonic() + 60
    while device._server._server.active_associations:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert "Traceback" not in capfd.readouterr().err
