"""The live view of the deployed service."""

from enum import StrEnum


class NoSession(StrEnum):
    """Why the service runs no session at the moment."""

    BEGINS = "the session begins"
    NO_SCANNER = "no scanner"
    NO_PICTURE = "no picture to judge"
