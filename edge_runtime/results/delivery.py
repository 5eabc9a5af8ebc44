"""The counts of a sink: what was delivered, what waits, and what was given up."""

import threading
from dataclasses import dataclass

MAX_ERROR = 300
"""Letters of an error that are kept; a server may send more."""


@dataclass(frozen=True)
class Delivery:
    """What became of the results, or of the messages, for one sink."""

    sink: str
    """The name of the sink, without a password."""
    delivered: int
    waiting: int
    """Those in the queue of the session, and those kept on the disk."""
    given_up: int
    """Those that a full queue, a full disk or the receiver refused."""
    last_error: str | None

    def line(self) -> str:
        """The counts for a person."""
        counts = (
            f"sink {self.sink}: {self.delivered} delivered, {self.waiting} waiting, "
            f"{self.given_up} given up"
        )
        return counts if self.last_error is None else f"{counts}; last error: {self.last_error}"


class Tally:
    """Counts for one sink; any thread may count and read."""

    def __init__(self, name: str, counts_itself: bool = False, may_lose: bool = False) -> None:
        """`counts_itself` is for a sink that delivers later than it takes a result.

        `may_lose` is for a sink that no session waits for and that ends none, not even that of a
        recording.
        """
        self.name, self.counts_itself, self.may_lose = name, counts_itself, may_lose
        self.queued = 0
        """Results in the queue of the session."""
        self.kept = 0
        """Messages on the disk, or on the way to a client."""
        self._lock = threading.Lock()
        self._delivered = self._given_up = 0
        self._last_error: str | None = None

    def deliver(self, count: int = 1) -> None:
        """Counts what was delivered."""
        with self._lock:
            self._delivered += count

    def give_up(self, count: int = 1, why: str | None = None) -> None:
        """Counts what will never be delivered, with the reason."""
        with self._lock:
            self._given_up += count
        if why is not None:
            self.fail(why)

    def fail(self, why: str) -> None:
        """Notes an error that lost nothing yet."""
        self._last_error = " ".join(why.split())[:MAX_ERROR]

    def delivery(self) -> Delivery:
        """The counts so far."""
        with self._lock:
            return Delivery(
                self.name,
                self._delivered,
                self.queued + self.kept,
                self._given_up,
                self._last_error,
            )
