"""One page of HTML with its tables and plots inside it, that needs nothing else."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

NEGATIVE, POSITIVE, GREY = "#2f6db3", "#d1602a", "#7a8691"
"""Told apart by the colour-blind, and in print."""
STYLE: Any = {  # matplotlib's type is a literal of all its names
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6ebef",
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "sonolite",  # the same run gives the same bytes
    "text.parse_math": False,  # a name is not a formula
}
WIDEST = 1400
"""Pixels, of the widest contact sheet that is put in as it is."""


def html_page(title: str, about: str, sections: Mapping[str, str]) -> str:
    """One page that needs no other file; a section without a body is left out."""
    there = {name: body for name, body in sections.items() if body}
    ids = {name: name.lower().replace(" ", "-") for name in there}
    template = Template((resources.files("train") / "page.html.in").read_text("utf-8"))
    return template.substitute(
        title=escape(title),
        about=escape(about),
        contents="".join(f'<a href="#{ids[name]}">{name}</a> ' for name in there),
        sections="\n".join(
            f'<section id="{ids[name]}"><h2>{name}</h2>\n{body}</section>'
            for name, body in there.items()
        ),
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a row of one cell is a heading, and small print follows a line break in a cell."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f"<tr>{''.join(map(_td, row))}</tr>"
        if len(row) > 1
        else f'<tr><th scope="rowgroup" colspan="{len(head)}">{escape(row[0])}</th></tr>'
        for row in rows
    )
    return f'<div class="wide"><table><tr>{cells}</tr>{lines}</table></div>'


def _td(cell: str) -> str:
    figure, _, small = cell.partition("\n")
    return f"<td>{escape(figure)}{f'<small>{escape(small)}</small>' if small else ''}</td>"


def word_table(entries: Mapping[str, str]) -> str:
    """A table of names and values."""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in entries.items()
    )
    return f'<table class="words">{lines}</table>'


def pair(left: str, right: str) -> str:
    """Two things side by side where there is room."""
    return f'<div class="pair"><div>{left}</div><div>{right}</div></div>'


PIXELS = 120
"""An inch of a plot on the page, at the most: a single small one is not blown up."""


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of so many inches, with its axes; several share the horizontal one in a column."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, figure.subplots(rows, columns, sharex=rows > 1)


def plot(figure: Figure, alt: str, caption: str) -> str:
    """A figure as an image inside the page, with words for those who do not see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    source = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<figure><img class="plot" alt="{escape(alt)}" src="{source}" '
        f'style="max-width: {PIXELS * figure.get_figwidth():.0f}px">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def img(source: str, alt: str) -> str:
    """An image by its data URI."""
    return f'<img alt="{escape(alt)}" src="{source}">'


def png(picture: NDArray[np.uint8]) -> str:
    """A picture, grey or BGR, as a data URI, exact to the pixel."""
    _, content = cv2.imencode(".png", picture)
    return "data:image/png;base64," + base64.b64encode(content.tobytes()).decode()


def jpeg(picture: NDArray[np.uint8]) -> str:
    """A picture, grey or BGR, as a small data URI, shrunk where it is wider than a screen."""
    height, width = picture.shape[:2]
    if width > WIDEST:
        size = (WIDEST, round(height * WIDEST / width))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return "data:image/jpeg;base64," + base64.b64encode(content.tobytes()).decode()
