"""OpenIGTLink: pyigtl's server, and one of the test's own that says whatever it likes."""

import signal
import socket
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pyigtl
import pytest
from fastcrc.crc64 import ecma_182
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput, DeviceLost, DeviceStalled, HardwareMissing
from devices.capture.igtl import MAX_DAMAGED, MAX_IMAGE, Igtl
from devices.capture.phantom import Phantom
from devices.capture.source_uri import SourceUri

GREY = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
RGB = np.stack([GREY, GREY // 2, GREY // 3], axis=-1)


def message(
    body: bytes,
    kind: bytes = b"IMAGE",
    device: bytes = b"Probe",
    version: int = 1,
    size: int | None = None,
    crc: int | None = None,
) -> bytes:
    """A header and its body; `size` and `crc` replace the true ones."""
    size = len(body) if size is None else size
    crc = ecma_182(body) if crc is None else crc
    return struct.pack(">H12s20sQQQ", version, kind, device, 0, size, crc) + body


def image(
    pixels: NDArray[np.uint8],
    layout: int = 1,
    components: int | None = None,
    scalar: int = 3,
    endian: int = 2,
    depth: int = 1,
    offset: tuple[int, int, int] = (0, 0, 0),
    part: tuple[int, int, int] | None = None,
) -> bytes:
    """The body of an IMAGE of uint8 `[H, W]` or `[H, W, C]`."""
    height, width = pixels.shape[:2]
    components = components or (pixels.shape[2] if pixels.ndim == 3 else 1)
    size = (width, height, depth)
    head = struct.pack(">HBBBB3H", layout, components, scalar, endian, 1, *size)
    return head + bytes(48) + struct.pack(">6H", *offset, *(part or size)) + pixels.tobytes()


def extended(content: bytes, index: bytes = b"", metadata: bytes = b"", more: bytes = b"") -> bytes:
    """The body of a message of header version 2."""
    head = struct.pack(">HHII", 12 + len(more), len(index), len(metadata), 7)
    return head + more + content + index + metadata


@contextmanager
def connected(
    path: str = "", clock: Callable[[], float] = lambda: 0.0
) -> Iterator[tuple[Igtl, socket.socket]]:
    """A device, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Igtl(f"igtl://127.0.0.1:{port}{path}", clock) as device:
            peer, _ = listener.accept()
            with peer:
                yield device, peer


def events(data: bytes, path: str = "") -> list[str | NDArray[np.uint8]]:
    """Pictures and errors' lines that the device gives of `data`, after which the server goes."""
    found: list[str | NDArray[np.uint8]] = []
    with connected(path) as (device, peer):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        while True:
            try:
                found.append(device.read(5.0).pixels)
            except BadInput as error:
                found.append(str(error))
            except DeviceLost as error:
                assert all("\n" not in line for line in found if isinstance(line, str))
                return [*found, str(error)]


@pytest.fixture
def server() -> Iterator[pyigtl.OpenIGTLinkServer]:
    """pyigtl's server, which takes the process's signals for itself."""
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    server = pyigtl.OpenIGTLinkServer(port=0)
    yield server
    server.stop()
    for number, handler in handlers:
        signal.signal(number, handler)


def test_a_real_server_sends_grey_and_colour(server: pyigtl.OpenIGTLinkServer) -> None:
    screen = Phantom(live=False).render(40)
    grey = np.ascontiguousarray(screen[:, :, 0])
    with Igtl(f"igtl://127.0.0.1:{server.server_address[1]}/Ultrasound") as device:
        for pixels in (grey[np.newaxis], screen[np.newaxis, :, :, ::-1]):
            sent = pyigtl.ImageMessage(pixels, device_name="Ultrasound")
            server.send_message(sent, wait=False)
        frames = [device.read(5.0) for _ in range(2)]
        server.stop()
        with pytest.raises(DeviceLost):
            device.read(5.0)
    assert np.array_equal(frames[0].pixels, grey)
    assert np.array_equal(frames[1].pixels, screen)


def test_a_real_server_sends_metadata(server: pyigtl.OpenIGTLinkServer) -> None:
    sent = pyigtl.ImageMessage(GREY[np.newaxis], device_name="Ultrasound")
    sent.header_version, sent.metadata = 2, {"Depth": "4 cm", "Status": "OK"}
    with Igtl(f"igtl://127.0.0.1:{server.server_address[1]}") as device:
        server.send_message(pyigtl.TransformMessage(device_name="Stylus"), wait=False)
        server.send_message(sent, wait=False)
        assert np.array_equal(device.read(5.0).pixels, GREY)


def test_a_crc_of_0_is_refused_with_the_switch_that_takes_it() -> None:
    *_, lost = events(3 * message(image(GREY), crc=0))
    assert isinstance(lost, str)
    assert "the CRC is wrong, 3 times in a row, and 0; ?crc=ignore at the end" in lost


def test_a_crc_of_0_is_taken_where_it_is_asked_for_and_no_other_wrong_one() -> None:
    data = message(image(GREY), crc=0) + message(image(GREY), crc=1) + message(image(255 - GREY))
    first, second, *_ = events(data, "/Probe?crc=ignore")
    assert np.array_equal(first, GREY)
    assert np.array_equal(second, 255 - GREY)


def test_no_other_query_is_taken() -> None:
    with pytest.raises(BadInput, match=r"\?crc=ignore"):
        Igtl("igtl://127.0.0.1:1/Probe?crc=no")


def test_the_crc_is_that_of_ecma_182() -> None:
    assert ecma_182(b"123456789") == 0x6C40DF5F0B497347  # the catalogue's check value
    # The STATUS message among the test data of the reference implementation.
    words = (15, 10, b"ACTUATOR_DISABLED", b"Actuator A is disabled.")
    assert ecma_182(struct.pack(">HQ20s24s", *words)) == 0x98EE43EED8E431CF


def test_frames_are_counted_and_stamped_when_they_come() -> None:
    """The second one lay there already, perhaps since nothing else did."""
    ticks = iter((0.0, *(1.0, 1.1), *(1.2, 1.201)))
    with connected(clock=lambda: next(ticks)) as (device, peer):
        peer.sendall(2 * message(image(GREY)))
        frames = [device.read(5.0) for _ in range(2)]
    assert [(frame.index, frame.captured_at, frame.timestamp) for frame in frames] == [
        (0, 1.1, 1.1),
        (1, 1.1, 1.1),
    ]


def test_what_a_server_held_back_is_as_old_as_its_silence() -> None:
    data = message(image(GREY))
    with connected(clock=time.monotonic) as (device, peer):

        def play() -> None:
            for _ in range(5):
                peer.sendall(data)
                time.sleep(0.03)
            time.sleep(2.0)
            peer.sendall(5 * data)
            for _ in range(3):
                time.sleep(0.03)
                peer.sendall(data)

        server = threading.Thread(target=play)
        server.start()
        ages = []
        for _ in range(13):
            frame = device.read(5.0)
            ages.append(time.monotonic() - frame.captured_at)
        server.join()
    assert np.median(ages[:5]) < 1.0
    assert min(ages[5:10]) > 1.75
    assert min(ages[10:]) < 1.0


def test_a_message_in_single_bytes_is_put_together() -> None:
    data = message(image(GREY))
    with connected() as (device, peer):
        for byte in data[:-1]:
            peer.send(bytes([byte]))
            with pytest.raises(DeviceStalled):
                device.read(0.0)
        peer.send(data[-1:])
        assert np.array_equal(device.read(5.0).pixels, GREY)


def test_pictures_sent_at_once_come_in_their_order() -> None:
    first, second, lost = events(message(image(GREY)) + message(image(255 - GREY)))
    assert np.array_equal(first, GREY)
    assert np.array_equal(second, 255 - GREY)
    assert "closed" in lost


@pytest.mark.parametrize(
    ("sent", "expected"),
    [(RGB, RGB[:, :, ::-1]), (np.dstack([RGB, GREY]), RGB[:, :, ::-1]), (GREY[:, :, None], GREY)],
)
def test_colours_are_turned_to_blue_first(
    sent: NDArray[np.uint8], expected: NDArray[np.uint8]
) -> None:
    assert np.array_equal(events(message(image(sent)))[0], expected)


@pytest.mark.parametrize("endian", [1, 2])
def test_the_byte_order_means_nothing_to_bytes(endian: int) -> None:
    assert np.array_equal(events(message(image(GREY, endian=endian)))[0], GREY)


@pytest.mark.parametrize("version", [2, 3])
def test_headers_and_metadata_around_the_picture_are_left_out(version: int) -> None:
    body = extended(image(GREY), index=b"index", metadata=b"metadata", more=b"more")
    assert np.array_equal(events(message(body, version=version))[0], GREY)


def test_other_messages_are_passed_over() -> None:
    others = message(bytes(48), b"TRANSFORM") + message(b"", b"GET_STATUS") + message(b"?", b"\xff")
    volume = message(bytes(500_000), b"POLYDATA", crc=1)
    found = events(others + volume + message(image(GREY)))
    assert len(found) == 2
    assert np.array_equal(found[0], GREY)


@pytest.mark.parametrize(
    ("path", "device"),
    [
        ("/Probe", b"Probe"),
        ("/My%20Probe", b"My Probe  "),
        ("/S%C3%A9quence", "Séquence".encode()),
        ("/A-very-long-name-of-a-device", b"A-very-long-name-of-"),
    ],
)
def test_a_named_device_is_the_only_one_taken(path: str, device: bytes) -> None:
    data = message(image(255 - GREY), device=b"Other") + message(image(GREY), device=device)
    found = events(data, path)
    assert len(found) == 2
    assert np.array_equal(found[0], GREY)


def test_a_name_in_no_known_letters_is_shown_escaped() -> None:
    line = events(message(image(GREY, depth=2), device=b"\xff\n\x1b[2J"))[0]
    assert "\\n\\x1b[2J" in line


def test_silence_tells_what_came_instead() -> None:
    with connected("/Probe") as (device, peer):
        peer.sendall(message(image(GREY), device=b"Other"))
        with pytest.raises(DeviceStalled, match="'IMAGE' of 'Other'"):
            device.read(0.05)


def test_other_messages_without_end_do_not_hold_a_read() -> None:
    with connected() as (device, peer):
        peer.sendall(1000 * message(b"", b"STATUS") + message(image(GREY)))
        for _ in range(1000):
            with pytest.raises(DeviceStalled):
                device.read(0.0)
        assert np.array_equal(device.read(5.0).pixels, GREY)


def test_a_damaged_message_is_dropped_and_counted() -> None:
    with connected() as (device, peer):
        peer.sendall(message(image(255 - GREY), crc=1) + message(image(GREY)))
        assert np.array_equal(device.read(5.0).pixels, GREY)
        assert device.damaged == 1


def test_damage_without_end_is_a_lost_device() -> None:
    damaged = message(image(GREY), crc=1)
    now_and_then = (MAX_DAMAGED - 1) * damaged + message(image(GREY))
    *whole, lost = events(2 * now_and_then + 9 * damaged)
    assert [np.array_equal(pixels, GREY) for pixels in whole] == [True, True]
    assert "CRC is wrong, 3 times in a row" in lost


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (image(GREY, depth=20), "a volume of 20 planes"),
        (image(GREY, depth=0), "a volume of 0 planes"),
        (image(GREY, scalar=5), "uint16 pixels; window them to 8 bits"),
        (image(GREY, scalar=99), "type 99 pixels"),
        (image(GREY[:, :48].reshape(40, 24, 2)), "2 components"),
        (image(GREY, components=3), "40 x 3 pixels in 2,000 bytes"),
        (image(GREY, layout=2), "version 2 of the image's header"),
        (image(GREY, offset=(0, 1, 0)), "a part of the picture"),
        (image(GREY, part=(50, 20, 1)), "a part of the picture"),
        (image(GREY[:8]), "too few"),
        (image(GREY)[:-1], "in 1,999 bytes"),
        (image(GREY) + b"?", "in 2,001 bytes"),
        (image(GREY)[:71], "too short"),
        (b"", "too short"),
    ],
)
def test_a_picture_that_cannot_be_used_is_refused_and_the_next_is_read(
    body: bytes, said: str
) -> None:
    line, after, _ = events(message(body) + message(image(GREY)))
    assert isinstance(line, str)
    assert line.startswith("igtl://127.0.0.1:")
    assert "'IMAGE' of 'Probe'" in line
    assert said in line
    assert np.array_equal(after, GREY)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (struct.pack(">HHII", 0, 0, 0, 0) + image(GREY), "extended header of 0 bytes"),
        (struct.pack(">HHII", 12, 9, 2**32 - 1, 0) + image(GREY), "too short"),
        (struct.pack(">HHII", 65535, 0, 0, 0) + image(GREY), "too short"),
        (b"short", "too short"),
    ],
)
def test_an_extended_header_that_lies_is_refused(body: bytes, said: str) -> None:
    line, after, _ = events(message(body, version=2) + message(image(GREY)))
    assert said in line
    assert np.array_equal(after, GREY)


