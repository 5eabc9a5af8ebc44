"""The files of the page, read once; a language is one file in `page/languages`."""

import json
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

PAGE_FOLDER = resources.files("edge_runtime") / "view" / "page"
CONTENT_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
}
"""By suffix; all files are UTF-8."""


def read_assets() -> dict[str, tuple[str, bytes]]:
    """The content type and the bytes of each path of the site, the list of languages included."""
    assets = {}
    names = {}
    for path, file in _files(PAGE_FOLDER, "/"):
        suffix = path[path.rindex(".") :]
        assets[path] = (CONTENT_TYPES[suffix], file.read_bytes())
        if path.startswith("/languages/"):
            code = path.removeprefix("/languages/").removesuffix(suffix)
            names[code] = json.loads(assets[path][1])["language"]
    assets["/"] = assets.pop("/index.html")
    languages = json.dumps(dict(sorted(names.items())), ensure_ascii=False)
    assets["/languages.json"] = (CONTENT_TYPES[".json"], languages.encode())
    return assets


def _files(folder: Traversable, path: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _files(entry, f"{path}{entry.name}/")
        else:
            yield path + entry.name, entry
