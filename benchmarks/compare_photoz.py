"""Redshifts on labelled catalogues: galbatch beside the field's other codes, on the same rows.

    GALBATCH_DATA=... python benchmarks/compare_photoz.py [--catalogue zcosmos|rail_dc2]
        [--peers flexzboost knn ...] [--work FOLDER] [--json FILE]

zcosmos is real: 30 % of the sky is held out, by cell. rail_dc2 is simulated: its training file
trains, its validation file, which galbatch reads in a later run, is judged. galbatch's models are
trained by `galbatch run`, and keep a part of the training rows for validation; the peers train on
all of them, in an environment of their own (`benchmarks/peers/photoz.py`, through uv).

All are judged by `galbatch.quality`, and all distributions as galbatch's 15 quantiles; the CDE loss
of whole p(z), on one grid, is given beside where a code has them. A peer's point estimate is the
mode, median or mean with the smallest scatter on the very rows that it is judged on; galbatch's is
z_mode.
Errors are standard deviations over 200 bootstrap samples of the held-out rows, the same samples
for all, so that ratios have errors as well. Speed is rows per CPU second on one core, in memory:
galbatch's with all of its targets, the peers' with the redshift alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from galbatch.columns import to_numpy
from galbatch.flux.columns import raw_photometry
from galbatch.models.base import Model
from galbatch.models.families import load_model
from galbatch.models.pdf import QUANTILES
from galbatch.quality.distributions import cde_loss, crps, distribution_statistics
from galbatch.quality.metrics import (
    outlier_fraction,
    point_statistics,
    redshift_residual,
    sigma_nmad,
)
from galbatch.sample.labels import labels
from galbatch.sample.split import TEST, roles
from galbatch.spec import load_job, load_survey
from galbatch.spec.grid import RedshiftGrid
from galbatch.spec.survey import Survey
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import split_of
from galbatch.store.layout import Layout
from galbatch.store.tables import HEALPIX, read_partition

Array = NDArray[np.float64]
PEERS = ("flexzboost", "flexzboost_tuned", "knn", "extratrees", "boosting", "bpz", "bpz_cww")
LEARNED = ("flexzboost", "flexzboost_tuned", "knn", "extratrees", "boosting")
BASELINE = "trainz"
SCRIPT = Path(__file__).with_name("peers") / "photoz.py"
TOOLS = str(Path(__file__).resolve().parent.parent / ".tools" / "bin")
"""Where `make` puts uv when there is none."""
SAMPLES = 200
REPEAT = 3
GRID = 301
NOT_DETECTED = 99.0
# From the 5-sigma depth to the 1-sigma limit.
FIVE_SIGMA = 2.5 * np.log10(5.0)
# A peer's redshift range ends here: beyond are a few objects that would cost it its resolution.
HIGHEST = 0.999
# Bands of zCOSMOS by the names of their curves.
COSMOS_CURVES = {
    "fuv": "galex1500", "nuv": "galex2500", "u": "u_cfht", "b": "B_subaru", "g": "g_subaru",
    "v": "V_subaru", "r": "r_subaru", "i": "i_subaru", "ic": "i_cfht", "z": "z_subaru",
    "j": "J_wfcam", "k": "K_wircam",
}  # fmt: skip


@dataclass(frozen=True)
class Catalogue:
    """What is compared on.

    Parameters
    ----------
    job : str
        A job that galbatch ships.
    train_files : int or None
        So many of its files train, the rest are judged; None for the job's own split.
    curves : mapping of str to str
        Names of the bands' curves in the `filter_curves` data; others come with the template code.
    sigma_nmad, outliers : float
        What is asked for; infinite where only peers count.
    """

    job: str
    train_files: int | None = None
    curves: Mapping[str, str] = field(default_factory=dict)
    sigma_nmad: float = float("inf")
    outliers: float = float("inf")


CATALOGUES = {
    "zcosmos": Catalogue("zcosmos", None, COSMOS_CURVES, 0.0138, 0.009),
    "rail_dc2": Catalogue("lsst_dc2", 1),
}


@dataclass(frozen=True)
class Held:
    """The rows of a catalogue, and which of them are for what.

    Parameters
    ----------
    table : pyarrow.Table
    true : array, shape (n,)
        Redshift, NaN where unknown.
    train, test : array of bool, shape (n,)
    """

    table: pa.Table
    true: Array
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]


@dataclass(frozen=True)
class Answer:
    """What one code says of the held-out rows.

    Parameters
    ----------
    points : mapping of str to array, shape (n,)
        Point estimates by name.
    quantiles : array, shape (n, 15), or None
    density : array, shape (n, GRID), or None
    rate : float
        Rows per second on a core; NaN where not measured.
    fit_seconds : float
    note : str
        What was chosen, and versions.
    smooth : bool
        Whether the distributions have a density; otherwise they have no CDE loss.
    """

    points: Mapping[str, Array]
    quantiles: Array | None = None
    density: Array | None = None
    rate: float = float("nan")
    fit_seconds: float = float("nan")
    note: str = ""
    smooth: bool = True


@dataclass(frozen=True)
class Score:
    """How good one code is; errors from the bootstrap, NaN where a number does not exist."""

    point: str
    rows: int
    missing: int
    sigma_nmad: float
    sigma_nmad_error: float
    bias: float
    outliers: float
    outliers_error: float
    crps: float
    crps_error: float
    cde_loss: float
    cde_loss_error: float
    cde_loss_grid: float
    cde_loss_grid_error: float
    pit_ks: float
    pit_ks_5percent: float
    coverage68: float
    coverage95: float
    rate: float
    fit_seconds: float
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--catalogue", action="append", choices=list(CATALOGUES))
    parser.add_argument("--peers", nargs="*", default=[*PEERS, BASELINE])
    parser.add_argument("--work", type=Path, help="where to work (default: temporary)")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    parser.add_argument("--set", action="append", default=[], help="as for `galbatch run`")
    arguments = parser.parse_args()
    pa.set_cpu_count(1)
    data = Path(os.environ.get("GALBATCH_DATA", "data"))
    record = {}
    for name in arguments.catalogue or CATALOGUES:
        if not data.is_dir():
            print(f"{name}: skipped, there is no folder {data} (set GALBATCH_DATA)")
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = ((arguments.work or Path(temporary)) / name).absolute()
            folder.mkdir(parents=True, exist_ok=True)
            record[name] = compare(CATALOGUES[name], folder, data, arguments.peers, arguments.set)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def compare(
    catalogue: Catalogue, folder: Path, data: Path, peers: Sequence[str], changes: Sequence[str]
) -> dict[str, Any]:
    """Train, predict and judge all; print the table; return its numbers."""
    site, held = finished(catalogue, folder, changes)
    answers = own_answers(site, held)
    # A row without any photometry is nobody's to predict.
    blind = ~np.isfinite(answers["galbatch"].points["mode"])
    # RAIL's codes answer on a grid: what lies beyond it is no contest.
    beyond = ~blind & (held.true[held.test] > redshift_grid(held)[-1])
    judged = ~blind & ~beyond
    exchange(held, site.survey, curves(data, catalogue, site.survey), folder)
    absent = {}
    for peer in peers:
        try:
            answers[peer] = asked(peer, folder)
        except PeerError as error:
            absent[peer] = str(error)
    true = held.true[held.test][judged]
    answers = {name: _rows(answer, judged) for name, answer in answers.items()}
    highest = redshift_grid(held)[-1]
    scores, draws = judge(answers, true, highest)
    print(f"\n\n{site.survey.title}")
    print(f"trained on {held.train.sum()} rows, judged on {judged.sum()} held out ", end="")
    print(
        f"({blind.sum()} more have no photometry, {beyond.sum()} a redshift beyond the peers' "
        f"grid, to {highest:.2f})\n"
    )
    print(table_of(scores))
    for name, reason in absent.items():
        print(f"{name:18} not run: {reason}")
    for name, score in scores.items():
        print(f"{name:18} {score.note}")
    verdict = targets(catalogue, scores, draws)
    print("\n" + "\n".join(verdict))
    return {
        "scores": {name: asdict(score) for name, score in scores.items()},
        "not_run": absent,
        "targets": verdict,
    }


def finished(catalogue: Catalogue, folder: Path, changes: Sequence[str]) -> tuple[Site, Held]:
    """A store with trained models, and the rows that are held out."""
    words = load_job(catalogue.job, changes).model_dump(mode="json", exclude_none=True)
    words |= {"store": str(folder / "store"), "sinks": []}
    kinds = {model["kind"]: model for model in words["models"]}
    words["models"] = [
        kinds.get("photometric", {"kind": "photometric"}),
        kinds.get("thesis", {"kind": "thesis"}),
    ]
    files = words["source"]["paths"]
    if catalogue.train_files is None:
        site = run(words, folder)
        table = rows(site)
        split = split_of(site.job, site.survey)
        role = roles(split, table[HEALPIX].to_numpy(), table[site.survey.id.column].to_numpy())
        held = role == TEST
    else:
        # What is trained stays as it is when the catalogue grows.
        words["split"] |= {"test": 0.0}
        words["source"]["paths"] = files[: catalogue.train_files]
        first = rows(run(words, folder))
        words["source"]["paths"] = files
        site = run(words, folder)
        table = rows(site)
        name = site.survey.id.column
        held = ~np.isin(table[name].to_numpy(), first[name].to_numpy())
    true = labels(site.survey, table)["redshift"]
    known = np.isfinite(true)
    return site, Held(table, true, known & ~held, known & held)


def run(words: Mapping[str, Any], folder: Path) -> Site:
    """`galbatch run`."""
    job = folder / "job.yaml"
    job.write_text(yaml.safe_dump(dict(words)), encoding="utf-8")
    command = [sys.executable, "-m", "galbatch.cli", "run", str(job)]
    subprocess.run(command, check=True)
    spec = load_job(str(job))
    return Site(spec, load_survey(spec.survey), Layout(Path(spec.store)))


def rows(site: Site, model: str | None = None) -> pa.Table:
    """The catalogue, or what a model predicts for it."""
    found = Snapshot(site).catalogue
    assert found is not None
    return pa.concat_tables(
        [read_partition(site.layout, one, model=model) for one in found.partitions]
    )


def own_answers(site: Site, held: Held) -> dict[str, Answer]:
    """What the job's models say, as the store has it; how fast the first of them is."""
    answers = {}
    for spec in site.job.models:
        version = Snapshot(site).versions.current(spec)
        predicted = rows(site, version).filter(pa.array(held.test))
        receipt = site.book.get("train", version)
        points = {"mode": predicted["z_mode"].to_numpy().astype(np.float64)}
        seconds = receipt.seconds if receipt else float("nan")
        if spec.kind == "thesis":
            answers[spec.name] = Answer(points, fit_seconds=seconds)
            continue
        model = load_model(site.layout.model(version))
        grid = RedshiftGrid(low=0.0, high=float(redshift_grid(held)[-1]), points=GRID)
        whole = load_model(site.layout.model(version), redshift_grid=grid)
        table = held.table.filter(pa.array(held.test)).combine_chunks()
        answers["galbatch"] = Answer(
            points,
            _matrix(predicted["z_quantiles"]),
            to_numpy(whole.predict(table)["pz"]).astype(np.float64),
            rate(model, table),
            seconds,
            f"targets {', '.join(model.card.targets)}",
        )
    return answers