def test_a_picture_too_large_is_refused_and_passed_over_in_no_memory() -> None:
    volume = message(bytes(MAX_IMAGE + 1)) + message(image(GREY))
    with connected() as (device, peer):
        sender = threading.Thread(target=peer.sendall, args=(volume,), daemon=True)
        tracemalloc.start()
        sender.start()
        with pytest.raises(BadInput, match="64,000,001 bytes are too many"):
            device.read(5.0)
        pixels = device.read(60.0).pixels
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        sender.join()
    assert np.array_equal(pixels, GREY)
    assert peak < 1_000_000


def test_what_is_promised_and_not_sent_takes_no_memory() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    with connected() as (device, peer):
        before = resident()
        peer.sendall(message(b"abc", size=MAX_IMAGE))
        for _ in range(3):
            with pytest.raises(DeviceStalled):
                device.read(0.0)
        assert resident() - before < 8_000_000


@pytest.mark.parametrize(
    "data",
    [
        message(b"", version=0),
        message(b"", version=4),
        message(b"", size=2**31),
        message(b"", size=2**64 - 1),  # -1 to whoever reads it signed
        message(b"", b"STATUS", size=2**63),
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html; charset=utf-8\r\n\r\n",
    ],
)
def test_what_is_no_openigtlink_is_a_lost_device(data: bytes) -> None:
    (line,) = events(data + message(image(GREY)))
    assert "this is no OpenIGTLink" in line


