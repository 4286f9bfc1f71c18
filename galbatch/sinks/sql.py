"""What databases that speak SQL have in common: names, text, and what tables say of themselves."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from galbatch.sinks.base import Origin


def quoted(name: str) -> str:
    """A column's or table's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def title(origin: Origin) -> str:
    """The comment of a table: whose predictions it holds."""
    return f"galbatch: predictions of model {origin.model}, survey {origin.survey}"


def comment(field: pa.Field[Any]) -> str:
    """The comment of a column: ``photometric redshift [km / s] (src.redshift.phot)``.

    Parameters
    ----------
    field : pa.Field
        With ``description``, ``unit`` and ``ucd`` in its metadata, or without.
    """
    said = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    parts = [said.get("description", "")]
    if said.get("unit"):
        parts.append(f"[{said['unit']}]")
    if said.get("ucd"):
        parts.append(f"({said['ucd']})")
    return " ".join(part for part in parts if part)