def rate(model: Model, table: pa.Table) -> float:
    """Rows per CPU second of a model's predictions, all targets and quantiles."""
    model.predict(table.slice(0, 100))
    costs = []
    with threadpool_limits(1):
        for _ in range(REPEAT):
            began = time.process_time()
            model.predict(table)
            costs.append(time.process_time() - began)
    return float(table.num_rows / np.median(costs))


def redshift_grid(held: Held) -> Array:
    """Evenly spaced redshifts over the training rows' range."""
    return np.linspace(0.0, np.quantile(held.true[held.train], HIGHEST), GRID)


class PeerError(Exception):
    """A peer could not be run."""


def exchange(held: Held, survey: Survey, shapes: Mapping[str, Any], folder: Path) -> None:
    """Write the rows that the peers train on and those that they predict."""
    value, error = magnitudes(held.table, survey)
    facts = {
        "bands": [
            {
                "name": band.name,
                "wavelength": band.wavelength,
                "limit": (band.depth or 25.0) + FIVE_SIGMA,
                "curve": shapes.get(band.name),
            }
            for band in survey.bands
        ],
        "reference": survey.reference_band,
        "highest": float(redshift_grid(held)[-1]),
        "levels": list(QUANTILES),
        "repeat": REPEAT,
        "folder": str(folder),
    }
    for name, chosen in (("train", held.train), ("test", held.test)):
        columns = {}
        for index, band in enumerate(survey.band_names):
            columns[f"mag_{band}"] = value[chosen, index]
            columns[f"err_{band}"] = error[chosen, index]
        if name == "train":
            columns["redshift"] = held.true[chosen]
        table = pa.table(columns).replace_schema_metadata({"peers": json.dumps(facts)})
        pq.write_table(table, folder / f"{name}.parquet")