@pytest.mark.parametrize("count", [0, 1, 57, 58, 59, 130, 2000])
def test_a_message_cut_short_is_a_lost_device(count: int) -> None:
    (line,) = events(message(image(GREY))[:count])
    assert "closed" in line


def test_a_connection_that_breaks_is_a_lost_device() -> None:
    with connected() as (device, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()  # with a reset
        with pytest.raises(DeviceLost, match="reset"):
            device.read(5.0)


def test_a_lost_device_stays_lost() -> None:
    with connected() as (device, peer):
        peer.close()
        for _ in range(2):
            with pytest.raises(DeviceLost):
                device.read(5.0)


def test_closing_ends_a_read_in_another_thread() -> None:
    with connected() as (device, _):
        raised: list[type[Exception]] = []
        begun = threading.Event()

        def read() -> None:
            begun.set()
            try:
                device.read(60.0)
            except DeviceLost as error:
                raised.append(type(error))

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        begun.wait()
        device.close()
        reader.join(60)
        assert raised == [DeviceLost]
        device.close()
        with pytest.raises(DeviceLost):
            device.read(0.0)


def test_no_server_is_missing_hardware() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HardwareMissing, match="no OpenIGTLink server there: Connection refused"):
        Igtl(f"igtl://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "uri",
    [
        "igtl:",
        "igtl://",
        "igtl:///Probe",
        "igtl://127.0.0.1:99999",
        "igtl://127.0.0.1:port",
        "igtl://127.0.0.1:-1",
        "igtl://[::1",
        "igtl://127.0.0.1/Probe?fps=3",
        "igtl://" + 64 * "a",
        "http://127.0.0.1",
    ],
)
def test_another_form_of_uri_is_refused(uri: str) -> None:
    with pytest.raises(BadInput) as refusal:
        Igtl(uri)
    assert str(refusal.value).startswith(str(SourceUri(uri)))


