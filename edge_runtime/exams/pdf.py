"""The report of an exam as PDF, on one page of A4. It needs the extra `exam`."""

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

from devices.capture.registry import Library
from edge_runtime.exams.report import (
    NODULE_HEAD,
    REASON_HEAD,
    REPORT_NOTICE,
    ExamReport,
    ReportPicture,
)

if TYPE_CHECKING:
    from fpdf import FPDF

PDF_WRITER = Library("reports as PDF", "fpdf2", ("fpdf",), "exam")
FONT_NAME = "Helvetica"
"""Every reader of PDF has it; it knows the letters of Latin-1 alone."""
MISSING_LETTERS = "A ? may stand for a letter that the font of this page lacks; report.html has it."
MARGIN = 14.0
"""Millimetres, as all lengths here."""
WIDTH = 210 - 2 * MARGIN
BOTTOM = 297 - MARGIN
GAP = 4.0
DARK, GRAY, RULE, WARN = (27, 36, 48), (86, 97, 111), (205, 211, 219), (138, 59, 0)
FACT_COLUMNS = 3
NODULE_WIDTHS = (14.0, 60.0, 32.0, 24.0, 18.0, 15.0, 19.0)
REASON_WIDTHS = (WIDTH - 20, 20.0)


def exam_pdf(report: ExamReport) -> bytes:
    """The page. Raises BadInput where the extra is missing."""
    PDF_WRITER.require()
    from fpdf import FPDF  # here: few commands write a PDF

    pdf = FPDF(format="A4")
    pdf.set_auto_page_break(False)
    pdf.set_margin(MARGIN)
    pdf.c_margin = 0
    pdf.set_title(_latin(report.title))
    pdf.set_creator("sonolite")
    pdf.set_lang("en")
    pdf.add_page()
    _head(pdf, report)
    _heading(pdf, "Decisions")
    if report.nodules:
        _table(pdf, NODULE_HEAD, report.nodules, NODULE_WIDTHS)
    else:
        _line(pdf, "No nodule was judged.", 9)
    if report.nodules_note:
        _line(pdf, report.nodules_note, 8, GRAY)
    if report.reasons:
        _heading(pdf, "Abstentions")
        _table(pdf, REASON_HEAD, report.reasons, REASON_WIDTHS)
    foot = foot_lines(report)
    foot_top = BOTTOM - _height(pdf, foot)
    if report.pictures:
        _heading(pdf, "Pictures")
        note = 5.0 if report.pictures_note else 0.0
        _pictures(pdf, report.pictures, foot_top - GAP - note)
        if report.pictures_note:
            _line(pdf, report.pictures_note, 8, GRAY)
    _foot(pdf, foot, foot_top)
    return bytes(pdf.output())


def _head(pdf: "FPDF", report: ExamReport) -> None:
    """The title with the notice, the warnings, and the facts in columns."""
    top = pdf.get_y()
    _font(pdf, 18, DARK, bold=True)
    pdf.cell(WIDTH / 2, 9, _latin(report.title))
    _font(pdf, 10, WARN, bold=True)
    pdf.cell(WIDTH / 2, 9, REPORT_NOTICE, align="R")
    pdf.set_draw_color(*DARK)
    pdf.set_line_width(0.5)
    pdf.line(MARGIN, top + 10, MARGIN + WIDTH, top + 10)
    pdf.set_xy(MARGIN, top + 12)
    for warning in report.warnings:
        _line(pdf, warning, 9, WARN)
    width, top = WIDTH / FACT_COLUMNS, pdf.get_y() + 1
    for number, (name, value) in enumerate(report.facts):
        row, column = divmod(number, FACT_COLUMNS)
        x, y = MARGIN + column * width, top + 10 * row
        pdf.set_xy(x, y)
        _font(pdf, 8, GRAY)
        pdf.cell(width, 4, _latin(name))
        pdf.set_xy(x, y + 4)
        for size in (9.5, 8.0, 6.5, 5.5):  # a name is rather small than cut short
            _font(pdf, size, DARK, bold=True)
            if pdf.get_string_width(_latin(value)) <= width - 3:
                break
        pdf.cell(width, 4.5, _fitting(pdf, value, width - 3))
    rows = -(-len(report.facts) // FACT_COLUMNS)
    pdf.set_xy(MARGIN, top + 10 * rows)


def _heading(pdf: "FPDF", text: str) -> None:
    pdf.set_xy(MARGIN, pdf.get_y() + 2.5)
    _font(pdf, 11, DARK, bold=True)
    pdf.cell(WIDTH, 6, text)
    pdf.set_xy(MARGIN, pdf.get_y() + 6.5)


def _line(
    pdf: "FPDF", text: str, size: float, color: tuple[int, int, int] = DARK, bold: bool = False
) -> None:
    """A paragraph."""
    pdf.set_x(MARGIN)
    _font(pdf, size, color, bold)
    pdf.multi_cell(WIDTH, 0.45 * size, _latin(text), align="L", new_x="LMARGIN", new_y="NEXT")


def _table(
    pdf: "FPDF", head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float]
) -> None:
    """One line a row; what is too long for a column is cut short."""
    for number, row in enumerate([head, *rows]):
        y = pdf.get_y()
        x = MARGIN
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            bold = number > 0 and column == 1 and len(widths) > 2
            _font(pdf, 9 if number else 8, DARK if number else GRAY, bold)
            pdf.set_xy(x, y)
            pdf.cell(width, 5.5, _fitting(pdf, cell, width - 2))
            x += width
        pdf.set_draw_color(*RULE)
        pdf.set_line_width(0.2)
        pdf.line(MARGIN, y + 5.6, MARGIN + WIDTH, y + 5.6)
        pdf.set_xy(MARGIN, y + 6)


