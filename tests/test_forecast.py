"""What a job will take: by rates that were measured, for the workers that it asks for."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from small import galbatch, write_job
from world import World

from galbatch.errors import NoFileError, SpecError
from galbatch.forecast.page import plan_page
from galbatch.forecast.rates import Rates, measured_rates, rates_of_store
from galbatch.forecast.work import doers, forecast, warnings
from galbatch.plan import plan
from galbatch.readers.counting import rows_of
from galbatch.spec import load_job, load_survey
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot

RATES = Rates(
    {"scan": 10_000.0, "ingest": 100_000.0, "train": 5_000.0, "predict": 20_000.0},
    "2026-11-28", "a machine", 20_000,
)  # fmt: skip
GROUPS = {"cpu": {"workers": 64, "cores": 4, "memory": "16 GiB"}, "gpu": {"workers": 1, "gpus": 1}}


def at(folder: Path, **changes: Any) -> Site:
    job = load_job(write_job(folder, store=str(folder / "store"), **changes))
    return Site.of(job, load_survey(job.survey))


def slurm(**settings: Any) -> dict[str, Any]:
    return {"kind": "slurm", "memory": "6 GiB", **settings}


def test_the_table_tells_who_does_what(tmp_path: Path) -> None:
    site = at(tmp_path, cluster=slurm(groups=GROUPS))
    said = {stage.name: doers(stage, site).said for stage in plan(site.job, site.survey)}
    assert said["scan"] == said["ingest"] == said["predict"] == "cpu: 64 workers in 16 jobs"
    assert said["train"] == "gpu: 1 worker in 1 job, a GPU each"
    assert said["report"] == "the driver"
    site = at(tmp_path, cluster=slurm(workers=[2, 40]))
    said = {stage.name: doers(stage, site).said for stage in plan(site.job, site.survey)}
    assert said["scan"] == "2 to 40 workers in 2 to 40 jobs"
    assert said["train"] == "one of 2 to 40 workers in 2 to 40 jobs"
    groups = {"cpu": {"workers": [16, 256], "cores": 16, "memory": "64 GiB"}}
    site = at(tmp_path, cluster=slurm(groups=groups))
    said = {stage.name: doers(stage, site).said for stage in plan(site.job, site.survey)}
    assert said["scan"] == "cpu: 16 to 256 workers in 1 to 16 jobs"


def test_time_follows_from_rows_rates_and_workers(tmp_path: Path) -> None:
    site = at(tmp_path, cluster=slurm(workers=10), partition={"rows": 50_000})
    found = forecast(plan(site.job, site.survey), site, 600_000_000, 100, RATES)
    assert found["predict"].core_seconds == pytest.approx(30_000)
    assert found["predict"].tasks == 20_000
    assert found["predict"].seconds == pytest.approx(3_000)
    assert found["scan"].tasks == 100 and found["scan"].workers == 10
    few = forecast(plan(site.job, site.survey), site, 1_000, 1, RATES)
    assert few["scan"].workers == 1 and few["scan"].seconds == pytest.approx(0.1)


def test_what_cannot_go_well_is_said(tmp_path: Path) -> None:
    short = slurm(workers=4, memory="600 MiB", walltime="00:01:00")
    site = at(tmp_path, cluster=short, partition={"rows": 1_000_000})
    stages = plan(site.job, site.survey)
    said = warnings(stages, site, forecast(stages, site, 10**8, 10, RATES))
    assert any(line.startswith("ingest may need ") and "0.6 GiB" in line for line in said)
    assert any(
        line.startswith("predict: its longest task takes about 50 s, and workers leave after 45 s")
        for line in said
    )
    assert any(line.startswith("store: ") and "rarely share" in line for line in said)
    site = at(tmp_path, cluster={"kind": "sge", "workers": 4})
    assert any("not asked for memory" in line for line in warnings(stages, site, {}))
    site = at(tmp_path, cluster={"kind": "local", "workers": 2, "memory": "6 GiB"})
    assert warnings(stages, site, {}) == ()


def test_rates_are_a_store_s_own(finished: Path) -> None:
    job = load_job(str(finished / "job.yaml"), [f"store={finished / 'store'}"])
    found = rates_of_store(Snapshot(Site.of(job, load_survey(job.survey))))
    assert found is not None
    assert {*found.rows} == {"scan", "ingest", "train", "predict"}
    assert all(rate > 0 for rate in found.rows.values())


def test_rates_are_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("galbatch.forecast.rates.SAMPLE", 1_500)
    site = at(tmp_path, models=[{"kind": "thesis", "targets": ["redshift"]}])
    assert measured_rates(site) is None
    table, lines = plan_page(site, None, measure=True)
    kept = measured_rates(site)
    assert kept is not None and kept.sample == 1_500
    assert str(kept) in lines and any(line.startswith("in all: ") for line in lines)
    assert len(table.rows) == len(plan(site.job, site.survey))
    assert not (tmp_path / "store").exists()
    (file,) = (tmp_path / "cache" / "galbatch" / "rates").iterdir()
    file.write_text("{", encoding="utf-8")
    assert measured_rates(site) is None


def test_a_survey_without_a_sky_cannot_be_measured(tmp_path: Path) -> None:
    survey = load_survey("zcosmos").model_copy(update={"mock": None})
    made = at(tmp_path, source={"kind": "files", "paths": ["none.csv"]})
    site = Site(made.job, survey, made.layout)
    with pytest.raises(SpecError, match="cannot be simulated"):
        plan_page(site, 100, measure=True)


def test_rows_are_counted_without_reading(tmp_path: Path) -> None:
    text = "id,mag\n" + "".join(f"{number},21.5\n" for number in range(1, 200_001))
    plain, packed = tmp_path / "a.csv", tmp_path / "a.csv.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    estimate = rows_of(str(plain), None)
    assert estimate is not None
    assert estimate[0] == pytest.approx(200_000, rel=0.1) and not estimate[1]
    assert rows_of(str(packed), None) is None
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": range(7)}), tmp_path / "a.parquet")
    assert rows_of(str(tmp_path / "a.parquet"), None) == (7, True)


def test_a_plan_is_made_before_the_files_are_there(tmp_path: Path) -> None:
    there = tmp_path / "a.csv"
    site = at(
        tmp_path, source={"kind": "files", "paths": [str(there), f"{tmp_path}/to_come/*.csv"]}
    )
    _, lines = plan_page(site, 5_000_000, measure=False)
    (scan,) = (line for line in lines if line.startswith("scan: "))
    assert "read files that are not there yet" in scan and "there is no such file" in scan
    assert "rows: 5,000,000, as you say; files are missing" in lines
    with pytest.raises(NoFileError, match="there is no such file"):
        plan_page(site, None, measure=False)
    # Other mistakes are none of what is to come.
    site = at(tmp_path, source={"kind": "files", "paths": [str(tmp_path)]})
    with pytest.raises(SpecError, match="is a folder"):
        plan_page(site, 5_000_000, measure=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A store that has read two files, which its job names one by one."""
    world = World(tmp_path, "zcosmos")
    for name, frame in zip("ab", world.frames, strict=False):
        world.write(name, frame)
    paths = [f"{tmp_path}/{name}.parquet" for name in "ab"]
    words = {**world.words, "source": {**world.words["source"], "paths": paths}}
    world.site = world.site_of("store", words)
    world.run()
    return world


