"""The live view: the picture and its result on a page; `edge_runtime.view.sink` opens it.

The extra `view` installs the web server. Its modules are loaded for a view alone.
"""

from typing import Any

from devices.capture.registry import Library

WEB_SERVER = Library(
    "live views",
    "starlette",
    ("starlette", "uvicorn", "websockets", "cryptography", "segno"),
    "view",
)


def session_facts(
    live: bool,
    budget: float,
    margin: float,
    evidence: bool,
    exams: bool,
    received: bool = False,
    worklist: bool = False,
    follow: bool = False,
) -> dict[str, Any]:
    """The facts of a session that its pages need; budget in seconds.

    `evidence` says whether the model has an evidence map, `exams` whether exams can be kept,
    `received` whether pictures are sent one after the other, and stay until the next one comes,
    `worklist` whether patients can be taken from a worklist, `follow` whether a box can follow its
    nodule.
    """
    return {
        "live": live,
        "budget": budget,
        "margin": margin,
        "evidence": evidence,
        "exams": exams,
        "received": received,
        "worklist": worklist,
        "follow": follow,
    }
