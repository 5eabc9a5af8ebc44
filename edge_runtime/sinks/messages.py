"""Messages about results: every result, or the changes alone, and the end of each session."""

import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from edge_runtime.results.result import NOTICE, Nodule, Result, to_json

CHANGES, RESULTS = "changes", "results"
MAX_NODULES = 100
"""Nodules that the end of a session names."""


class Messages:
    """Makes the messages of one session after the other. A session begins with a lower sequence
    number than the one before it.
    """

    def __init__(self, send: str) -> None:
        """`send` is CHANGES or RESULTS."""
        self._every = send == RESULTS
        self._session, self._sequence, self._frames = "", -1, 0
        self._last: tuple[object, ...] = ()
        self._begin()

    def of(self, result: Result) -> Iterator[bytes]:
        """The messages of a result, as JSON objects."""
        if result.sequence <= self._sequence:
            yield from self.end()
        self._sequence = result.sequence
        if result.frame is not None:
            self._frames += 1
        self._states[str(result.state)] += 1
        for nodule in result.nodules:
            self._seen[nodule.track] += 1
            if nodule.track in self._nodules or len(self._nodules) < MAX_NODULES:
                self._nodules[nodule.track] = nodule
        now = result.state, tuple((nodule.track, nodule.label) for nodule in result.nodules)
        if self._every or now != self._last:
            head = b'{"kind":"result","session":"' + self._session.encode() + b'","result":'
            yield head + to_json(result).rstrip() + b"}"
            self._last = now  # a change that nobody could take comes again with the next result

    def end(self) -> Iterator[bytes]:
        """The message about the end of the session, if one began; the next session begins."""
        if self._sequence >= 0:
            yield msgspec.json.encode(
                {
                    "kind": "end",
                    "session": self._session,
                    "frames": self._frames,
                    "states": self._states,
                    "nodules": [self._nodule(nodule) for nodule in self._nodules.values()],
                    "notice": NOTICE,
                }
            )
        self._begin()

    def _begin(self) -> None:
        self._session = uuid.uuid4().hex
        self._sequence, self._frames = -1, 0
        self._states: Counter[str] = Counter()
        self._seen: Counter[int] = Counter()
        self._nodules: dict[int, Nodule] = {}
        self._last = ()

    def _nodule(self, nodule: Nodule) -> dict[str, Any]:
        """The last word on a nodule."""
        return {
            "track": nodule.track,
            "frames": self._seen[nodule.track],
            "label": nodule.label,
            "reason": nodule.reason,
            "smoothed": nodule.smoothed,
        }
