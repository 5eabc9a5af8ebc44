"""A V4L2 device made of FUSE: the kernel passes ioctl, poll and mmap of a file on to this process.

    python fake_v4l2.py FOLDER MODES

serves FOLDER/video0, which offers MODES, `FOURCC WIDTH HEIGHT FPS` and so on, and obeys words on
its standard input: live, silent, blue, bars, gone, and for MJPG cut, holed and other (size). It
needs the right to mount. Three formats are YUYV: RANGE offers all sizes and rates up to its own,
MUTE tells neither, and LIE is offered and never given.
The protocols are those of linux/fuse.h and linux/videodev2.h.
"""

import ctypes
import errno
import os
import select
import struct
import sys
import threading
import time
from typing import Any

import cv2
import numpy as np

FILE = 2
"""Inode; the folder is 1."""
PAGE = 4096
CHUNK = 16 * PAGE
INIT, LOOKUP, FORGET, GETATTR, OPEN, READ, RELEASE = 26, 1, 2, 3, 14, 15, 18
FLUSH, INTERRUPT, DESTROY, IOCTL, POLL = 25, 36, 38, 39, 40
NOTIFY_POLL, NOTIFY_STORE = 1, 4
BUFFERS = 4


class Device:
    """The file and what it streams."""

    def __init__(self, fuse: int, modes: list[tuple[str, int, int, float]]) -> None:
        self.fuse, self.modes = fuse, modes
        self.mode = modes[0]
        self.what = "live"
        self.changed = threading.Condition()
        self.streaming = False
        self.memory = bytearray(BUFFERS * self.stride)
        self.queued: list[int] = []
        self.done: list[tuple[int, int]] = []
        self.polls: list[int] = []
        self.count = 0

    @property
    def stride(self) -> int:
        """Bytes from one buffer to the next: whole pages."""
        size = 2 * max(width * height for _, width, height, _ in self.modes)
        return -(-size // PAGE) * PAGE

    def reply(self, unique: int, data: bytes = b"", error: int = 0) -> None:
        os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)

    def notify(self, code: int, data: bytes) -> None:
        try:
            os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), code, 0) + data)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def attributes(self, node: int) -> bytes:
        mode, size = (0o40755, 0) if node == 1 else (0o100666, BUFFERS * self.stride)
        return struct.pack("<6Q10I", node, size, 0, *[0] * 6, mode, 1, 0, 0, 0, PAGE, 0)

    def serve(self) -> None:
        """Answers the kernel until the folder is unmounted."""
        while True:
            try:
                request = os.read(self.fuse, 1 << 20)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return
            _, operation, unique, node, *_ = struct.unpack_from("<IIQQIII4x", request)
            body = request[40:]
            if operation in (FORGET, INTERRUPT):
                continue
            try:
                self.reply(unique, self.answer(operation, node, body))
            except OSError as error:
                self.reply(unique, error=error.errno or errno.EIO)
            if operation == DESTROY:
                return

    def answer(self, operation: int, node: int, body: bytes) -> bytes:
        if operation == INIT:
            major, minor = struct.unpack_from("<II", body)
            flags = (0, 0, 12, 12, 1 << 17, 1, 32, 0)
            return struct.pack("<IIIIHHIIHH", major, min(minor, 31), *flags).ljust(64, b"\0")
        if operation == LOOKUP:
            if body.rstrip(b"\0") != b"video0" or self.what == "gone":
                raise OSError(errno.ENOENT, "")
            return struct.pack("<4Q2I", FILE, 1, 0, 0, 0, 0) + self.attributes(FILE)
        if operation == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if operation == OPEN:
            return struct.pack("<QII", 1, 2, 0)  # what is in the page cache stays there
        if operation == READ:
            _, start, size = struct.unpack_from("<QQI", body)
            return bytes(self.memory[start : start + size])  # the kernel dropped the page
        if operation == POLL:
            return self.poll(*struct.unpack_from("<QQII", body))
        if operation == IOCTL:
            _, _, command, _, _, room = struct.unpack_from("<QIIQII", body)
            out = bytearray(body[32:].ljust(max(room, len(body) - 32), b"\0"))
            with self.changed:
                self.control(command & 0xFF, out)
            return struct.pack("<iIII", 0, 0, 0, 0) + bytes(out[:room])
        if operation in (FLUSH, RELEASE, DESTROY):
            return b""
        raise OSError(errno.ENOSYS, "")

    def poll(self, _: int, handle: int, flags: int, __: int) -> bytes:
        with self.changed:
            if flags & 1:
                self.polls.append(handle)
            events = select.POLLIN | 0x40 if self.done else 0
            if self.what == "gone":
                events = select.POLLERR | select.POLLHUP
        return struct.pack("<II", events, 0)

    def control(self, number: int, its: bytearray) -> None:
        """One ioctl of V4L2; changes `its`, the structure."""
        if self.what == "gone":
            raise OSError(errno.ENODEV, "")
        words = struct.unpack_from(f"<{len(its) // 4}I", its)

        def write(place: int, *values: int) -> None:
            struct.pack_into(f"<{len(values)}I", its, place, *values)

        fourccs = list(dict.fromkeys(map(code, self.modes)))
        said = {mode[0] for mode in self.modes}
        match number:
            case 0:  # QUERYCAP
                its[:48] = b"fake".ljust(16, b"\0") + b"Fake grabber".ljust(32, b"\0")
                write(80, 6 << 16, 0x84000001, 0x04000001)
            case 2:  # ENUM_FMT
                write(44, pick(fourccs, words[0]))
            case 74 | 75 if "MUTE" in said and "LIE" not in said:
                raise OSError(errno.ENOTTY, "")
            case 74 if "RANGE" in said and not words[0]:
                write(8, 3, 64, self.mode[1], 2, 64, self.mode[2], 2)
            case 75 if "RANGE" in said and not words[0]:
                write(16, 3, 1, int(self.mode[3]), 1, 5, 1, 100)
            case 74:  # ENUM_FRAMESIZES
                sizes = list(dict.fromkeys(m[1:3] for m in self.modes if code(m) == words[1]))
                write(8, 1, *pick(sizes, words[0]))
            case 75:  # ENUM_FRAMEINTERVALS
                asked = (words[1], words[2], words[3])
                rates = [int(m[3]) for m in self.modes if (code(m), *m[1:3]) == asked]
                write(16, 1, 1, pick(rates, words[0]))
            case 4 | 5 | 64:  # G_FMT, S_FMT, TRY_FMT
                if number != 4:
                    width, height, wanted = words[2:5]
                    self.mode = min(
                        [m for m in self.modes if m[0] != "LIE"],
                        key=lambda m: (code(m) != wanted, abs(m[1] - width) + abs(m[2] - height)),
                    )
                _, width, height, _ = self.mode
                write(8, width, height, code(self.mode), 1, 2 * width, 2 * width * height, 8)
            case 21 | 22:  # G_PARM, S_PARM
                if number == 22 and words[3]:
                    same = [m for m in self.modes if m[:3] == self.mode[:3]]
                    self.mode = min(same, key=lambda m: abs(m[3] - words[4] / words[3]))
                write(4, 0x1000, 0, 1, int(self.mode[3]))
            case 8:  # REQBUFS
                self.queued, self.done = [], []
                write(0, min(words[0], BUFFERS))
            case 9:  # QUERYBUF
                write(64, words[0] * self.stride, 0, self.stride)
            case 15:  # QBUF
                self.queued.append(words[0])
                self.changed.notify_all()
            case 17:  # DQBUF
                if not self.done:
                    raise OSError(errno.EAGAIN, "")
                index, size = self.done.pop(0)
                write(0, index, 1, size)
                write(60, 1)
                write(64, index * self.stride, 0, self.stride)
            case 18 | 19:  # STREAMON, STREAMOFF
                self.streaming = number == 18
                self.queued = self.queued if self.streaming else []
                self.changed.notify_all()
            case _:
                raise OSError(errno.ENOTTY, "")

    def stream(self) -> None:
        """Fills one queued buffer after the other, each in its time."""
        while True:
            with self.changed:
                self.changed.wait_for(
                    lambda: self.streaming and self.queued and self.what not in ("silent", "gone")
                )
                index, mode = self.queued.pop(0), self.mode
                self.count += 1
                what = self.what
            data = picture(mode, self.count, what)
            padded = data.ljust(-(-len(data) // PAGE) * PAGE, b"\0")
            offset = index * self.stride
            self.memory[offset : offset + len(padded)] = padded
            for start in range(0, len(padded), CHUNK):
                chunk, at = padded[start : start + CHUNK], offset + start
                self.notify(NOTIFY_STORE, struct.pack("<QQII", FILE, at, len(chunk), 0) + chunk)
            time.sleep(1 / mode[3])
            with self.changed:
                self.done.append((index, len(data)))
            self.wake()

    def wake(self) -> None:
        with self.changed:
            handles, self.polls = self.polls, []
        for handle in handles:
            self.notify(NOTIFY_POLL, struct.pack("<Q", handle))


def code(mode: tuple[str, int, int, float]) -> int:
    fourcc = "YUYV" if mode[0] in ("RANGE", "MUTE", "LIE") else mode[0]
    return int.from_bytes(fourcc.encode(), "little")


def pick(items: list[Any], index: int) -> Any:
    if index >= len(items):
        raise OSError(errno.EINVAL, "")
    return items[index]


def picture(mode: tuple[str, int, int, float], count: int, what: str) -> bytes:
    """Noise of which the upper left block has the brightness 10 times `count`; or a fault."""
    fourcc, width, height, _ = mode
    if what == "other":
        width, height = width // 2, height // 2
    colours = np.random.default_rng(count).integers(0, 256, (height, width, 1), dtype=np.uint8)
    screen = np.repeat(colours, 3, axis=2)
    screen[:64, :64] = 10 * count % 250
    if what == "blue":
        screen[:] = (200, 10, 10)
    if what == "bars":
        screen[:] = np.array(
            [[255 * (bar >> bit & 1) for bit in range(3)] for bar in range(8)], np.uint8
        )[np.arange(width) * 8 // width]
    if fourcc == "MJPG":
        data = cv2.imencode(".jpg", screen)[1].tobytes()
        middle = len(data) // 2
        match what:
            case "cut":
                return data[:middle]
            case "holed":
                return data[:middle] + bytes(PAGE) + data[middle + PAGE :]
        return data
    yuv = cv2.cvtColor(screen, cv2.COLOR_BGR2YCrCb)
    light = 1 if fourcc == "UYVY" else 0
    packed = np.empty((height, width, 2), np.uint8)
    packed[..., light] = np.rint(16 + yuv[..., 0] * (219 / 255))
    packed[:, 0::2, 1 - light] = yuv[:, 0::2, 2]
    packed[:, 1::2, 1 - light] = yuv[:, 0::2, 1]
    return packed.tobytes()


def main() -> None:
    folder, *words = sys.argv[1:]
    rows = [words[start : start + 4] for start in range(0, len(words), 4)]
    modes = [(row[0], int(row[1]), int(row[2]), float(row[3])) for row in rows]
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        sys.exit("no /dev/fuse")
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"fake", folder.encode(), b"fuse.v4l2", 0, options):
        sys.exit("no right to mount")
    device = Device(fuse, modes)
    for work in (device.serve, device.stream):
        threading.Thread(target=work, daemon=True).start()
    print("ready", flush=True)
    try:
        for line in sys.stdin:
            with device.changed:
                device.what = line.strip()
                device.changed.notify_all()
            device.wake()
            print("done", flush=True)
    finally:
        libc.umount2(folder.encode(), 2)


if __name__ == "__main__":
    main()
