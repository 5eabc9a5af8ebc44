"""The viewers of a view. Each has a slot of one message, so that a slow viewer costs nothing.

A viewer says which messages it has drawn. No more than WINDOW messages are on their way to it, so
that the buffers of the network hold no old pictures.
"""

import asyncio
import time

from devices import Clock

MAX_VIEWERS = 16
"""Viewers at a time."""
WINDOW = 2
"""Messages on their way to a viewer: one is decoded while the next is sent."""
STALLED_SECONDS = 30.0
"""A viewer that draws nothing for so long is disconnected; a page connects again by itself."""


class Stalled(Exception):
    """The viewer draws nothing."""


class Viewer:
    """One viewer; for the thread of the server alone."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._message: bytes | None = None
        self._facts: str | None = None
        self._changed = asyncio.Event()
        self._unconfirmed = 0
        self._confirmed_at = clock()

    def offer(self, message: bytes) -> None:
        """Puts a message into the slot; an older message that is still there is given up."""
        self._message = message
        self._changed.set()

    def introduce(self, facts: str) -> None:
        """Puts the facts of a new session before its messages; one of before is given up."""
        self._message, self._facts = None, facts
        self._changed.set()

    def confirm(self) -> None:
        """Notes that the viewer has drawn a message."""
        self._unconfirmed = max(0, self._unconfirmed - 1)
        self._confirmed_at = self._clock()
        self._changed.set()

    async def take(self, timeout: float) -> bytes | str | None:
        """The newest message, once the viewer is ready for it; None after `timeout` seconds.

        Facts come first, as text. Raises Stalled where the viewer has drawn nothing for
        STALLED_SECONDS.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._facts is None and (self._message is None or not self.ready):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if not self.ready and self._clock() - self._confirmed_at > STALLED_SECONDS:
                raise Stalled from None
            return None
        if self._facts is not None:
            facts, self._facts = self._facts, None
            return facts
        message, self._message = self._message, None
        if not self._unconfirmed:
            self._confirmed_at = self._clock()
        self._unconfirmed += 1
        return message

    @property
    def ready(self) -> bool:
        """Whether another message may be sent."""
        return self._unconfirmed < WINDOW


class Viewers:
    """All viewers of a view."""

    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()

    def __len__(self) -> int:
        return len(self._viewers)

    def join(self) -> Viewer | None:
        """A new viewer; None where there are MAX_VIEWERS."""
        if len(self._viewers) >= MAX_VIEWERS:
            return None
        viewer = Viewer()
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forgets a viewer."""
        self._viewers.discard(viewer)

    def publish(self, message: bytes) -> None:
        """Offers a message to every viewer."""
        for viewer in self._viewers:
            viewer.offer(message)

    def introduce(self, facts: str) -> None:
        """Tells every viewer the facts of a new session."""
        for viewer in self._viewers:
            viewer.introduce(facts)
