"""What an operator may ask of a session, as JSON of one shape for each command."""

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from devices import Box
from edge_runtime.screen.saved_regions import ScreenSize


class Refusal(StrEnum):
    """Why a command is not carried out."""

    VIEWER = "only an operator may do this"
    UNKNOWN = "the command is not understood"
    TOO_MANY = "too many commands: wait a moment"
    BUSY = "other commands wait: try again"
    FAILED = "it could not be done"
    NOT_REMEMBERED = "the region holds now, but cannot be remembered"


class MarkRegion(Struct, frozen=True, tag_field="do", tag="mark", forbid_unknown_fields=True):
    """Takes a region of interest from the next frame on."""

    box: Box
    """Pixels of the screen."""
    screen: ScreenSize
    """The size of the screen on which it was drawn."""
    remember: bool
    """Whether later sessions on this source begin with it."""


class ClearRegion(Struct, frozen=True, tag_field="do", tag="clear", forbid_unknown_fields=True):
    """Takes the region of interest away, and forgets one that was remembered."""

    screen: ScreenSize


Command = MarkRegion | ClearRegion


class Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    """A command with the number that its answer bears."""

    id: Annotated[int, Meta(ge=0, lt=1 << 31)]
    command: msgspec.Raw


_ENVELOPE = msgspec.json.Decoder(Envelope)
_COMMAND = msgspec.json.Decoder(Command)


def open_envelope(text: str) -> Envelope | None:
    """The numbered command in a message; None where the message is none."""
    try:
        return _ENVELOPE.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def read_command(envelope: Envelope) -> Command | None:
    """The command of an envelope; None where it is not understood."""
    try:
        command: Command = _COMMAND.decode(envelope.command)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return command
