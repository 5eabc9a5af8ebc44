"""The viewers of a view. Each has a slot of one result, so that a slow viewer costs nothing.

A viewer says which messages it has drawn. No more than WINDOW messages are on their way to it, so
that the buffers of the network hold no old pictures.
"""

import asyncio
import json
import time
from collections import deque
from typing import Any

from devices import Clock
from edge_runtime.view.admission import Role

MAX_VIEWERS = 16
"""Viewers at a time."""
WINDOW = 2
"""Messages on their way to a viewer: one is decoded while the next is sent. A page near the server
keeps one confirmation back: there the next would only wait, and grow old."""
MAX_NOTES = 32
"""Answers that wait for a viewer; a newer answer replaces the oldest."""
COMMANDS_A_SECOND, COMMAND_BURST = 5.0, 10.0
"""Commands that a viewer may give in the long run, and at once."""
STALLED_SECONDS = 30.0
"""Seconds after which a viewer that draws nothing is disconnected; the page connects again."""


class Stalled(Exception):
    """The viewer draws nothing."""


class Viewer:
    """One viewer; for the thread of the server alone."""

    def __init__(self, role: Role, clock: Clock = time.monotonic) -> None:
        self._role, self._clock = role, clock
        self._message: bytes | None = None
        self._changed = asyncio.Event()
        self._unconfirmed = 0
        self._confirmed_at = clock()
        self._notes: deque[str] = deque(maxlen=MAX_NOTES)
        self._allowance, self._counted_at = COMMAND_BURST, clock()

    def offer(self, message: bytes) -> None:
        """Puts a message into the slot; an older message that is still there is given up."""
        self._message = message
        self._changed.set()

    def introduce(self, facts: dict[str, Any]) -> None:
        """Tells the facts of a new session; a result of the session before is given up."""
        self._message = None
        self.note(json.dumps({"facts": {**facts, "role": self._role}}))

    def note(self, text: str) -> None:
        """Adds a text that goes out before the slot."""
        self._notes.append(text)
        self._changed.set()

    def may_command(self) -> bool:
        """Whether the viewer may give another command now; counts it."""
        now = self._clock()
        grown = self._allowance + COMMANDS_A_SECOND * (now - self._counted_at)
        self._allowance, self._counted_at = min(COMMAND_BURST, grown), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def confirm(self) -> None:
        """Notes that the viewer has drawn a message."""
        self._unconfirmed = max(0, self._unconfirmed - 1)
        self._confirmed_at = self._clock()
        self._changed.set()

    async def take(self, timeout: float) -> bytes | str | None:
        """The oldest note, else the newest message, once the viewer is ready for it.

        None after `timeout` seconds. Raises Stalled where the viewer has drawn nothing for
        STALLED_SECONDS.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._notes and (self._message is None or not self.ready):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            if not self.ready and self._clock() - self._confirmed_at > STALLED_SECONDS:
                raise Stalled from None
            return None
        if self._notes:
            return self._notes.popleft()
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

    def join(self, role: Role) -> Viewer | None:
        """A new viewer; None where there are MAX_VIEWERS."""
        if len(self._viewers) >= MAX_VIEWERS:
            return None
        viewer = Viewer(role)
        self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forgets a viewer."""
        self._viewers.discard(viewer)

    def publish(self, message: bytes) -> None:
        """Offers a message to every viewer."""
        for viewer in self._viewers:
            viewer.offer(message)

    def introduce(self, facts: dict[str, Any]) -> None:
        """Tells every viewer the facts of a new session."""
        for viewer in self._viewers:
            viewer.introduce(facts)