def magnitudes(table: pa.Table, survey: Survey) -> tuple[Array, Array]:
    """AB magnitudes and errors (n, b): NaN not observed, 99 not detected with its 1-sigma limit."""
    raw = raw_photometry(table, survey, survey.band_names)
    value, error = raw.value.astype(np.float64), raw.error.astype(np.float64)
    limit = np.array([(band.depth or 25.0) + FIVE_SIGMA for band in survey.bands])
    known = np.isfinite(value)
    undetected = np.zeros_like(known)
    for sentinel in survey.photometry.sentinels:
        is_it = np.abs(value - sentinel.value) <= sentinel.tolerance
        known &= ~is_it
        if sentinel.meaning == "not_detected":
            undetected |= is_it
            if not sentinel.error_is_limit:
                error = np.where(is_it, limit, error)
    value = np.where(undetected, NOT_DETECTED, np.where(known, value, np.nan))
    strange = ~undetected & ~((error > 0) & (error < 10))
    return value, np.where(strange | np.isnan(value), np.nan, error)


def curves(data: Path, catalogue: Catalogue, survey: Survey) -> dict[str, Any]:
    """Transmission of the bands that the data have curves for: wavelengths and values."""
    if not catalogue.curves:
        return {}
    table = pq.read_table(data / "filter_curves" / "filter_curves.parquet")
    found = {}
    for band in survey.band_names:
        name = f"{catalogue.curves[band]}.lowres"
        row = table.filter(pc.field("name") == name).to_pylist()[0]
        found[band] = [list(row["wave"]), list(row["trans"])]
    return found