def test_reconnecting_leaves_nothing_behind() -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = held()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(1000):
            with Igtl(f"igtl://127.0.0.1:{listener.getsockname()[1]}") as device:
                listener.accept()[0].close()
                with pytest.raises(DeviceLost):
                    device.read(5.0)
    after = held()
    assert after[0] <= before[0]
    assert after[1] <= before[1]


VALID = message(extended(image(GREY), metadata=b"metadata"), version=2)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid message with some bytes changed, above all in its headers; half with a true CRC."""
    data = bytearray(VALID)
    for at in draw(st.lists(st.integers(0, 141) | st.integers(0, len(data) - 1), max_size=6)):
        data[at] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        data[50:58] = struct.pack(">Q", ecma_182(bytes(data[58:])))
    return bytes(data)


@given(data=st.binary(max_size=400) | mutations())
def test_any_bytes_give_pictures_or_the_named_errors(data: bytes) -> None:
    *found, lost = events(data + VALID)
    assert isinstance(lost, str)
    for event in found:
        assert isinstance(event, str) or event.dtype == np.uint8


@given(pieces=st.lists(st.integers(1, 900), min_size=1, max_size=12))
def test_messages_are_the_same_in_any_pieces(pieces: list[int]) -> None:
    data = 2 * message(image(GREY))
    found = []
    with connected() as (device, peer):
        for piece in [*pieces, len(data)]:
            peer.sendall(data[:piece])
            data = data[piece:]
            with suppress(DeviceStalled):
                found.append(device.read(0.0).pixels)
        while len(found) < 2:
            found.append(device.read(5.0).pixels)
    assert all(np.array_equal(pixels, GREY) for pixels in found)
