"""Servers of streams: a scripted one over HTTP, and one of RTSP."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV, the extra `stream`")

PERIOD = 0.02
"""Seconds between two frames that a server sends live."""
SIDE = 64

Send = Callable[[bytes], None]
Play = Callable[[Send, threading.Event], None]


def jpeg(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def grey(level: int, side: int = SIDE) -> bytes:
    return jpeg(np.full((side, side), level, np.uint8))


@contextmanager
def serving(play: Play, trailing: bool = False) -> Iterator[str]:
    """A server of MJPEG over HTTP that plays to each who asks; yields host, port and path.

    With `trailing` the boundary follows each picture, and does not precede the first.

    `play` sends one picture after the other, and may wait for the event, which is set at the end.
    """
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/live":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()

            def send(picture: bytes) -> None:
                head = (
                    f"Content-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
                )
                edge, content = b"--frame\r\n", head + picture + b"\r\n"
                self.wfile.write(content + edge if trailing else edge + content)

            with suppress(BrokenPipeError, ConnectionResetError):  # whoever watched has left
                play(send, over)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as host:
        try:
            yield f"{host}/live"
        finally:
            over.set()


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server in a thread; yields host and port. At the end it waits for its answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def live(*pictures: bytes) -> Play:
    """Sends the pictures over and over, each in its time."""

    def play(send: Send, over: threading.Event) -> None:
        while True:
            for picture in pictures:
                send(picture)
                if over.wait(PERIOD):
                    return

    return play


RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(sys.argv[2])
media = GstRtspServer.RTSPMediaFactory.new()
media.set_shared(True)
media.set_launch(sys.argv[1])
server.get_mount_points().add_factory("/live", media)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""

SOURCE = "( videotestsrc is-live=true pattern=red ! video/x-raw,format=I420,width=320,height=240,"

H264 = (
    SOURCE + "framerate=25/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! "
    "rtph264pay name=pay0 pt=96 )"
)


@contextmanager
def rtsp(launch: str, port: str = "0") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """GStreamer's RTSP server, with the system's Python; yields the URI and the process."""
    python = "/usr/bin/python3"
    server = subprocess.Popen(
        [python, "-c", RTSP_SERVER, launch, port],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            pytest.skip("needs python3-gi and gir1.2-gst-rtsp-server-1.0 of the system")
        yield f"rtsp://127.0.0.1:{port}/live", server
    finally:
        server.kill()
        server.communicate()
