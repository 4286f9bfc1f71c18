"""Draws of the fluxes change what is predicted, never the model."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import lsdb
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from small import ROWS, galbatch, partitions
from world import predict, site_of

from galbatch.errors import SpecError
from galbatch.models.base import read_card
from galbatch.models.families import load_model, optional_columns
from galbatch.spec.job import PhotometricModel, ThesisModel
from galbatch.stages.base import OnProgress, Task
from galbatch.stages.predict import Predict
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.commit import digest_file
from galbatch.store.layout import Layout
from galbatch.store.verify import verify
from galbatch.values import Receipt

DRAWS = "models.photometric.monte_carlo=4"
GRID = "models.photometric.redshift_grid={low: 0, high: 3, points: 301}"
TABLE = "predictions/photometric"


def written(folder: Path) -> dict[str, str]:
    """Digests of all that is predicted, and of what publishes it."""
    store = folder / "store"
    files = [path for room in ("predictions", "arrays") for path in (store / room).rglob("*")]
    files += store.glob("*.properties")
    return {path.name + str(path.parent): digest_file(path) for path in files if path.is_file()}


def columns(path: Path) -> set[str]:
    return set(pq.read_schema(path).names)


def drawn(folder: Path) -> set[bool]:
    """Whether the partitions that are there have columns of draws."""
    return {"z_noise" in columns(path) for path in partitions(folder, TABLE)}


class Interrupted(BaseException):
    """Somebody pulls the plug."""


class Few(Predict):
    """The plug is pulled in the third task."""

    done = 0

    def run(self, site: Site, task: Task, report: OnProgress) -> tuple[Receipt, ...]:
        if Few.done == 2:
            raise Interrupted
        Few.done += 1
        return super().run(site, task, report)


def test_draws_are_predicted_without_training(copy: Path) -> None:
    grid = ["--set", GRID]
    assert galbatch("run", "job.yaml", *grid, cwd=copy).returncode == 0
    before, count = written(copy), len(partitions(copy, TABLE))
    card = (copy / "store/models/photometric/card.json").read_bytes()
    density = zarr.open_group(copy / "store/arrays/photometric", mode="r")["pz"][:]
    change = [*grid, "--set", DRAWS]

    state = json.loads(galbatch("status", "job.yaml", "--json", *change, cwd=copy).stdout)
    stages = {stage["stage"]: stage for stage in state["stages"]}
    assert stages["train"]["left"] == 0
    assert stages["predict"]["left"] == count
    assert stages["predict"]["reasons"] == {"monte_carlo: 0 -> 4": count}

    done = galbatch("run", "job.yaml", *change, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "galbatch train: nothing to do" in done.stderr
    assert f"galbatch predict: {count} to do" in done.stderr
    assert {path.name for path in (copy / "store/models").iterdir()} == {"photometric", "thesis"}
    assert (copy / "store/models/photometric/card.json").read_bytes() == card
    assert drawn(copy) == {True}
    # The other model has none, and is left alone.
    now = written(copy)
    assert {name for name in now if "thesis" in name and now[name] != before[name]} == set()
    assert {n for n in now if "arrays" in n and now[n] != before[n]} == set()
    table = lsdb.open_catalog(copy / "store").load_extension("photometric").compute()
    assert len(table) == ROWS and optional_columns() & set(table.columns) == {
        f"{name}_{share}"
        for name in ("z", "prob_star", "log_mass", "abs_mag_b", "spectral_type")
        for share in ("noise", "model")
    }
    usable = table[(table["quality"] & 1) == 0]
    assert np.isfinite(usable["z_noise"]).all() and (usable["z_noise"] > 0).any()
    with duckdb.connect(copy / "small.duckdb", read_only=True) as database:
        found = database.execute("SELECT count(*), count(z_noise) FROM photometric").fetchone()
    assert found == (ROWS, len(usable))
    assert list(verify(Layout(copy / "store"))) == []

    done = galbatch("run", "job.yaml", *grid, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert "galbatch train: nothing to do" in done.stderr
    assert written(copy) == before
    again = zarr.open_group(copy / "store/arrays/photometric", mode="r")["pz"][:]
    np.testing.assert_array_equal(again, density)
    with duckdb.connect(copy / "small.duckdb", read_only=True) as database:
        names = {row[0] for row in database.execute("DESCRIBE photometric").fetchall()}
        assert database.execute("SELECT count(*) FROM photometric").fetchone() == (ROWS,)
    assert not names & optional_columns()


def test_what_trains_does_not_know_of_draws(copy: Path) -> None:
    without, with_ = site_of(copy), site_of(copy, DRAWS)
    model, other = without.job.models[0], with_.job.models[0]
    assert isinstance(other, PhotometricModel) and other.monte_carlo == 4
    needs = [Snapshot(one).versions.need(one.job.models[0], "v") for one in (without, with_)]
    assert needs[0] == needs[1]
    assert model.training_settings() == other.training_settings()
    assert "monte_carlo" not in read_card(without.layout.model("photometric")).spec
    assert Snapshot(with_).versions.current(other) == "photometric"
    # Where the receipt is lost, the card's words tell the version.
    without.book.forget("train", "photometric")
    assert Snapshot(with_).versions.current(other) == "photometric"
    # All other words train.
    words = set(PhotometricModel.model_fields) - set(model.training_settings())
    assert words == {"monte_carlo", "redshift_grid"}
    assert set(ThesisModel.model_fields) == set(ThesisModel(kind="thesis").training_settings())


def test_interrupted_predictions_with_and_without_draws_do_not_mix(copy: Path) -> None:
    plain, with_draws = site_of(copy), site_of(copy, DRAWS)
    before, properties = written(copy), plain.layout.extension_properties("photometric")
    Few.done = 0
    with pytest.raises(Interrupted):
        predict(with_draws, Few())
    # Two are there, with draws, and not published.
    assert len(partitions(copy, TABLE)) == 2 and drawn(copy) == {True}
    assert not properties.exists() and plain.book.get("predict", "photometric") is None
    assert predict(plain).worked
    assert drawn(copy) == {False}
    assert written(copy) == before

    Few.done = 0
    with pytest.raises(Interrupted):
        predict(with_draws, Few())
    pending = Predict().pending(Snapshot(with_draws))
    assert pending.done == 2
    predict(with_draws)
    assert drawn(copy) == {True} and properties.exists()
    published = plain.book.get("predict", "photometric")
    assert published is not None and published.rows == ROWS
    assert published.depends["monte_carlo"] == 4


def test_a_partition_that_fails_is_left_out_rather_than_kept_without_draws(copy: Path) -> None:
    site = site_of(copy, DRAWS)
    count = len(partitions(copy, TABLE))
    first = Predict().pending(Snapshot(site)).tasks[0].unit

    class OneFails(Predict):
        def run(self, site: Site, task: Task, report: OnProgress) -> tuple[Receipt, ...]:
            if task.unit == first:
                raise ValueError("bad luck")
            return super().run(site, task, report)

    assert len(predict(site, OneFails()).quarantined) == 1
    assert len(partitions(copy, TABLE)) == count - 1 and drawn(copy) == {True}
    table = lsdb.open_catalog(copy / "store").load_extension("photometric").compute()
    with_z = table["z_mode"].notna()
    assert 0.5 < with_z.mean() < 0.95
    assert (table["z_noise"].notna() == with_z).all()


def test_a_model_is_told_its_draws_when_it_is_loaded(copy: Path) -> None:
    layout = Layout(copy / "store")
    folder = layout.model("photometric")
    plain, four = load_model(folder), load_model(folder, monte_carlo=4)
    more = {one.name for one in four.columns} - {one.name for one in plain.columns}
    assert more and more <= optional_columns()
    table = pq.ParquetFile(partitions(copy, "catalogue")[0]).read().slice(0, 20)
    found = four.predict(table)
    assert found.select(plain.predict(table).column_names).equals(plain.predict(table))
    assert set(found.column_names) - set(plain.predict(table).column_names) == more
    for draws in (1, -1):
        with pytest.raises(SpecError, match="monte_carlo"):
            load_model(folder, monte_carlo=draws)
    with pytest.raises(SpecError, match="no setting 'monte_carlo'"):
        load_model(layout.model("thesis"), monte_carlo=4)
