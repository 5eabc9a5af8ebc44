"""The live view: the picture and its result on a page; `edge_runtime.view.sink` opens it.

The extra `view` installs the web server. Its modules are loaded for a view alone.
"""

from devices.capture.registry import Library

WEB_SERVER = Library(
    "live views",
    "starlette",
    ("starlette", "uvicorn", "websockets", "cryptography", "segno"),
    "view",
)
LOOPBACK = "127.0.0.1"
DEFAULT_ADDRESS = f"{LOOPBACK}:8765"
"""The address of a view that was asked for without one."""
