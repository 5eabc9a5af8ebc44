"""What can go wrong, as the user sees it: one line, and an exit code.

    SonoliteError
    ├── CheckFailed       what was asked for was found wanting        exit 1
    ├── BadInput          what was given cannot be used               exit 2
    │   └── NoSignal      the device made its picture up
    ├── HardwareMissing   a device or an interpreter is not there     exit 3
    ├── DeviceLost        the capture device was there, and has gone  exit 3
    ├── DeviceStalled     no frame came within the time-out           exit 3
    └── EndOfRecording    the last frame of a recording has been read

Every message names what was wrong, where, and what to do about it, in one line.
Programmers' errors are not among these: they are left to crash.
"""


class SonoliteError(Exception):
    """The root: whatever sonolite itself raises for a user to read."""

    exit_code = 1


class CheckFailed(SonoliteError):
    """A check that the command was asked to make found something wanting."""


class BadInput(SonoliteError):
    """A file, folder, argument or bundle that cannot be used as it is."""

    exit_code = 2


class NoSignal(BadInput):
    """A grabber without a scanner gave a picture of its own; the next one may be a scanner's."""


class HardwareMissing(SonoliteError):
    """A capture device, accelerator or interpreter that this machine does not have."""

    exit_code = 3


class DeviceLost(SonoliteError):
    """The capture device was open and is no longer there."""

    exit_code = 3


class DeviceStalled(SonoliteError):
    """The capture device is there but gave no frame within the time-out."""

    exit_code = 3


class EndOfRecording(SonoliteError):
    """The last frame has been read; the ordinary end of a file or folder."""

    exit_code = 0
