"""The report of an exam as HTML: one file that loads nothing and runs nothing."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

from edge_runtime.exams.report import (
    NODULE_HEAD,
    REASON_HEAD,
    REPORT_NOTICE,
    ExamReport,
    ReportPicture,
)

STYLE = """
@page { size: A4; margin: 12mm }
* { box-sizing: border-box }
body { font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; color: #1b2430; background: #fff;
  max-width: 1000px; margin: 0 auto; padding: 24px }
header { display: flex; justify-content: space-between; align-items: baseline; flex-wrap: wrap;
  gap: 4px 24px; border-bottom: 2px solid #1b2430; padding-bottom: 6px }
h1 { font-size: 26px; margin: 0 }
h2 { font-size: 15px; margin: 18px 0 6px }
.notice { font-weight: 600; color: #8a3b00; margin: 0 }
.warning { border-left: 4px solid #b85c00; background: #fff4e5; padding: 6px 12px;
  margin: 12px 0 0 }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 8px 20px;
  margin: 14px 0 0 }
dt { font-size: 12px; color: #56616f }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid #d8dde4;
  vertical-align: top; overflow-wrap: anywhere }
th { font-size: 12px; font-weight: 400; color: #56616f }
td:nth-child(2) { font-weight: 600 }
.reasons td { font-weight: 400 }
.reasons td:last-child, .reasons th:last-child { text-align: right; padding-right: 0 }
.pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: 12px }
.pictures.few { grid-template-columns: repeat(2, 1fr) }
figure { margin: 0; break-inside: avoid }
figure img { width: 100%; height: auto; max-height: 400px; object-fit: contain; display: block;
  background: #14181e }
figcaption, .note { font-size: 12px; color: #56616f; overflow-wrap: anywhere }
.note { margin: 6px 0 0 }
footer { font-size: 12px; color: #3c4653; border-top: 1px solid #d8dde4; margin-top: 18px }
footer p { margin: 6px 0 0; overflow-wrap: anywhere }
@media (max-width: 640px) { .pictures, .pictures.few { grid-template-columns: 1fr } }
@media print { body { padding: 0; font-size: 10.5px } .pictures { gap: 6px 8px }
  h1 { font-size: 20px } h2 { font-size: 12px; margin: 9px 0 3px } dl { margin-top: 8px; gap: 4px }
  th, td { padding-top: 2px; padding-bottom: 2px } figure img { max-height: 43mm }
  dt, th, figcaption, .note, footer { font-size: 9.5px } footer { margin-top: 9px } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def exam_page(report: ExamReport) -> str:
    """The page as text, to be written in UTF-8. All words of the exam are escaped."""
    facts = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in report.facts
    )
    notice = f"<p class=notice>{escape(REPORT_NOTICE)}</p>"
    parts = [
        f"<header><h1>{escape(report.title)}</h1>{notice}</header>",
        *(f"<p class=warning>{escape(line)}</p>" for line in report.warnings),
        f"<dl>{facts}</dl>",
        "<h2>Decisions</h2>",
        _table(NODULE_HEAD, report.nodules) if report.nodules else "<p>No nodule was judged.</p>",
        _note(report.nodules_note),
    ]
    if report.reasons:
        table = _table(REASON_HEAD, report.reasons, "reasons")
        parts += ["<h2>Abstentions</h2>", table]
    parts += _pictures(report)
    lines = "".join(f"<p>{escape(line)}</p>" for line in report.explanation)
    parts.append(f"<footer>{lines}{notice}</footer>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(filter(None, parts))}\n</main></body></html>\n"
    )


def _pictures(report: ExamReport) -> Iterable[str]:
    if not report.pictures:
        return
    few = " few" if len(report.pictures) <= 2 else ""
    yield "<h2>Pictures</h2>"
    yield f'<div class="pictures{few}">{"".join(map(_figure, report.pictures))}</div>'
    yield _note(report.pictures_note)


def _figure(picture: ReportPicture) -> str:
    caption = escape(picture.caption)
    data = b64encode(picture.jpeg).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="{picture.width}" '
        f'height="{picture.height}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
    )


def _note(text: str | None) -> str:
    return "" if text is None else f"<p class=note>{escape(text)}</p>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "nodules") -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f'<table class="{kind}"><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>'
