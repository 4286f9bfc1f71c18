"""The records that make a run resumable."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from galbatch.store.commit import commit_bytes, digest_outputs
from galbatch.store.layout import Layout
from galbatch.values import Receipt

VERSION = 1
_log = logging.getLogger(__name__)


def receipt_key(
    stage: str,
    code_version: int,
    spec_slice: Mapping[str, Any],
    upstream: Sequence[str],
    unit: str,
) -> str:
    """What a unit of work depends on, as one hash.

    Parameters
    ----------
    stage : str
    code_version : int
        Counted up when the stage's code makes something else of the same input.
    spec_slice : mapping
        The part of the job and survey that the stage reads (JSON values).
    upstream : sequence of str
        Digests or keys of what it reads, in a fixed order.
    unit : str
        Partition, file or model.

    Returns
    -------
    str
        SHA-256 of canonical JSON, 64 hexadecimal digits.
    """
    return _hash([stage, code_version, spec_slice, list(upstream), unit])


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
        sizes = tuple(_size(self._layout.root / output) for output in receipt.outputs)
        record = replace(receipt, sizes=sizes).to_json()
        page = {"version": VERSION, "receipt": record, "checksum": _hash(record)}
        text = json.dumps(page, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        commit_bytes(self._layout.receipt(receipt.stage, receipt.unit), text.encode())

    def get(self, stage: str, unit: str) -> Receipt | None:
        """The receipt of a unit, or None: also where it was edited or damaged (which is logged)."""
        receipt = self._read(self._layout.receipt(stage, unit))
        return receipt if receipt and (receipt.stage, receipt.unit) == (stage, unit) else None

    def all(self, stage: str) -> dict[str, Receipt]:
        """The receipts of a stage by unit, in the order of the units."""
        folder = self._layout.receipts / stage
        if not folder.is_dir():
            return {}
        with os.scandir(folder) as entries:
            paths = [entry.path for entry in entries if entry.name.endswith(".json")]
        found = [receipt for path in paths if (receipt := self._read(path))]
        return {receipt.unit: receipt for receipt in sorted(found, key=lambda found: found.unit)}

    def forget(self, stage: str, unit: str) -> None:
        """Remove a receipt, if there is one: the unit will be done again."""
        self._layout.receipt(stage, unit).unlink(missing_ok=True)

    def valid(self, stage: str, unit: str, key: str, *, deep: bool = False) -> Receipt | None:
        """The receipt of a unit that need not be done again.

        Parameters
        ----------
        stage : str
        unit : str
        key : str
            What the receipt's key must be (`receipt_key`).
        deep : bool
            Also read the outputs and compare their digest.

        Returns
        -------
        Receipt or None
            None if there is none, it is for something else, or its outputs are gone or have
            another size (with `deep`: another content).
        """
        receipt = self.get(stage, unit)
        return receipt if receipt and self.holds(receipt, key, deep=deep) else None

    def holds(self, receipt: Receipt, key: str, *, deep: bool = False) -> bool:
        """Whether a receipt (of `all`, say) has this key and its outputs are there."""
        root = self._layout.root
        if receipt.key != key:
            return False
        for output, size in zip(receipt.outputs, receipt.sizes, strict=True):
            if not (root / output).exists() or _size(root / output) != size:
                return False
        return (
            not deep
            or not receipt.outputs
            or (digest_outputs(root, receipt.outputs) == receipt.digest)
        )

    def _read(self, path: str | Path) -> Receipt | None:
        try:
            page = json.loads(Path(path).read_bytes())
            if page["version"] != VERSION:
                _log.info("%s is of another version of galbatch: its work is done again", path)
                return None
            if page["checksum"] != _hash(page["receipt"]):
                _log.warning("%s was edited or damaged: its work is done again", path)
                return None
            return Receipt.from_json(page["receipt"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            _log.warning("%s is no receipt: its work is done again", path)
            return None


def _size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; 0 where there is none."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size if path.exists() else 0


def _hash(value: Any) -> str:
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )
    return hashlib.sha256(text.encode()).hexdigest()
