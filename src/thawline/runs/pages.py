"""The templates of the HTML pages, and the filters that make text from outside fit for them."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.showing import MAX_NAME, counted, few, printable

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_THUMBNAIL_BYTES = 100_000


@cache
def templates() -> Environment:
    """Return the environment of all pages: what is put into a page is escaped, and a missing value is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        optimized=False,  # a page is rendered once: folding its constants takes longer than it saves
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.filters.update(
        name=printable,
        sentence=_sentence,
        sentence_case=sentence_case,
        counted=counted,
        few=few,
        percent=_percent,
        duration=_duration,
        png=_data_uri,
        share=_share,
    )
    return jinja


def sentence_case(text: str) -> str:
    """Return ``text`` with its first letter as a capital, the others as they are."""
    return text[:1].upper() + text[1:]


def _sentence(text: object) -> str:
    return printable(text, 10 * MAX_NAME)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def _share(part: int, whole: int) -> str:
    """Write a share in %; only an exact 0 or all is written as 0 % or 100 %."""
    share = 100 * part / whole if whole else 0.0
    if share in (0.0, 100.0):
        return f"{share:.0f} %"
    if share < 0.01:
        return "less than 0.01 %"
    return f"{share:.2f} %" if share < 1 or share > 99 else f"{share:.1f} %"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _data_uri(png: bytes | str | None) -> str | None:
    """Return ``png`` as a data URI; None if it is missing, a text, too large, or no PNG."""
    if not isinstance(png, bytes) or len(png) > MAX_THUMBNAIL_BYTES or not png.startswith(b"\x89PNG\r\n\x1a\n"):
        return None
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"
