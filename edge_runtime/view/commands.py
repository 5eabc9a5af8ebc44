"""What an operator may ask of a session, as JSON of one shape for each command."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from devices import BadInput, Box
from edge_runtime.exams.store import Identity
from edge_runtime.screen.saved_regions import ScreenSize


class Refusal(StrEnum):
    """Why a command is not carried out."""

    VIEWER = "only an operator may do this"
    UNKNOWN = "the command is not understood"
    TOO_MANY = "too many commands: wait a moment"
    BUSY = "other commands wait: try again"
    FAILED = "it could not be done"
    NO_EXAMS = "exams are not kept: --exam FOLDER keeps them"
    GONE = "that picture is no longer held"
    NO_WORKLIST = "no worklist is set up: --worklist HOST:PORT names one"
    WORKLIST_AWAY = "the worklist does not answer"
    NOT_REMEMBERED = "the region holds now, but cannot be remembered"


class MarkRegion(Struct, frozen=True, tag_field="do", tag="mark", forbid_unknown_fields=True):
    """Takes a region of interest from the next frame on."""

    box: Box
    """Pixels of the screen."""
    screen: ScreenSize
    """The size of the screen on which it was drawn."""
    remember: bool
    """Whether later sessions on this source begin with it."""
    follow: bool = False
    """Whether the box follows its nodule."""


class ClearRegion(Struct, frozen=True, tag_field="do", tag="clear", forbid_unknown_fields=True):
    """Takes the region of interest away, and forgets one that was remembered."""

    screen: ScreenSize


class KeepStill(Struct, frozen=True, tag_field="do", tag="still", forbid_unknown_fields=True):
    """Keeps the picture of a result in the exam."""

    sequence: int
    """See `Result.sequence`."""


class BeginExam(Struct, frozen=True, tag_field="do", tag="begin", forbid_unknown_fields=True):
    """Begins an exam."""

    identity: Identity


class EndExam(Struct, frozen=True, tag_field="do", tag="end", forbid_unknown_fields=True):
    """Ends the exam."""


class AskWorklist(Struct, frozen=True, tag_field="do", tag="worklist", forbid_unknown_fields=True):
    """Asks for the examinations that are scheduled today."""


Command = MarkRegion | ClearRegion | KeepStill | BeginExam | EndExam
Request = Command | AskWorklist


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A command with the number that its answer bears."""

    id: Annotated[int, Meta(ge=0, lt=1 << 31)]
    command: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(Envelope)
_COMMAND = msgspec.json.Decoder(Request)


def open_envelope(text: str) -> Envelope | None:
    """The numbered command in a message; None where the message is none."""
    try:
        return _ENVELOPE.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def read_command(envelope: Envelope) -> Request:
    """The command of an envelope. Raises BadInput where it is not understood."""
    try:
        command: Request = _COMMAND.decode(envelope.command)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadInput(Refusal.UNKNOWN) from error
    return command
