"""The records that make a run resumable."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

from galbatch.errors import SpecError, counted
from galbatch.store.commit import commit_bytes, digest_output
from galbatch.store.layout import Layout
from galbatch.store.locations import is_remote
from galbatch.values import Receipt

VERSION = 2
_MISSING = object()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Need:
    """The inputs and settings that a unit of work depends on now.

    Parameters
    ----------
    stage : str
    unit : str
        Partition, file or model.
    depends : mapping
        Everything the output depends on, by name (JSON values only).
    """

    stage: str
    unit: str
    depends: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """SHA-256 of canonical JSON, 64 hexadecimal digits."""
        return json_digest([self.stage, self.unit, dict(self.depends)])

    def receipt(
        self,
        *,
        digest: str,
        rows: int,
        outputs: Mapping[str, str],
        seconds: float,
        facts: Mapping[str, Any] | None = None,
    ) -> Receipt:
        """The receipt that says it is done.

        The parameters are those of `Receipt`; `outputs` are paths, each with its digest.
        """
        return Receipt(
            stage=self.stage,
            unit=self.unit,
            key=self.key,
            digest=digest,
            rows=rows,
            outputs=tuple(outputs),
            digests=tuple(outputs.values()),
            seconds=seconds,
            facts=facts or {},
            depends=self.depends,
        )


class ReceiptBook:
    """The receipts of a store: one human-readable JSON file for each unit of each stage.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def put(self, receipt: Receipt) -> None:
        """Record that a unit is done (after its outputs are in place), and how large they are."""
        sizes = tuple(_size(self._layout.output(output)) or 0 for output in receipt.outputs)
        record = replace(receipt, sizes=sizes).to_json()
        page = {"version": VERSION, "receipt": record, "checksum": json_digest(record)}
        text = json.dumps(page, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        commit_bytes(self._layout.receipt(receipt.stage, receipt.unit), text.encode())

    def get(self, stage: str, unit: str) -> Receipt | None:
        """The receipt of a unit, or None: also where it was edited or damaged (which is logged)."""
        receipt = self.read(self._layout.receipt(stage, unit))
        return receipt if receipt and (receipt.stage, receipt.unit) == (stage, unit) else None

    def all(self, stage: str) -> dict[str, Receipt]:
        """The receipts of a stage by unit, in the order of the units."""
        return _by_unit(self.read(path) for path in self.paths(stage))

    def paths(self, stage: str) -> list[Path]:
        """The files of a stage's receipts, in a fixed order."""
        folder = self._layout.receipts / stage
        if not folder.is_dir():
            return []
        if is_remote(folder):
            return sorted((path for path in folder.glob("*.json")), key=lambda path: path.name)
        with os.scandir(folder) as entries:  # several times faster than glob
            names = sorted(entry.name for entry in entries if entry.name.endswith(".json"))
        return [folder / name for name in names]

    def forget(self, stage: str, unit: str) -> None:
        """Remove a receipt, if there is one: the unit will be done again."""
        self._layout.receipt(stage, unit).unlink(missing_ok=True)

    def valid(self, need: Need) -> Receipt | None:
        """The receipt of a unit that need not be done again.

        Returns
        -------
        Receipt or None
            None if there is none, it was made from something else, or its outputs are gone or
            have another size.
        """
        receipt = self.get(need.stage, need.unit)
        return receipt if self.holds(receipt, need) else None

    def holds(self, receipt: Receipt | None, need: Need) -> bool:
        """Whether a receipt (of `all`, say) was made from this, and its outputs are there."""
        return receipt is not None and receipt.key == need.key and not self.damage(receipt)

    def why(self, receipt: Receipt | None, need: Need) -> str:
        """Why a unit must be done again: one line; empty when it was never done, or is valid."""
        if receipt is None:
            edited = self._layout.receipt(need.stage, need.unit).exists()
            return "its receipt was edited or damaged" if edited else ""
        if receipt.key != need.key:
            changes = list(_differences(receipt.depends, need.depends))
            return "; ".join(changes) or "its receipt says another key"
        return self.damage(receipt)

    def damage(self, receipt: Receipt, *, deep: bool = False) -> str:
        """The first problem of the outputs of a receipt: one line, or nothing.

        Parameters
        ----------
        receipt : Receipt
        deep : bool
            Read the outputs and compare their digest; otherwise their sizes are looked at.
        """
        return next((f"{output} {what}" for output, what in self.damages(receipt, deep=deep)), "")

    def damages(self, receipt: Receipt, *, deep: bool = False) -> Iterator[tuple[str, str]]:
        """All damaged outputs of a receipt.

        Parameters
        ----------
        receipt : Receipt
        deep : bool

        Yields
        ------
        tuple of str
            An output that is not as it was written, and what is wrong with it.
        """
        outputs = zip(receipt.outputs, receipt.sizes, receipt.digests, strict=True)
        for output, size, digest in outputs:
            path = self._layout.output(output)
            found = _size(path)
            if found is None:
                yield output, "is gone"
            elif found != size:
                yield output, f"has {counted(found, 'byte')}, {size:,} were written"
            elif deep and digest_output(path) != digest:
                yield output, "is not what was written (another SHA-256)"

    def read(self, path: Path) -> Receipt | None:
        """The receipt in a file of `paths`; None where it is edited, damaged or outdated."""
        try:
            page = json.loads(path.read_bytes())
            if page["version"] != VERSION:
                _log.info("%s is of another version of galbatch: its work is done again", path)
                return None
            if page["checksum"] != json_digest(page["receipt"]):
                _warn(f"{path} was edited or damaged: its work is done again")
                return None
            return Receipt.from_json(page["receipt"])
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise SpecError(
                str(path), f"cannot be read: {error.strerror}", "whose file is it?"
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Also a folder of that name, and a disk that cannot read it any more.
            _warn(f"{path} is no receipt: its work is done again")
            return None


class Receipts:
    """The receipts of a store, each read once, when it is first asked for.

    What was read once, or was not there, stays the same for as long as this object lives.

    Parameters
    ----------
    layout : Layout
    """

    def __init__(self, layout: Layout) -> None:
        self._layout, self._book = layout, ReceiptBook(layout)
        self._read: dict[Path, Receipt | None] = {}
        self._stages: dict[str, Mapping[str, Receipt]] = {}

    def get(self, stage: str, unit: str) -> Receipt | None:
        """As `ReceiptBook.get`."""
        receipt = self._once(self._layout.receipt(stage, unit))
        return receipt if receipt and (receipt.stage, receipt.unit) == (stage, unit) else None

    def all(self, stage: str) -> Mapping[str, Receipt]:
        """As `ReceiptBook.all`."""
        if stage not in self._stages:
            found = _by_unit(map(self._once, self._book.paths(stage)))
            self._stages[stage] = MappingProxyType(found)
        return self._stages[stage]

    def valid(self, need: Need) -> Receipt | None:
        """As `ReceiptBook.valid`."""
        receipt = self.get(need.stage, need.unit)
        return receipt if self._book.holds(receipt, need) else None

    def holds(self, receipt: Receipt | None, need: Need) -> bool:
        """As `ReceiptBook.holds`."""
        return self._book.holds(receipt, need)

    def why(self, receipt: Receipt | None, need: Need) -> str:
        """As `ReceiptBook.why`."""
        return self._book.why(receipt, need)

    def damage(self, receipt: Receipt, *, deep: bool = False) -> str:
        """As `ReceiptBook.damage`."""
        return self._book.damage(receipt, deep=deep)

    def damages(self, receipt: Receipt) -> Iterator[tuple[str, str]]:
        """As `ReceiptBook.damages`."""
        return self._book.damages(receipt)

    def _once(self, path: Path) -> Receipt | None:
        if path not in self._read:
            self._read[path] = self._book.read(path)
        return self._read[path]


def _by_unit(found: Iterable[Receipt | None]) -> dict[str, Receipt]:
    receipts = filter(None, found)
    return {receipt.unit: receipt for receipt in sorted(receipts, key=lambda one: one.unit)}


def json_digest(value: Any) -> str:
    """SHA-256 of a JSON value, the same for equal values: 64 hexadecimal digits."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=4096)
def _warn(text: str) -> None:
    """Log it once, however often the receipts are read."""
    _log.warning("%s", text)


def _differences(then: Any, now: Any, name: str = "") -> Iterator[str]:
    """Differences between two JSON values, as ``model.epochs: 40 -> 12``."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in sorted(then.keys() | now.keys()):
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(then.get(key, _MISSING), now.get(key, _MISSING), inner)
    elif isinstance(then, list | tuple) and isinstance(now, list | tuple):
        for number, (one, other) in enumerate(zip_longest(then, now, fillvalue=_MISSING)):
            yield from _differences(one, other, f"{name}.{number}")
    elif then != now:
        yield f"{name}: {_short(then)} -> {_short(now)}"


def _short(value: Any) -> str:
    if value is _MISSING:
        return "none"
    if isinstance(value, str) and len(value) == 64:
        return value[:8]
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _size(path: Path) -> int | None:
    """Bytes of a file, or of the files in a folder; None where there is neither."""
    if is_remote(path):
        folder, there = path.is_dir(), path.exists()
        size = path.stat().st_size if there and not folder else 0
    else:
        try:
            found = path.stat()  # once: there are as many as partitions
        except (FileNotFoundError, NotADirectoryError):
            return None
        folder, there, size = stat.S_ISDIR(found.st_mode), True, found.st_size
    if folder:
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return size if there else None
