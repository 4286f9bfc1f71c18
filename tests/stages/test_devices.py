"""The predictions of one version are of one kind of device, unless the job allows several."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from card import on_card
from small import galbatch, partitions
from world import predict, site_of

from galbatch.errors import SpecError
from galbatch.stages.base import OnProgress, Task
from galbatch.stages.predict import Predict, Work
from galbatch.stages.predictions import of_one_kind
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.model_facts import PredictFacts, PublishedFacts
from galbatch.values import Receipt

CARD = "cuda: Strict Stand-in"
MIXED = "mixed_devices=true"
TABLE = "predictions/photometric"


def devices(site: Site, version: str = "photometric") -> list[str]:
    """The kinds of device that made a version's partitions."""
    found = site.book.all("predict")
    return [
        PredictFacts.from_json(receipt.facts).device
        for unit, receipt in found.items()
        if unit.startswith(version) and unit != version
    ]


def forget(site: Site, few: int) -> list[str]:
    """Take away the predictions of some partitions, and return their names."""
    units = [unit for unit in site.book.all("predict") if unit.startswith("photometric")]
    gone = [unit for unit in units if unit != "photometric"][:few]
    for unit in gone:
        site.book.forget("predict", unit)
    return gone


class FirstOnCard(Predict):
    """Workers of which the first has a GPU."""

    done = 0

    def run(self, site: Site, task: Task[Work], report: OnProgress) -> tuple[Receipt, ...]:
        FirstOnCard.done += 1
        with on_card() if FirstOnCard.done == 1 else nullcontext():
            return super().run(site, task, report)


def test_a_receipt_tells_what_computed(copy: Path) -> None:
    site = site_of(copy)
    assert set(devices(site)) == {"cpu"}
    forget(site, 99)
    with on_card():
        predict(site)
    assert set(devices(site)) == {CARD} and not Predict().pending(Snapshot(site)).tasks
    # Receipts from before there was a choice.
    receipt = next(iter(site.book.all("predict").values()))
    assert PredictFacts.device_in({}) == "cpu" and receipt.facts


def test_another_kind_of_device_does_not_go_on(copy: Path) -> None:
    site = site_of(copy)
    before = len(devices(site))
    forget(site, 1)
    with on_card(), pytest.raises(SpecError) as refused:
        predict(site)
    text = str(refused.value)
    assert f"computes on {CARD}" in text and "are of cpu" in text and "mixed_devices" in text
    assert set(devices(site)) == {"cpu"} and len(devices(site)) == before - 1
    predict(site)
    assert len(devices(site)) == before


def test_the_command_says_so_in_one_line(copy: Path) -> None:
    forget(site_of(copy), 1)
    with on_card():
        done = galbatch("run", "job.yaml", cwd=copy)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "mixed_devices" in done.stderr


def test_a_job_may_allow_several(copy: Path) -> None:
    site = site_of(copy, MIXED)
    forget(site, 1)
    with on_card():
        assert predict(site).left == ()
    assert sorted(set(devices(site))) == ["cpu", CARD]
    published = site.book.get("predict", "photometric")
    assert published is not None
    assert PublishedFacts.from_json(published.facts).partitions == len(devices(site))
    # Who takes the word back has the fewer ones made again.
    strict = site_of(copy)
    (task,) = Predict().pending(Snapshot(strict)).tasks
    assert task.why == f"computed on {CARD}, others on cpu"
    assert predict(strict).left == () and set(devices(strict)) == {"cpu"}


def test_what_begins_on_two_kinds_at_once_is_not_published_as_one(
    copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = site_of(copy)
    count = len(partitions(copy, TABLE))
    forget(site, 99)
    FirstOnCard.done = 0
    outcome = predict(site, FirstOnCard())
    (left,) = outcome.left
    assert left.startswith("predict: 1 partition left")
    assert f"1 partition of 'photometric' computed on {CARD}, most on cpu" in caplog.text
    published = site.book.get("predict", "photometric")
    assert published is not None
    assert PublishedFacts.from_json(published.facts).partitions == count - 1
    assert predict(site).left == ()
    assert set(devices(site)) == {"cpu"} and len(devices(site)) == count


def test_the_kind_of_most_is_kept() -> None:
    def receipt(device: str) -> Receipt:
        return Receipt("predict", "x", "", "", 1, (), 0.0, {"device": device})

    found = of_one_kind({"a": receipt("cpu"), "b": receipt(CARD), "c": receipt(CARD)})
    assert set(found) == {"b", "c"} and of_one_kind({}) == {}
    # Of as many, always the same.
    assert set(of_one_kind({"a": receipt("cpu"), "b": receipt(CARD)})) == {"b"}
