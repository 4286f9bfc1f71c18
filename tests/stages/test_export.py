"""The ensemble that others' tools read has the distributions that the store has."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import qp
from small import galbatch
from world import site_of

from galbatch.errors import SpecError
from galbatch.models.pdf import QUANTILES
from galbatch.stages import export
from galbatch.stages.export import export_qp, steps
from galbatch.stages.site import Site
from galbatch.store.layout import Layout
from galbatch.values import Partition

# tables_io and qp tell of what they deprecate in each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture
def site(copy: Path) -> Site:
    """A small job that has run, as the command line sees it."""
    return site_of(copy)


def test_an_ensemble_of_every_row(copy: Path) -> None:
    done = galbatch("export", "job.yaml", "pz.hdf5", cwd=copy)
    assert done.returncode == 0, done.stderr
    ensemble = qp.read(str(copy / "pz.hdf5"))
    stored = pd.read_parquet(copy / "store/predictions/photometric/dataset").set_index("ID")
    stored = stored[np.isfinite(stored["z_mode"])]
    assert ensemble.npdf == len(stored)
    rows = stored.loc[np.asarray(ensemble.ancil["ID"])]
    np.testing.assert_allclose(np.ravel(ensemble.ancil["z_mode"]), rows["z_mode"], rtol=1e-6)
    wanted = np.stack(rows["z_quantiles"].to_list()).astype(np.float64)
    off = np.abs(ensemble.ppf(np.array(QUANTILES)) - wanted) / (1 + wanted)
    assert off.max() < 1e-3
    grid = np.linspace(0, 1.01 * wanted.max() + 0.1, 8001)
    integral = np.trapezoid(ensemble.pdf(grid), grid, axis=1)
    np.testing.assert_allclose(integral, 1, atol=0.01)
    assert not list(copy.glob(".pz*"))


def test_draws_do_not_matter_to_an_ensemble(copy: Path) -> None:
    draws = ["--set", "models.photometric.monte_carlo=2"]
    assert galbatch("run", "job.yaml", *draws, cwd=copy).returncode == 0
    for words in ([], draws):
        done = galbatch("export", "job.yaml", f"pz{len(words)}.hdf5", *words, cwd=copy)
        assert done.returncode == 0, done.stderr
    one, other = (qp.read(str(copy / f"pz{number}.hdf5")) for number in (0, 2))
    levels = np.array(QUANTILES)
    np.testing.assert_array_equal(one.ppf(levels), other.ppf(levels))


def test_a_density_as_qp_reads_it() -> None:
    """Of one peak, narrow ones, two peaks with nothing between them, and one that touches 0."""
    levels = np.array(QUANTILES)
    spread = np.log(levels / (1 - levels))
    quantiles = np.stack(
        [
            *(1 + width * spread for width in (1e-4, 1e-2, 0.1)),
            np.interp(levels, [0, 0.4, 0.6, 1], [0.1, 0.12, 3.0, 3.02]),
            np.linspace(0, 0.1, len(levels)),
        ]
    ).astype(np.float32)
    z, density = steps(quantiles)
    ensemble = qp.Ensemble(qp.interp_irregular, {"xvals": z, "yvals": density})
    assert z.min() >= -1e-5
    np.testing.assert_allclose(ensemble.ppf(levels), quantiles, atol=1e-4)
    for number, row in enumerate(quantiles.astype(np.float64)):
        one = ensemble[number]
        halves = (row[1:] + row[:-1]) / 2
        np.testing.assert_allclose(np.ravel(one.cdf(row)), levels, atol=1e-3)
        between = (levels[1:] + levels[:-1]) / 2
        np.testing.assert_allclose(np.ravel(one.cdf(halves)), between, atol=1e-3)
        just = np.hstack([np.nextafter(z[number], -9), np.nextafter(z[number], 9)])
        grid = np.unique(np.hstack([just, halves, np.linspace(-0.1, 4, 101)]).astype(np.float64))
        assert np.trapezoid(np.ravel(one.pdf(grid)), grid) == pytest.approx(1, abs=0.01)


def test_quantiles_that_coincide_make_no_infinite_density() -> None:
    z, density = steps(np.full((1, len(QUANTILES)), 0.7, np.float32))
    assert np.isfinite(density).all()
    np.testing.assert_allclose(z, 0.7, atol=1e-4)
    assert np.trapezoid(density, z, axis=1) == pytest.approx(1, abs=1e-4)


def test_ids_that_are_text_stay_whole(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer ones in later partitions, and such that are not ASCII."""
    read, wanted, seen = export.read_partition, [], set()

    def with_text(
        layout: Layout, partition: Partition, columns: tuple[str, ...], **named: Any
    ) -> pa.Table:
        table = read(layout, partition, columns, **named)
        seen.add(partition)
        ids = [f"{'ñ' * len(seen)}{number}" for number in table["ID"].to_pylist()]
        if "z_quantiles" in columns:
            wanted.extend(ids)
        return table.set_column(table.column_names.index("ID"), "ID", pa.array(ids))

    monkeypatch.setattr(export, "read_partition", with_text)
    # The first pass has seen all partitions; the second one must begin with short ids again.
    extent = export._extent
    monkeypatch.setattr(export, "_extent", lambda *args: (extent(*args), seen.clear())[0])
    export_qp(site, "photometric", tmp_path / "pz.hdf5")
    assert len(seen) > 1
    with h5py.File(tmp_path / "pz.hdf5") as file:
        found = [one.decode() for one in file["ancil/ID"][:]]
    assert found == wanted


