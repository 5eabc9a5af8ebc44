"""A bad line: a TCP proxy that damages a share of what it passes on."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PACKET = 1400
"""Bytes, as many as Ethernet carries."""


@contextmanager
def damaging(port: int, share: float, after: int) -> Iterator[int]:
    """A proxy for a server on `port`; yields its own port.

    After so many bytes one byte is replaced in that `share` of the packets from the server.
    """
    dice = random.Random(0)
    pipes: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def passing(source: socket.socket, sink: socket.socket, damage: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := bytearray(source.recv(PACKET)):
                if damage and passed > after and dice.random() < share:
                    data[dice.randrange(len(data))] = dice.randrange(256)
                passed += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", port))
                pipes.extend((near, far))
                for ends in ((near, far, False), (far, near, True)):
                    threads.append(threading.Thread(target=passing, args=ends))
                    threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield listener.getsockname()[1]
        finally:
            for its in (listener, *pipes):
                with suppress(OSError):
                    its.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for pipe in pipes:
                pipe.close()