def test_files_that_were_read_and_are_gone_do_not_stop_a_plan(world: World) -> None:
    (world.folder / "a.parquet").unlink()
    _, lines = plan_page(world.site, None, measure=False)
    assert f"rows: {len(world.frames[1]):,} in 1 file" in lines


def test_a_measurement_asks_for_no_receipts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("galbatch.forecast.page.measure_rates", lambda _: RATES)
    monkeypatch.setattr("galbatch.store.receipts.Receipts.all", lambda *_: pytest.fail("are read"))
    assert str(RATES) in plan_page(world.site, None, measure=True)[1]


def test_rows_that_the_user_says_are_simulated_in_all_lines(tmp_path: Path) -> None:
    site = at(tmp_path)
    few, many = (plan_page(site, rows, measure=False)[1] for rows in (None, 3_000_000))
    assert "scan: simulate 1,500 objects, 400 at a time" in few
    assert "scan: simulate 3,000,000 objects, 400 at a time" in many
    assert "rows: 3,000,000, simulated" in many


def test_plan_says_it_on_the_command_line(tmp_path: Path) -> None:
    done = galbatch("plan", write_job(tmp_path), "--rows", "500000000", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rows: 500,000,000" in done.stdout and "rates: " in done.stdout
    assert json.dumps("Traceback") not in done.stderr