def asked(peer: str, folder: Path, command: Sequence[str] = ()) -> Answer:
    """What a peer says of the held-out rows.

    Parameters
    ----------
    peer : str
    folder : Path
        With what `exchange` wrote.
    command : sequence of str
        Runs the script; by default uv, in the script's own environment.

    Raises
    ------
    PeerError
        If it could not be run.
    """
    if not command:
        uv = shutil.which("uv") or shutil.which("uv", path=TOOLS)
        if uv is None:
            raise PeerError("uv, which makes its environment, is not installed")
        command = [uv, "run", "--quiet", "--no-project", "--script"]
    out = folder / f"{peer}.parquet"
    paths = [str(folder / "train.parquet"), str(folder / "test.parquet"), str(out)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment.pop("VIRTUAL_ENV", None)
    done = subprocess.run(
        [*command, str(SCRIPT), peer, *paths],
        capture_output=True, text=True, env=environment, cwd=folder,
    )  # fmt: skip
    if done.returncode:
        raise PeerError((done.stderr.strip().splitlines() or ["no word"])[-1])
    return read_answer(out)


def read_answer(path: Path) -> Answer:
    """What a peer has written."""
    table = pq.read_table(path)
    facts = json.loads(table.schema.metadata[b"peers"])
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    names = set(table.column_names)
    return Answer(
        {
            kind: table[f"z_{kind}"].to_numpy()
            for kind in ("mode", "median", "mean")
            if table[f"z_{kind}"].null_count == 0 and np.isfinite(table[f"z_{kind}"]).any()
        },
        _matrix(table["z_quantiles"]) if "z_quantiles" in names else None,
        _matrix(table["density"]) if "density" in names else None,
        table.num_rows / facts["predict_cpu_seconds"],
        facts["fit_seconds"],
        f"{versions}; {facts['chosen']}".removesuffix("; "),
        facts["smooth"],
    )


def judge(
    answers: Mapping[str, Answer], true: Array, highest: float
) -> tuple[dict[str, Score], dict[str, Array]]:
    """Scores of all, and the bootstrap's draws.

    Parameters
    ----------
    answers : mapping of str to Answer
        Of the same n rows.
    true : array, shape (n,)
    highest : float
        End of the grid of `Answer.density`.

    Returns
    -------
    dict of str to Score
    dict of str to array, shape (SAMPLES, 5)
        sigma_NMAD, outliers, CRPS, and the CDE losses of quantiles and of grids, of samples of
        the rows that are the same for all.
    """
    best = {name: best_point(answer, true) for name, answer in answers.items()}
    each = {name: per_row(answers[name], best[name][1], true, highest) for name in answers}
    rng = np.random.default_rng(0)
    draws: dict[str, Array] = {name: np.empty((SAMPLES, 5)) for name in answers}
    for sample in range(SAMPLES):
        drawn = rng.integers(0, true.size, true.size)
        for name, columns in each.items():
            draws[name][sample] = summarised(columns[drawn])
    return {
        name: score(answers[name], *best[name], true, each[name], draws[name].std(axis=0, ddof=1))
        for name in answers
    }, draws


def best_point(answer: Answer, true: Array) -> tuple[str, Array]:
    """The point estimate with the smallest scatter."""
    widths = {
        name: sigma_nmad(redshift_residual(point, true)) for name, point in answer.points.items()
    }
    name = min(widths, key=lambda kind: widths[kind])
    return name, answer.points[name]


def per_row(answer: Answer, point: Array, true: Array, highest: float) -> Array:
    """Residual, CRPS, CDE loss of the quantiles and of the grid, for each row; shape (n, 4)."""
    columns = np.full((true.size, 4), np.nan)
    columns[:, 0] = redshift_residual(point, true)
    if answer.quantiles is not None:
        columns[:, 1] = crps(true, answer.quantiles, QUANTILES)
        if answer.smooth:
            columns[:, 2] = cde_loss(true, answer.quantiles, QUANTILES)
    if answer.density is not None:
        columns[:, 3] = grid_cde_loss(true, answer.density, highest)
    return columns


def grid_cde_loss(true: Array, density: Array, highest: float) -> Array:
    """int p^2 - 2 p(true) for each row of densities on an even grid from 0, linear between points.

    Nothing is known beyond the grid: p(true) is 0 there.
    """
    step = highest / (density.shape[1] - 1)
    squared = (density**2).sum(axis=1) - (density[:, 0] ** 2 + density[:, -1] ** 2) / 2
    place = true / step
    low = np.clip(place.astype(int), 0, density.shape[1] - 2)
    number = np.arange(true.size)
    part = place - low
    at = density[number, low] * (1 - part) + density[number, low + 1] * part
    loss: Array = squared * step - 2 * np.where(true <= highest, at, 0.0)
    return loss


def summarised(columns: Array) -> Array:
    """sigma_NMAD, outliers, CRPS and CDE losses of some rows of `per_row`."""
    residual = columns[:, 0]
    means = [
        np.nanmean(column) if np.isfinite(column).any() else np.nan for column in columns[:, 1:].T
    ]
    return np.array([sigma_nmad(residual), outlier_fraction(residual), *means])


def score(
    answer: Answer, kind: str, point: Array, true: Array, columns: Array, errors: Array
) -> Score:
    """All numbers of a code."""
    points = point_statistics(point, true, redshift=True)
    width, outliers, score_, loss, grid = summarised(columns)
    widths = ", ".join(
        f"{name} {sigma_nmad(redshift_residual(one, true)):.5f}"
        for name, one in answer.points.items()
    )
    quantiles = answer.quantiles
    if quantiles is None:
        spread = distribution_statistics(point, true)
    else:
        ends = [quantiles[:, QUANTILES.index(level)] for level in (0.16, 0.84, 0.025, 0.975)]
        spread = distribution_statistics(
            quantiles[:, QUANTILES.index(0.5)],
            true,
            interval68=(ends[0], ends[1]),
            interval95=(ends[2], ends[3]),
            quantiles=quantiles,
            levels=QUANTILES,
        )
    return Score(
        kind, points.rows, true.size - points.rows, width, errors[0], points.bias, outliers,
        errors[1], score_, errors[2], loss, errors[3], grid, errors[4], spread.pit_ks,
        spread.pit_ks_5percent, spread.coverage68, spread.coverage95, answer.rate,
        answer.fit_seconds, f"sigma_NMAD of its {widths}; {answer.note}".removesuffix("; "),
    )  # fmt: skip


def table_of(scores: Mapping[str, Score]) -> str:
    """The table, a line for each code."""
    lines = [
        f"{'':18}{'point':>7}{'sigma_NMAD':>17}{'bias':>9}{'outliers %':>13}{'CRPS':>17}"
        f"{'CDE loss':>15}{'on the grid':>15}{'PIT KS':>8}{'68 %':>6}{'95 %':>6}{'missing':>8}"
        f"{'fit s':>7}{'rows/s':>9}"
    ]
    for name, one in scores.items():
        lines.append(
            f"{name:18}{one.point:>7}{one.sigma_nmad:10.5f}±{one.sigma_nmad_error:.4f}"
            f"{one.bias:9.4f}{100 * one.outliers:8.2f}±{100 * one.outliers_error:.2f}"
            f"{one.crps:10.5f}±{one.crps_error:.4f}"
            f"{one.cde_loss:10.2f}±{one.cde_loss_error:.2f}"
            f"{one.cde_loss_grid:10.2f}±{one.cde_loss_grid_error:.2f}"
            f"{one.pit_ks:8.3f}{100 * one.coverage68:6.1f}{100 * one.coverage95:6.1f}"
            f"{one.missing:8d}{one.fit_seconds:7.0f}{one.rate:9,.0f}"
        )
    return "\n".join(lines)


def targets(
    catalogue: Catalogue, scores: Mapping[str, Score], draws: Mapping[str, Array]
) -> list[str]:
    """What is asked for, a line for each, and whether it holds."""
    ours = scores["galbatch"]
    learned = [name for name in LEARNED if name in scores]
    lines = []
    for index, (column, words, most) in enumerate(
        (
            ("sigma_nmad", "sigma_NMAD", catalogue.sigma_nmad),
            ("outliers", "outliers", catalogue.outliers),
        )
    ):
        value = getattr(ours, column)
        if learned:
            best = min(learned, key=lambda name: getattr(scores[name], column))
            # Of few rows, or of their samples, none may be an outlier.
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = float(np.divide(value, getattr(scores[best], column)))
                error = (draws["galbatch"][:, index] / draws[best][:, index]).std(ddof=1)
            what = f"{words}, ratio to the best learned peer ({best})"
            lines.append(verdict(what, ratio, 0.9, error))
        if np.isfinite(most):
            lines.append(verdict(words, value, most, getattr(ours, f"{column}_error")))
    for name in (one for one in ("flexzboost", "flexzboost_tuned") if one in scores):
        for index, (column, words) in enumerate(
            (
                ("crps", "CRPS"),
                ("cde_loss", "CDE loss of the quantiles"),
                ("cde_loss_grid", "CDE loss on the grid"),
            )
        ):
            less = getattr(ours, column) - getattr(scores[name], column)
            error = (draws["galbatch"][:, index + 2] - draws[name][:, index + 2]).std(ddof=1)
            lines.append(verdict(f"{words}, less that of {name}", less, 0.0, error))
        faster = ours.rate / scores[name].rate
        lines.append(verdict(f"rows/s/core, ratio to {name}", faster, 20.0, least=True))
    return lines


def verdict(
    what: str, value: float, limit: float, error: float = float("nan"), *, least: bool = False
) -> str:
    """A line that says whether a number is what it should be."""
    holds = value >= limit if least else value <= limit
    spread = f" ± {error:.2g}" if np.isfinite(error) else ""
    sign, word = (">=" if least else "<="), ("holds" if holds else "FALLS SHORT")
    return f"{what:62}{f'{value:.4g}{spread}':>22}   {sign} {limit:<8g}{word}"


def _matrix(column: pa.ChunkedArray) -> Array:
    flat = column.combine_chunks()
    values: Array = flat.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return values.reshape(len(column), -1)


def _rows(answer: Answer, chosen: NDArray[np.bool_]) -> Answer:
    return replace(
        answer,
        points={name: point[chosen] for name, point in answer.points.items()},
        quantiles=None if answer.quantiles is None else answer.quantiles[chosen],
        density=None if answer.density is None else answer.density[chosen],
    )


if __name__ == "__main__":
    main()