def test_rows_that_are_not_predicted_yet_are_told(copy: Path, site: Site) -> None:
    receipts = sorted((copy / "store/receipts/predict").glob("photometric.*.json"))
    rows = json.loads(receipts[0].read_text())["receipt"]["rows"]
    receipts[0].unlink()
    other = site.job.models[0].model_copy(update={"epochs": 3})
    later = replace(site, job=site.job.model_copy(update={"models": (other,)}))
    with pytest.raises(SpecError, match="predicts with photometric_v2 now"):
        export_qp(later, "photometric", copy / "pz.hdf5")
    done = galbatch("export", "job.yaml", "pz.hdf5", cwd=copy)
    said = " ".join(done.stderr.split())
    assert done.returncode == 2
    assert f"not predicted {rows:,} rows of 1 of {len(receipts)} partitions" in said
    assert "galbatch run" in said and not (copy / "pz.hdf5").exists()
    # Nor does a receipt count whose output is gone, or that is of another training.
    receipt = site.book.get("predict", receipts[1].stem)
    assert receipt is not None
    site.layout.output(receipt.outputs[0]).unlink()
    with pytest.raises(SpecError, match="rows of 2 of"):
        export_qp(site, "photometric", copy / "pz.hdf5")
    trained = site.book.get("train", "photometric")
    assert trained is not None
    site.book.put(replace(trained, facts={**trained.facts, "fingerprint": "another"}))
    with pytest.raises(SpecError, match=f"{len(receipts)} of {len(receipts)} partitions"):
        export_qp(site, "photometric", copy / "pz.hdf5")


def test_a_place_where_no_file_can_be(site: Site, copy: Path) -> None:
    (copy / "plain").write_text("mine")
    (copy / "folder.hdf5").mkdir()
    before = sorted(copy.iterdir())
    for name, force, said in (
        ("plain/pz.hdf5", False, "plain is not a folder"),
        ("plain/deeper/pz.hdf5", True, "plain is not a folder"),
        ("folder.hdf5", True, "is a folder"),
        (f"{'n' * 300}.hdf5", False, "cannot be written: File name too long"),
    ):
        with pytest.raises(SpecError, match=said):
            export_qp(site, "photometric", copy / name, force)
    assert sorted(copy.iterdir()) == before
    done = galbatch("export", "job.yaml", "/proc/x/pz.hdf5", cwd=copy)
    assert done.returncode == 2 and "cannot be written" in " ".join(done.stderr.split())


def test_the_file_may_be_read_by_those_the_umask_lets(site: Site, copy: Path) -> None:
    before = os.umask(0o027)
    try:
        export_qp(site, "photometric", copy / "pz.hdf5")
    finally:
        os.umask(before)
    assert (copy / "pz.hdf5").stat().st_mode & 0o777 == 0o640


def test_a_model_without_redshifts_is_told(site: Site, copy: Path) -> None:
    none = "predicts no redshift distribution"
    with pytest.raises(SpecError, match=rf"'thesis' {none} \(these do: photometric "):
        export_qp(site, "thesis", copy / "pz.hdf5")
    card = site.layout.model("photometric") / "card.json"
    words = json.loads(card.read_text())
    words["targets"].remove("redshift")
    card.write_text(json.dumps(words))
    with pytest.raises(SpecError, match=rf"'photometric' {none} \(none of the store does"):
        export_qp(site, "photometric", copy / "pz.hdf5")


def test_nothing_is_replaced_unasked(copy: Path) -> None:
    (copy / "pz.hdf5").write_text("mine")
    done = galbatch("export", "job.yaml", "pz.hdf5", cwd=copy)
    assert done.returncode == 2 and "--force" in done.stderr
    assert (copy / "pz.hdf5").read_text() == "mine"
    assert galbatch("export", "job.yaml", "pz.hdf5", "--force", cwd=copy).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["pz.fits"], "ends with .hdf5"),
        (["pz.hdf5", "--model", "photometrix"], "did you mean 'photometric'?"),
    ],
)
def test_mistakes_are_told(copy: Path, arguments: list[str], said: str) -> None:
    done = galbatch("export", "job.yaml", *arguments, cwd=copy)
    assert done.returncode == 2 and said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
