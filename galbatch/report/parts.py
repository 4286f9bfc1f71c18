"""What a page is put together from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page.

    Parameters
    ----------
    title : str
    image : str
        ``data:`` address.
    caption : str
        What it shows, and on how many of which rows.
    """

    title: str
    image: str
    caption: str


@dataclass(frozen=True)
class PageTable:
    """A table on the page.

    Parameters
    ----------
    title : str
    header : tuple of str
        Over the columns; of the first one too, which names the lines.
    lines : tuple of tuple of str
    caption : str
    marked : bool
        Whether the cells from corner to corner are what is right.
    """

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    caption: str
    marked: bool = False


@dataclass(frozen=True)
class Section:
    """Figures and tables under a heading.

    Parameters
    ----------
    anchor, title : str
    figures : tuple of PageFigure
    nothing : str
        What to say where there are none; empty where the section shall not be then.
    tables : tuple of PageTable
    words : str
        What stands above.
    """

    anchor: str
    title: str
    figures: tuple[PageFigure, ...]
    nothing: str = ""
    tables: tuple[PageTable, ...] = ()
    words: str = ""


@dataclass(frozen=True)
class Headline:
    """One number at the top.

    Parameters
    ----------
    label : str
    value : str
    detail : str
        Its error, or why there is none.
    others : tuple of (str, str)
        The other models' numbers.
    """

    label: str
    value: str
    detail: str = ""
    others: tuple[tuple[str, str], ...] = ()
