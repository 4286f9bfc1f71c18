"""A database that galbatch does not know: a file of JSON, written whole and put in its place."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq

from galbatch.errors import DataError, SpecError
from galbatch.sinks.base import Origin, Piece
from galbatch.spec.base import Settings


class ToySink(Settings):
    """What a user would write of it."""

    kind: Literal["toy"] = "toy"
    path: str
    table: str | None = None


@dataclass(frozen=True)
class ToyDatabase:
    spec: ToySink

    @property
    def identity(self) -> str:
        return f"toy.{self.spec.path}"

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path(self.spec.path),)

    def describe(self) -> str:
        return f"JSON {self.spec.path}"

    def check(self) -> None:
        if self.exists() and self.files[0].read_bytes()[:1] != b"{":
            raise SpecError(self.spec.path, "expected an object of JSON, it is another file")

    def check_table(self, origin: Origin) -> None:
        self.open(origin).check_title()

    def exists(self) -> bool:
        return self.files[0].exists()

    def open(self, origin: Origin) -> ToyTable:
        self.check()
        return ToyTable(self.files[0], self.spec.table or origin.model, origin)


class ToyTable:
    def __init__(self, path: Path, name: str, origin: Origin) -> None:
        self.where = f"{path}, table {name}"
        self._path, self._name, self._origin = path, name, origin
        self._title = f"galbatch: {origin.survey}, {origin.model}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass  # nothing is open between two pieces

    def append(self, piece: Piece) -> int:
        try:
            table = pq.ParquetFile(piece.path).read()
        except (OSError, pa.ArrowException) as error:
            raise DataError(str(piece.path), "cannot be read") from error
        content, held = self._read()
        self._check(table.schema, held)
        if held["pieces"].get(piece.unit, {}).get("key") == piece.key:
            return 0
        rows = {str(row[self._origin.id_column]): row for row in table.to_pylist()}
        if len(rows) < table.num_rows:
            raise SpecError(self.where, "an id is there twice")
        for other in held["pieces"].values():
            other["rows"] = {key: row for key, row in other["rows"].items() if key not in rows}
        held["pieces"][piece.unit] = {"key": piece.key, "of": piece.fingerprint, "rows": rows}
        self._write(content)
        return len(rows)

    def lacks(self, keys: Mapping[str, str]) -> str:
        content, held = self._read()
        if self._name not in content or not held["pieces"]:
            return f"table {self._name} is gone"
        found = {unit: piece["key"] for unit, piece in held["pieces"].items()}
        return "" if found == keys else f"table {self._name} holds other pieces"

    def keep(self, units: Collection[str]) -> int:
        content, held = self._read()
        gone = [held["pieces"].pop(unit) for unit in held["pieces"].keys() - units]
        if gone:
            self._write(content)
        return sum(len(piece["rows"]) for piece in gone)

    def check_title(self) -> None:
        _, held = self._read()
        if held["title"] != self._title:
            raise SpecError(self.where, f"expected {self._title}; it says '{held['title']}'")

    def _check(self, schema: pa.Schema, held: dict[str, Any]) -> None:
        self.check_title()
        for field in schema:
            if pa.types.is_struct(field.type):
                raise SpecError(self.where, f"column '{field.name}' has a type without a place")
        held["columns"] = held["columns"] or schema.names
        for name in (set(held["columns"]) ^ set(schema.names)) - self._origin.optional:
            has = "the table has it" if name in held["columns"] else "the table has none"
            raise SpecError(self.where, f"column '{name}': {has}")
        if set(held["columns"]) - set(schema.names):
            for piece in held["pieces"].values():
                piece["key"] = ""  # it lacks what others may ask for again
                piece["rows"] = {
                    key: {name: row[name] for name in schema.names if name in row}
                    for key, row in piece["rows"].items()
                }
        held["columns"] = schema.names

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        content = json.loads(self._path.read_bytes()) if self._path.exists() else {}
        empty = {"title": self._title, "columns": [], "pieces": {}}
        return content, content.setdefault(self._name, empty)

    def _write(self, content: dict[str, Any]) -> None:
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps(content), encoding="utf-8")
        except OSError as error:
            raise SpecError(self.where, f"cannot be written: {error}") from error
        new.replace(self._path)
