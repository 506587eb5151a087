"""PDF files with ReportLab: fonts, page layout and the default report.

ReportLab is imported on first use. The output depends only on the content, not on the time, so a
repeated run produces the same bytes.
"""

from __future__ import annotations

import functools
import importlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from django.utils import formats

from ..errors import ConfigurationError
from .report_content import Content, DateRange

INK, ACCENT, FAINT, SHADE = "#1c2b29", "#0f5f57", "#5b6b68", "#eef2f1"
MARGIN = 54.0
"""Points from each edge of the page: three quarters of an inch."""

# The first installed pair is used. DejaVu and Arial cover many more scripts than Vera, which comes
# with ReportLab.
_FONTS = (
    (
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
    ),
    (
        "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
        "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans-Bold.ttf",
    ),
    ("/usr/share/fonts/TTF/DejaVuSans.ttf", "/usr/share/fonts/TTF/DejaVuSans-Bold.ttf"),
    (
        "/System/Library/Fonts/Supplemental/Arial.ttf",
        "/System/Library/Fonts/Supplemental/Arial Bold.ttf",
    ),
    ("Vera.ttf", "VeraBd.ttf"),
)


def reportlab(module: str) -> Any:
    """Import ``reportlab.<module>``.

    Raises:
        ConfigurationError: ReportLab is not installed.
    """
    try:
        return importlib.import_module(f"reportlab.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "reportlab":
            raise
        raise ConfigurationError(
            "PDF files need ReportLab, which is not installed: pip install reportlab"
        ) from error


@functools.cache
def fonts() -> tuple[str, str]:
    """Return the names of the regular and the bold font, registered with ReportLab."""
    metrics, truetype = reportlab("pdfbase.pdfmetrics"), reportlab("pdfbase.ttfonts")
    regular, bold = next(pair for pair in _FONTS if _is_installed(pair))
    for name, path in (("Wellos", regular), ("Wellos-Bold", bold)):
        metrics.registerFont(truetype.TTFont(name, path))
    metrics.registerFontFamily(
        "Wellos", normal="Wellos", bold="Wellos-Bold", italic="Wellos", boldItalic="Wellos-Bold"
    )
    return "Wellos", "Wellos-Bold"


def _is_installed(pair: tuple[str, str]) -> bool:
    bundled = Path(pair[0]).name == pair[0]
    return bundled or all(Path(path).exists() for path in pair)


@functools.cache
def styles() -> Mapping[str, Any]:
    """Return the paragraph styles: text, small, right, heading, title."""
    make = reportlab("lib.styles").ParagraphStyle
    regular, bold = fonts()
    text = make("text", fontName=regular, fontSize=9.5, leading=13.5, textColor=INK)
    return {
        "text": text,
        "small": make("small", text, fontSize=8, leading=11, textColor=FAINT),
        "right": make("right", text, alignment=2),
        "heading": make("heading", text, fontName=bold, fontSize=9, textColor="#ffffff"),
        "heading-right": make(
            "heading-right", text, fontName=bold, fontSize=9, textColor="#ffffff", alignment=2
        ),
        "strong": make("strong", text, fontName=bold),
        "strong-right": make("strong-right", text, fontName=bold, alignment=2),
        "title": make("title", text, fontName=bold, fontSize=22, leading=27, textColor=ACCENT),
    }


def paragraph(value: Any, style: str = "text") -> Any:
    """Return plain text as a paragraph. Line breaks are kept and markup is escaped."""
    text = escape(str(value)).replace("\n", "<br/>")
    return reportlab("platypus").Paragraph(text, styles()[style])


def document(parts: Sequence[Any], *, title: str, author: str, footer: str = "") -> bytes:
    """Return a PDF with ``parts`` on A4 pages, and ``footer`` and the page number on each page."""
    platypus, (width, height) = reportlab("platypus"), _page()
    output = io.BytesIO()

    def draw_footer(canvas: Any, _template: Any) -> None:
        canvas.saveState()
        canvas.setFont(fonts()[0], 8)
        canvas.setFillColor(FAINT)
        canvas.drawString(MARGIN, MARGIN - 14, footer)
        canvas.drawRightString(width - MARGIN, MARGIN - 14, f"Page {canvas.getPageNumber()}")
        canvas.restoreState()

    frame = platypus.Frame(
        MARGIN, MARGIN + 10, width - 2 * MARGIN, height - 2 * MARGIN - 10, 0, 0, 0, 0, id="text"
    )
    template = platypus.BaseDocTemplate(
        output, pagesize=(width, height), title=title, author=author, invariant=1
    )
    template.addPageTemplates(platypus.PageTemplate(id="page", frames=[frame], onPage=draw_footer))
    template.build(list(parts))
    return output.getvalue()


def _page() -> tuple[float, float]:
    width, height = reportlab("lib.pagesizes").A4
    return float(width), float(height)


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[Any]],
    numeric: frozenset[int] = frozenset(),
    widths: Sequence[float] | None = None,
) -> Any:
    """Return a table with a heading on each page and every second row shaded."""
    shares = widths or [1.0] * len(headings)
    usable = _page()[0] - 2 * MARGIN
    cells = [
        [
            paragraph(text, "heading-right" if i in numeric else "heading")
            for i, text in enumerate(headings)
        ]
    ]
    cells += [
        [
            paragraph(shown(value), "right" if i in numeric else "text")
            for i, value in enumerate(row)
        ]
        for row in rows
    ]
    result = reportlab("platypus").Table(
        cells, colWidths=[usable * share / sum(shares) for share in shares], repeatRows=1
    )
    colors = reportlab("lib.colors")
    result.setStyle(
        [
            ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor(ACCENT)),
            ("ROWBACKGROUNDS", (0, 1), (-1, -1), [colors.white, colors.HexColor(SHADE)]),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("TOPPADDING", (0, 0), (-1, -1), 5),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 5),
        ]
    )
    return result


def shown(value: Any) -> str:
    """Format a value, with numbers and dates localized to the active language."""
    return "" if value is None else str(formats.localize(value, use_l10n=True))


def render_report(title: str, date_range: DateRange, content: Content) -> bytes:
    """Return the default report: title, date range, figures and table."""
    space = reportlab("platypus").Spacer
    parts = [paragraph(title, "title"), paragraph(date_range, "small"), space(1, 14)]
    for name, value in content.figures.items():
        parts.append(paragraph(f"{name}: {shown(value)}", "strong"))
    rows = list(content.rows)
    parts += [space(1, 10), table(content.headings, rows, content.numeric or frozenset())]
    if not rows:
        parts.append(paragraph("There is no data for these days.", "small"))
    return document(parts, title=title, author="WellOS", footer=f"{title}, {date_range}")
