"""Facts of receipts: they come back as they were written, in the bytes that stores have."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from galbatch.store.facts import CatalogueFacts, PartitionFacts, ScanFacts, SourceFacts
from galbatch.store.layout import Layout
from galbatch.store.model_facts import AppendFacts, PredictFacts, PublishedFacts, TrainFacts
from galbatch.store.receipts import ReceiptBook
from galbatch.store.units import CATALOGUE_UNIT, partition_of

SCAN = {
    "number": 3, "news_to": "", "shards": [
        {"name": "000003-000000", "file": 3, "rows": 4, "low": 0, "high": 9, "digest": "d" * 64},
    ],
    "records": 5, "rejected": 1, "labelled": {"redshift": 2, "star": 0}, "stars": 0,
    "aliases": ["RAdeg -> RA"], "absent": ["EBV"], "notes": ["a note"],
}  # fmt: skip


def kind_of(stage: str, unit: str) -> Any:
    if stage == "ingest":
        return CatalogueFacts if unit == CATALOGUE_UNIT else PartitionFacts
    if stage == "predict":
        return PredictFacts if partition_of(unit) else PublishedFacts
    return {"train": TrainFacts, "append": AppendFacts}[stage]


def same(facts: Mapping[str, Any], parse: Callable[[Any], Any]) -> None:
    """Byte for byte, the order of the keys too."""
    assert json.dumps(parse(facts).to_json()) == json.dumps(facts)


def test_facts_of_a_scan_come_back() -> None:
    same(SCAN, ScanFacts.from_json)
    same({**SCAN, "news_to": None, "shards": []}, ScanFacts.from_json)


@pytest.mark.parametrize("stage", ["ingest", "train", "predict", "append"])
def test_facts_of_a_store_come_back(finished: Path, stage: str) -> None:
    receipts = ReceiptBook(Layout(finished / "store")).all(stage)
    assert receipts
    for unit, receipt in receipts.items():
        same(receipt.facts, kind_of(stage, unit).from_json)


def test_the_catalogue_remembers_a_source(finished: Path) -> None:
    catalogue = ReceiptBook(Layout(finished / "store")).get("ingest", CATALOGUE_UNIT)
    assert catalogue is not None
    facts = CatalogueFacts.from_json(catalogue.facts)
    for record in catalogue.facts["sources"].values():
        same(record, SourceFacts.from_json)
    numbers = {unit: source.number for unit, source in facts.sources.items()}
    assert CatalogueFacts.numbers(catalogue) == numbers
    assert sum(one.partition.rows for one in facts.partitions) == catalogue.rows
    assert facts.totals.read == facts.totals.records


def test_predictions_published_before_there_were_arrays_have_none() -> None:
    facts = PublishedFacts.from_json({"fingerprint": "f", "partitions": 2})
    assert facts.arrays is None