def _pictures(pdf: "FPDF", pictures: Sequence[ReportPicture], bottom: float) -> None:
    """The pictures in two or three columns, each as large as the room above `bottom` allows."""
    columns = 2 if len(pictures) <= 2 else 3
    rows = -(-len(pictures) // columns)
    top, caption = pdf.get_y(), 6.0
    width = (WIDTH - GAP * (columns - 1)) / columns
    tall = (bottom - top) / rows - caption
    for row in range(rows):
        pictured = pictures[row * columns : (row + 1) * columns]
        heights = [min(tall, width * each.height / each.width) for each in pictured]
        for column, (picture, height) in enumerate(zip(pictured, heights, strict=True)):
            x = MARGIN + column * (width + GAP)
            pdf.image(
                BytesIO(picture.jpeg),
                x,
                top,
                height * picture.width / picture.height,
                height,
                alt_text=_latin(picture.caption),
            )
            pdf.set_xy(x, top + height + 0.8)
            _font(pdf, 8, GRAY)
            pdf.cell(width, 4, _fitting(pdf, picture.caption, width))
        top += max(heights) + caption
    pdf.set_xy(MARGIN, top)


def foot_lines(report: ExamReport) -> list[str]:
    """The explanation, and that letters are missing, if so."""
    words = [report.title, *(value for _, value in report.facts)]
    words += [cell for row in (*report.nodules, *report.reasons) for cell in row]
    words += [picture.caption for picture in report.pictures]
    lacks = any(_latin(word) != word for word in words)
    return [*report.explanation, *([MISSING_LETTERS] if lacks else [])]


def _height(pdf: "FPDF", lines: Sequence[str]) -> float:
    """Of the foot, with the notice."""
    _font(pdf, 8, GRAY)
    height = 9.0
    for line in lines:
        broken = pdf.multi_cell(WIDTH, 3.6, _latin(line), align="L", dry_run=True, output="LINES")
        assert isinstance(broken, list)
        height += 3.6 * len(broken) + 1
    return height


def _foot(pdf: "FPDF", lines: Sequence[str], top: float) -> None:
    pdf.set_draw_color(*RULE)
    pdf.line(MARGIN, top, MARGIN + WIDTH, top)
    pdf.set_xy(MARGIN, top + 2)
    for line in lines:
        _line(pdf, line, 8, GRAY)
        pdf.set_y(pdf.get_y() + 1)
    _line(pdf, REPORT_NOTICE, 9, WARN, bold=True)


def _font(pdf: "FPDF", size: float, color: tuple[int, int, int], bold: bool = False) -> None:
    pdf.set_font(FONT_NAME, "B" if bold else "", size)
    pdf.set_text_color(*color)


def _fitting(pdf: "FPDF", text: str, width: float) -> str:
    """The text in the present font, cut short where it is wider."""
    text = _latin(text)
    if pdf.get_string_width(text) <= width:
        return text
    while text and pdf.get_string_width(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
