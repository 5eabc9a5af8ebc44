"""The processes that learn one model together, as TF_CONFIG names them; one alone without it.

Each worker goes through its own share of every batch, and the gradients are summed over all of
them before the weights move, so that the weights stay the same on every worker. The first worker
is the chief: it alone measures and writes.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import keras
import tensorflow as tf

from devices import BadInput

JOIN_S = 60
"""How long the workers wait for one another at the start."""

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)
"""What TensorFlow raises where a worker does not answer any more."""

Tensors = Sequence[tf.Tensor]
Address = tuple[str, int]


@dataclass(frozen=True)
class Cluster:
    """Where this process stands among the workers."""

    rank: int = 0
    """0 is the chief."""
    size: int = 1
    strategy: tf.distribute.Strategy | None = None
    """Takes the sums; not there for one alone."""

    @property
    def chief(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    def summed(self, tensors: Callable[..., Tensors]) -> Callable[..., Tensors]:
        """The function `tensors` with its answers summed over the workers.

        All workers call it, and in the same order, or they wait for one another for ever.
        """
        if self.strategy is None:
            return tensors

        def replica(*arguments: tf.Tensor) -> Tensors:
            context = tf.distribute.get_replica_context()
            total: Tensors = context.all_reduce(tf.distribute.ReduceOp.SUM, tensors(*arguments))
            return total

        strategy = self.strategy
        return tf.function(lambda *arguments: strategy.run(replica, arguments), autograph=False)  # type: ignore[no-any-return]

    def chief_value(self, value: int) -> int:
        """The chief's value, on every worker."""
        values = self.summed(lambda: [tf.constant(value if self.chief else 0, tf.int64)])
        return int(values()[0])

    def broadcast(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every worker the chief's values."""
        self._assign(variables, 1.0 if self.chief else 0.0)

    def average(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every worker the mean of all of them."""
        self._assign(variables, 1 / self.size)

    def add(self, variables: Sequence[keras.Variable]) -> None:
        """Gives every worker the sum of all of them."""
        self._assign(variables, 1.0)

    def _assign(self, variables: Sequence[keras.Variable], share: float) -> None:
        """Sums `share` of each; float64 holds any float32 and any counter as it is."""
        if self.strategy is None or not variables:
            return
        sums = self.summed(
            lambda: [tf.cast(variable.value, tf.float64) * share for variable in variables]
        )
        for variable, value in zip(variables, sums(), strict=True):
            variable.assign(tf.cast(value, variable.dtype))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raises BadInput where another worker is lost while they learn."""
        try:
            yield
        except LOST as error:
            if self.strategy is None:
                raise
            raise BadInput(
                "another worker is gone; start all of them again with --resume, and the training "
                "goes on from its last whole epoch"
            ) from error


ALONE = Cluster()


def read_cluster(environment: Mapping[str, str]) -> tuple[tuple[Address, ...], int]:
    """The workers' host and port, the chief's first, and the rank of this process.

    TF_CONFIG is TensorFlow's own: a `cluster` of `worker` addresses, with or without a `chief`, and
    the `task` of this process. No address, where it is not set. Raises BadInput where it is wrong.
    """
    if not (text := environment.get("TF_CONFIG")):
        return (), 0
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        names = [name for job in ("chief", "worker") for name in jobs.get(job, [])]
        rank = names.index(jobs[task["type"]][task["index"]])
        workers = tuple(
            (host, int(port)) for host, _, port in (name.rpartition(":") for name in names)
        )
        if task["index"] < 0 or len({*workers}) < len(workers):
            raise ValueError("a negative index, or an address twice")
        if not all(host and 0 < port < 2**16 for host, port in workers):
            raise ValueError("an address is no host:port")
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadInput(
            'TF_CONFIG: expected {"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": '
            '"worker", "index": 0}}'
        ) from error
    return workers, rank


def join(
    environment: Mapping[str, str] = os.environ,
    join_timeout_s: float = JOIN_S,
    note: Callable[[str], None] = lambda _: None,
) -> Cluster:
    """Waits for the workers that TF_CONFIG names. Call it before TensorFlow makes a tensor.

    Raises BadInput where one of them does not come within `join_timeout_s` seconds.
    """
    workers, rank = read_cluster(environment)
    if len(workers) < 2:
        return ALONE
    note(f"worker {rank + 1} of {len(workers)}; waits up to {join_timeout_s:g} s for the others")
    _meet(workers, rank, join_timeout_s)
    # One process for each device: a second one here would count every sum twice.
    tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[:1], "GPU")
    signal.setitimer(
        signal.ITIMER_REAL, join_timeout_s
    )  # ends this process where another has died since they met
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return Cluster(rank, len(workers), strategy)


def _meet(workers: Sequence[Address], rank: int, join_timeout_s: float) -> None:
    """Returns when the chief has seen every worker and told them to go.

    TensorFlow's own wait for a worker that never comes lasts many minutes and cannot be stopped.
    """
    end = time.monotonic() + join_timeout_s
    try:
        door = socket.create_server(workers[rank])
    except OSError as error:
        raise BadInput("{}:{}, this worker: {}".format(*workers[rank], error.strerror)) from error
    with door:
        guests: dict[int, socket.socket] = {}
        while missing := set(range(1, len(workers))) - {*guests} if rank == 0 else {0}:
            if (left := end - time.monotonic()) <= 0:
                names = ", ".join("{}:{}".format(*workers[worker]) for worker in sorted(missing))
                raise BadInput(f"worker {names} did not come within {join_timeout_s:g} s")
            with suppress(OSError, ValueError):  # not there yet, or a stranger
                if rank == 0:
                    door.settimeout(left)
                    guest = door.accept()[0]
                    guest.settimeout(1)
                    guests[int(guest.recv(8))] = guest
                    continue
                with socket.create_connection(workers[0], left) as chief:
                    chief.sendall(b"%d" % rank)
                    if chief.recv(8) == b"go":
                        return
            time.sleep(0.1)
        for guest in guests.values():
            with suppress(OSError), guest:
                guest.sendall(b"go")
