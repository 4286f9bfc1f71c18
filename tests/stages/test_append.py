"""Predictions go to databases, whatever kind they are."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from toy_sink import ToyDatabase, ToySink
from world import Silent

from galbatch.errors import SpecError
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.sinks.base import Origin
from galbatch.sinks.open import SINKS, sink_of
from galbatch.spec import load_survey
from galbatch.spec.job import DuckdbSink, Job
from galbatch.stages.append import Append
from galbatch.stages.checks import check_places
from galbatch.stages.deliveries import unit_of
from galbatch.stages.overlap import keep_apart
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot

MODELS = ("photometric", "thesis")


@pytest.fixture
def site(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A finished store, whose job names a database of a kind that the package does not know."""
    monkeypatch.setitem(SINKS, "toy", ToyDatabase)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "store", "store")
    job = Job.model_validate(yaml.safe_load((finished / "job.yaml").read_text()))
    toy: Any = ToySink(path="db/toy")
    yield Site.of(job.model_copy(update={"sinks": (toy,)}), load_survey(job.survey))


def rows(site: Site, model: str) -> list[dict[str, Any]]:
    """What the database has."""
    _, held = sink_of(site.job.sinks[0]).open(Origin("alhambra", model, "ID"))._read()
    found = [row for piece in held["pieces"].values() for row in piece["rows"].values()]
    return sorted(found, key=lambda row: row["ID"])


def test_a_kind_that_a_test_knows_takes_all_predictions_once(site: Site, tmp_path: Path) -> None:
    def append() -> dict[str, int]:
        left = {task.unit: task.why for task in Append().pending(Snapshot(site)).tasks}
        with opened(site):
            outcome = run((Append(),), site, lambda: nullcontext(None), Silent())
        assert not outcome.left
        return left

    check_places(Snapshot(site))
    assert Append().summary(site) == "JSON db/toy; key: ID"
    units = {f"toy.db/toy.{model}.{model}": "" for model in MODELS}
    assert append() == units
    for model in MODELS:
        files = sorted(site.layout.dataset(model).rglob("Npix=*.parquet"))
        predicted = [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]
        wanted = sorted(predicted, key=lambda row: row["ID"])
        assert len(wanted) > 1000 and str(rows(site, model)) == str(wanted)
    assert append() == {}
    assert site.book.all("append")[f"toy.db/toy.{MODELS[0]}.{MODELS[0]}"].facts["kind"] == "toy"
    Path("db/toy").unlink()
    assert append() == dict.fromkeys(units, "JSON db/toy is gone")
    with sink_of(site.job.sinks[0]).open(Origin("alhambra", MODELS[0], "ID")) as table:
        assert table.keep([]) > 1000
    assert list(append()) == [f"toy.db/toy.{MODELS[0]}.{MODELS[0]}"]
    assert len(rows(site, MODELS[0])) > 1000


def test_its_files_are_no_sources_and_a_file_of_others_is_refused(site: Site) -> None:
    with pytest.raises(SpecError, match=r"db/toy is the database that 'sinks' names"):
        keep_apart(site, ["db/toy"])
    Path("db").mkdir()
    Path("db/toy").write_text("ID,RA\n1,2\n")
    with pytest.raises(SpecError, match="it is another file"):
        check_places(Snapshot(site))


def test_the_unit_of_a_delivery_stays() -> None:
    """Receipts of earlier stores are found by it."""
    sink = DuckdbSink(kind="duckdb", path="~/a/out.duckdb")
    assert unit_of(sink, "m_v2") == "duckdb.~/a/out.duckdb.m_v2.m_v2"
    named = sink.model_copy(update={"table": "mine"})
    assert unit_of(named, "m") == "duckdb.~/a/out.duckdb.mine.m"
