"""The errors that a user sees: one line, and an exit code.

    SonoliteError
    ├── CheckFailed       a check of the command failed               exit 1
    ├── BadInput          a file or an argument cannot be used        exit 2
    │   └── NoSignal      the grabber shows its own test picture
    ├── HardwareMissing   a device or an interpreter is not there     exit 3
    ├── DeviceLost        the capture device was there, and has gone  exit 3
    ├── DeviceStalled     no frame came within the time-out           exit 3
    │   └── NothingSent   the device waits until somebody sends
    ├── NotDelivered      a receiver did not take it now              exit 3
    └── EndOfRecording    the last frame of a recording has been read

Every message names the error, its place, and what to do, in one line. Errors of the program itself
are not among these: they end it with a traceback.
"""


class SonoliteError(Exception):
    """The root of all errors that sonolite raises for a user."""

    exit_code = 1

    def __str__(self) -> str:
        """The message in one line, whatever it quotes."""
        return " ".join(super().__str__().split())


def describe_error(error: BaseException) -> str:
    """An error for a log: the message of a known error, else the type alone.

    The text of another error may quote anything, such as a password or a name.
    """
    return str(error) if isinstance(error, SonoliteError) else type(error).__name__


class CheckFailed(SonoliteError):
    """A check of the command failed."""


class BadInput(SonoliteError):
    """A file, folder, argument or bundle that cannot be used as it is."""

    exit_code = 2


class NoSignal(BadInput):
    """A grabber without a signal gave a test picture; the next picture may be sound."""


class HardwareMissing(SonoliteError):
    """A capture device, accelerator or interpreter that this machine does not have."""

    exit_code = 3


class DeviceLost(SonoliteError):
    """The capture device was open, and has gone."""

    exit_code = 3


class DeviceStalled(SonoliteError):
    """The capture device is there but gave no frame within the time-out."""

    exit_code = 3


class NotDelivered(SonoliteError):
    """A receiver did not take what was sent; it may later."""

    exit_code = 3


class NothingSent(DeviceStalled):
    """Nobody sent anything for so long that the last picture is not to be shown any more."""


class EndOfRecording(SonoliteError):
    """The last frame of a file or folder was read: the ordinary end."""

    exit_code = 0
