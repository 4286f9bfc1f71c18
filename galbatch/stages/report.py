"""Judge every model on the held-out rows, and draw the page."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.util import hash_array

from galbatch import __version__
from galbatch.errors import SpecError, counted
from galbatch.flux.bands import reference_inputs, reference_magnitude
from galbatch.models.base import HISTORY, read_card
from galbatch.models.flags import Quality
from galbatch.models.pdf import QUANTILES
from galbatch.quality.evaluation import evaluate
from galbatch.quality.recalibration import FEWEST_TO_STRAIGHTEN
from galbatch.quality.results import Evaluation, Histogram
from galbatch.report.data import (
    HeldOut,
    LossCurve,
    ModelReport,
    Quarantine,
    Reference,
    ReportData,
    SinkSummary,
    SkyPartition,
    StageSummary,
    TargetLabels,
)
from galbatch.sample.labels import labels, meets
from galbatch.sample.split import TEST, roles
from galbatch.spec.job import MockSource, SkySplit
from galbatch.spec.optional import optional_columns
from galbatch.stages.base import PROCESS, UNITS, Pending, Site, Task, Where
from galbatch.stages.base import Report as Progress
from galbatch.stages.catalogue import Catalogue, finished_catalogue
from galbatch.stages.predict import own_columns, prediction_unit
from galbatch.stages.together import absent_lines
from galbatch.stages.train import current_version, label_columns, split_of
from galbatch.store.commit import commit_bytes, digest_file
from galbatch.store.history import latest_records
from galbatch.store.places import local_copy
from galbatch.store.quarantine import bare_reasons, rejected_tables, rejected_total
from galbatch.store.receipts import Need, words_digest
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.values import TARGETS, Receipt, RejectedRow, Target

REPORT_VERSION = 4
REPORT_UNIT = "page"
_EXAMPLES = 5
_UNUSED = 12
"""Columns that are named of those that the survey lists, files lack and nothing uses."""


@dataclass(frozen=True)
class Report:
    """One task, on the driver."""

    name: str = "report"
    word: str = "rows"
    where: Where = "driver"
    left: tuple[str, ...] = ()
    """What the stages before it have not done: a page that says so is another one."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        split = split_of(site.job, site.survey)
        by = "sky cell" if isinstance(split, SkySplit) else "id"
        return f"judge on the {split.test:.0%} of the labelled rows held out by {by}; draw the page"

    def memory(self, site: Site) -> int:
        """The held-out rows with their labels and predictions, and the figures."""
        return PROCESS + 2**29

    def pending(self, site: Site) -> Pending:
        """The page, when anything that stands on it has changed."""
        need = _need(site, self.left)
        if need is None:
            return Pending((), waiting="predict")
        receipt = site.book.get("report", REPORT_UNIT)
        if site.book.holds(receipt, need):
            return Pending((), done=1)
        return Pending((Task(REPORT_UNIT, None, need, site.book.why(receipt, need)),))

    def begin(self, site: Site, pending: Pending) -> Report:
        """Nothing to prepare."""
        return self

    def run(self, site: Site, task: Task, report: Progress) -> tuple[Receipt, ...]:
        """Draw the page and record it."""
        began = time.perf_counter()
        self.draw(site)
        layout = site.layout
        outputs = {
            layout.relative(layout.report / name): digest_file(layout.report / name)
            for name in ("index.html", "report.json")
        }
        need: Need = task.payload
        receipt = need.receipt(
            digest=words_digest(outputs),
            rows=0,
            outputs=outputs,
            seconds=time.perf_counter() - began,
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site, pending: Pending) -> None:
        """Nothing more."""

    def draw(self, site: Site) -> Path:
        """Write the page and, beside it, its numbers as JSON.

        Parameters
        ----------
        site : Site

        Returns
        -------
        Path
            Of the page.

        Raises
        ------
        SpecError
            If there is nothing to report yet.
        """
        from galbatch.report.page import render

        data = replace(report_data(site), left=self.left)
        page = site.layout.report / "index.html"
        commit_bytes(page, render(data).encode())
        commit_bytes(site.layout.report / "report.json", _numbers(data).encode())
        return page


def report_data(site: Site) -> ReportData:
    """Everything on the page, from what the store holds.

    Parameters
    ----------
    site : Site

    Returns
    -------
    ReportData
    """
    catalogue = finished_catalogue(site)
    if catalogue is None:
        raise SpecError(str(site.layout.root), "there is no catalogue yet", "galbatch run first")
    facts = catalogue.facts
    held_out, predictions = _held_out(site, catalogue)
    models = tuple(
        _model_report(site, catalogue, name, held_out, predictions[name]) for name in predictions
    )
    survey = site.survey
    notices = []
    if isinstance(site.job.source, MockSource):
        notices.append(
            "This catalogue is simulated: its labels are the truth that it was made from, "
            "and no number here says how well a model does on the real sky."
        )
    absent = {unit: words["absent"] for unit, words in facts["sources"].items()}
    notes = [_law_of_rows(facts, catalogue.rows)]
    lines = (*absent_lines(survey, absent), *facts["notes"])
    notes += [f"{line[0].upper()}{line[1:]}." for line in lines]
    used = {survey.id.column, *optional_columns(survey)}
    unused = [name for name in facts["absent"] if name not in used]
    if unused:
        more = f" and {len(unused) - _UNUSED} more" if len(unused) > _UNUSED else ""
        notes.append(f"No file has {', '.join(unused[:_UNUSED])}{more}: nothing here uses them.")
    return ReportData(
        job=site.job.name,
        survey=survey.title,
        version=__version__,
        when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        where=platform.node(),
        reference_band=survey.reference_band,
        rows_read=facts["read"],
        rows_rejected=facts["rejected"] + facts["duplicates"],
        rows_ingested=catalogue.rows,
        partitions=len(catalogue.partitions),
        stages=_stages(site),
        sinks=_sinks(site),
        quarantine=_quarantine(site),
        notices=tuple(notices),
        aliases=tuple(facts["aliases"]),
        notes=tuple(notes),
        models=models,
        held_out=held_out,
        references=tuple(
            Reference(item.target, item.statistic, item.value, item.source)
            for item in survey.published
        ),
        magnitudes=_magnitudes(site, catalogue),
        sky=_sky(site, catalogue),
        max_points=site.job.report.max_points,
    )


def _law_of_rows(facts: Mapping[str, Any], rows: int) -> str:
    """Where the records of the files are: counted by the files themselves, and by the readers."""
    refused = facts["rejected"] + facts["duplicates"]
    lost = facts["records"] - rows - refused
    said = (
        f"The files hold {counted(facts['records'], 'record')} by their own count; as many were "
        f"read: {rows:,} are in the catalogue, {refused:,} in quarantine"
    )
    return f"{said}, {lost:,} in partitions that could not be written." if lost else f"{said}."


def _need(site: Site, left: Sequence[str]) -> Need | None:
    book = site.book
    predictions = {}
    for version in (current_version(site, model) for model in site.job.models):
        receipt = book.get("predict", version)
        if receipt is None:
            return None
        predictions[version] = receipt.digest
    words = {
        "code": REPORT_VERSION,
        "report": site.job.report.model_dump(mode="json"),
        "predictions": predictions,
        "appended": {receipt.unit: receipt.key for receipt in _appended(site)},
        "quarantined": rejected_total(site.layout),
        "left": list(left),
    }
    return Need("report", REPORT_UNIT, words)


@dataclass(frozen=True)
class _Part:
    """What is judged of one partition."""

    rank: NDArray[np.uint64]
    truth: Mapping[Target, NDArray[Any]]
    magnitude: NDArray[Any]
    predicted: Mapping[str, pa.Table]

    def below(self, limit: np.uint64) -> _Part:
        """Its rows of a rank below the limit."""
        kept = self.rank < limit
        if kept.all():
            return self
        return _Part(
            self.rank[kept],
            {target: values[kept] for target, values in self.truth.items()},
            self.magnitude[kept],
            {name: table.filter(pa.array(kept)) for name, table in self.predicted.items()},
        )


class _Sample:
    """At most so many rows, drawn by a hash of their ids: memory does not grow with the survey.

    Parameters
    ----------
    at_most : int
    """

    def __init__(self, at_most: int) -> None:
        self.below = np.uint64(2**64 - 1)
        """Rows of this rank and above are not wanted."""
        self.thinned = False
        self.rows = 0
        self._at_most = at_most
        self._parts: list[_Part] = []

    def add(self, part: _Part) -> None:
        """One more partition's rows."""
        self._parts.append(part)
        self.rows += len(part.rank)
        if self.rows > 2 * self._at_most:
            self._thin()

    def parts(self) -> list[_Part]:
        """What is left, in the order in which it came."""
        if self.rows > self._at_most:
            self._thin()
        return self._parts

    def _thin(self) -> None:
        ranks = np.concatenate([part.rank for part in self._parts])
        self.below = np.partition(ranks, self._at_most)[self._at_most]
        self._parts = [part.below(self.below) for part in self._parts]
        self.rows = sum(len(part.rank) for part in self._parts)
        self.thinned = True


def _held_out(
    site: Site, catalogue: Catalogue
) -> tuple[HeldOut | None, dict[str, dict[str, NDArray[Any]]]]:
    """Truth and predictions of the labelled rows that no model has seen."""
    survey, layout = site.survey, site.layout
    split = split_of(site.job, survey)
    known = set(catalogue.facts["columns"])
    wanted = [*own_columns(survey), *label_columns(survey), *reference_inputs(survey)]
    wanted += [condition.column for condition in site.job.report.where]
    columns = [name for name in dict.fromkeys(wanted) if name in known]
    receipts = site.book.all("predict")
    names = [current_version(site, model) for model in site.job.models]
    sample = _Sample(site.job.report.max_rows)
    for partition in catalogue.partitions:
        if any(prediction_unit(name, partition) not in receipts for name in names):
            continue
        table = read_partition(layout, partition, columns)
        healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
        ids = table[survey.id.column].to_numpy()
        judged = roles(split, healpix, ids) == TEST
        found = labels(survey, table)
        judged &= np.any([np.isfinite(values) for values in found.values()], axis=0)
        judged &= meets(site.job.report.where, table)
        rank = hash_array(ids if ids.dtype.kind == "i" else ids.astype(object), categorize=False)
        judged &= rank < sample.below
        if not judged.any():
            continue
        mask = pa.array(judged)
        truth = {target: found.get(target, np.full(len(judged), np.nan)) for target in TARGETS}
        sample.add(
            _Part(
                rank[judged],
                {target: values[judged] for target, values in truth.items()},
                reference_magnitude(survey, table.filter(mask)),
                {
                    name: read_partition(layout, partition, model=name)
                    .filter(mask)
                    .drop_columns(list(own_columns(survey)))
                    for name in names
                },
            )
        )
    parts = sample.parts()
    columns_of = {name: _columns([part.predicted[name] for part in parts]) for name in names}
    if not parts:
        return None, columns_of
    by = (
        f"whole sky cells (HEALPix order {split.order})"
        if isinstance(split, SkySplit)
        else "rows drawn by their id"
    )
    description = (
        f"labelled rows of the {split.test:.0%} held out: {by}, seed {split.seed}; "
        "no model was trained, stopped or calibrated on them"
    )
    if sample.thinned:
        description += f"; of them a random {counted(sample.rows, 'row')}"
    return (
        HeldOut(
            description,
            {target: np.concatenate([part.truth[target] for part in parts]) for target in TARGETS},
            np.concatenate([part.magnitude for part in parts]),
        ),
        columns_of,
    )


def _columns(tables: Sequence[pa.Table]) -> dict[str, NDArray[Any]]:
    if not tables:
        return {}
    table = pa.concat_tables(tables).combine_chunks()
    found: dict[str, NDArray[Any]] = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            flat = column.flatten().to_numpy(zero_copy_only=False)
            found[name] = flat.reshape(-1, column.type.list_size)
        else:
            found[name] = column.to_numpy(zero_copy_only=False)
    return found


def _model_report(
    site: Site,
    catalogue: Catalogue,
    name: str,
    held_out: HeldOut | None,
    predictions: Mapping[str, NDArray[Any]],
) -> ModelReport:
    with local_copy(site.layout.model(name)) as folder:
        card, history = read_card(folder), _history(folder / HISTORY)
    evaluation: Evaluation | None = None
    if held_out is not None:
        evaluation = evaluate(
            TARGETS,
            predictions,
            held_out.truth,
            held_out.magnitude,
            quantile_levels=QUANTILES,
            magnitude_edges=site.job.report.magnitude_bins,
        )
    summaries = _summaries(site, catalogue, name)
    return ModelReport(
        name=name,
        kind=card.kind,
        fingerprint=card.fingerprint,
        predicted=sum(summary["predicted"] for summary in summaries),
        labels=tuple(
            TargetLabels(
                target,
                card.rows.get(target, {}).get("training", 0),
                card.rows.get(target, {}).get("validation", 0),
                int(np.isfinite(held_out.truth[target]).sum()) if held_out else 0,
                card.skipped.get(target, ""),
            )
            for target in TARGETS
            if target in card.targets or target in card.skipped
        ),
        card=_card_lines(card.to_json()),
        history=history,
        evaluation=evaluation,
        held_out=predictions,
        redshifts=_added(summary["redshifts"] for summary in summaries),
        ood=_added(summary["ood"] for summary in summaries),
        quality=_qualities(summary["quality"] for summary in summaries),
    )


def _summaries(site: Site, catalogue: Catalogue, model: str) -> list[Mapping[str, Any]]:
    receipts = site.book.all("predict")
    units = (prediction_unit(model, partition) for partition in catalogue.partitions)
    return [receipts[unit].facts for unit in units if unit in receipts]


def _added(histograms: Any) -> Histogram | None:
    found = [histogram for histogram in histograms if histogram is not None]
    if not found:
        return None
    counts = np.sum([histogram["counts"] for histogram in found], axis=0)
    return Histogram(tuple(found[0]["edges"]), tuple(int(number) for number in counts))


def _qualities(found: Any) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for partition in found:
        counts.update(partition)
    order = ["ok", *(str(flag.name) for flag in Quality)]
    return {name: counts[name] for name in order if counts[name]}


def _card_lines(card: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    training = card["training"]
    before = [one["survey"] for one in training.get("lineage", ())[:-1]]
    lines = {
        "trained on": ", then ".join([*before, card["survey"]]),
        "bands": ", ".join(card["bands"]),
        "training rows (SHA-256)": card["data"][:16],
        "libraries": ", ".join(f"{name} {number}" for name, number in card["libraries"].items()),
    }
    if warnings := training.get("warnings"):
        lines["to be known"] = "; ".join(warnings)
    refused = {target: number for target, number in training.get("refused", {}).items() if number}
    if refused:
        lines["labels refused"] = ", ".join(
            f"{target} {number} outside the survey's range" for target, number in refused.items()
        )
    if copies := training.get("fainter"):
        lines["classes beyond the labels"] = (
            f"fainter than {copies['limit']:.1f} learnt from {copies['copies']} copies of brighter "
            "rows, degraded to the noise there"
        )
    for target, one in training.get("match", {}).items():
        lines[f"labels weighed, {target}"] = (
            f"brighter than the catalogue (distance {one['distance']:.2f}), "
            f"{one['effective_rows']:.0f} effective rows"
        )
    for target, corrections in card["calibration"].items():
        straight = corrections.get("straightening", {})
        if straight.get("rows"):
            lines[f"slope correction, {target}"] = (
                f"slope of true against predicted values {straight['slope_before']:.3f} before, "
                f"{straight['slope_after']:.3f} after" + _why_not(straight)
            )
    if "qso" in card["skipped"]:
        lines["quasars are no class"] = card["skipped"]["qso"]
    for target, scores in card["metrics"].items():
        lines[f"validation, {target}"] = ", ".join(
            f"{name} {value:.4g}" for name, value in scores.items()
        )
    return tuple(lines.items())


def _why_not(straight: dict[str, Any]) -> str:
    if straight["given"]:
        return ", on the rows that it was fitted to"
    if straight["rows"] < FEWEST_TO_STRAIGHTEN:
        return f" (not tried: {counted(straight['rows'], 'row')}, too few)"
    return " (it did not help, and is not used)"


def _history(file: Path) -> tuple[LossCurve, ...]:
    curves = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return tuple(
        LossCurve(name, tuple(curve["loss"]), tuple(curve.get("val_loss", ())))
        for name, curve in curves.items()
    )


def _stages(site: Site) -> tuple[StageSummary, ...]:
    return tuple(
        StageSummary(
            record.stage, record.units, record.rows, record.seconds, reused=record.already_done
        )
        for record in latest_records(site.layout).values()
        if record.stage != "report"
    )


def _sinks(site: Site) -> tuple[SinkSummary, ...]:
    return tuple(
        SinkSummary(
            receipt.facts["where"],
            receipt.facts["table"],
            receipt.facts["model"],
            receipt.facts["rows"],
        )
        for receipt in _appended(site)
    )


def _appended(site: Site) -> tuple[Receipt, ...]:
    """Receipts of what was appended of the models as the job has them now."""
    versions = {current_version(site, model) for model in site.job.models}
    receipts = site.book.all("append").values()
    return tuple(receipt for receipt in receipts if receipt.facts["model"] in versions)


def _quarantine(site: Site) -> tuple[Quarantine, ...]:
    found: dict[tuple[str, str], Quarantine] = {}
    for table in rejected_tables(site.layout):
        stage = pc.list_element(pc.split_pattern(table["file"], " ", max_splits=1), 0).to_pandas()
        what = stage.map(UNITS).fillna("task").where(table["row"].to_numpy() == 0, "rows")
        frame = pd.DataFrame({"what": what, "reason": bare_reasons(table).to_pandas()})
        groups: dict[Any, Any] = frame.groupby(["what", "reason"], sort=False).indices
        for (kind, reason), places in groups.items():
            one = found.get((kind, reason), Quarantine(kind, reason, 0))
            shown = table.take(places[: _EXAMPLES - len(one.examples)]).to_pylist()
            examples = (*one.examples, *(RejectedRow(**row) for row in shown))
            found[kind, reason] = replace(one, count=one.count + len(places), examples=examples)
    return tuple(found.values())


def _magnitudes(site: Site, catalogue: Catalogue) -> Histogram | None:
    receipts = site.book.all("ingest")
    names = (partition.name for partition in catalogue.partitions)
    return _added(receipts[name].facts["magnitudes"] for name in names if name in receipts)


def _sky(site: Site, catalogue: Catalogue) -> tuple[SkyPartition, ...]:
    pixels = [partition for partition in catalogue.partitions if partition.kind == "healpix"]
    if not pixels:
        return ()
    from cdshealpix.nested import healpix_to_lonlat

    index = np.array([partition.index for partition in pixels], np.uint64)
    order = np.array([partition.order for partition in pixels], np.uint8)
    ra, dec = healpix_to_lonlat(index, order)
    # `predict o3-p45` is what a failed task of that partition is quarantined as.
    failed = {
        file.split()[-1]
        for table in rejected_tables(site.layout)
        for file in table.filter(pc.equal(table["row"], 0))["file"].to_pylist()
    }
    return tuple(
        SkyPartition(
            partition.name,
            float(lon.deg),
            float(lat.deg),
            partition.rows,
            partition.name in failed,
        )
        for partition, lon, lat in zip(pixels, ra, dec, strict=True)
    )


def _numbers(data: ReportData) -> str:
    models = {
        model.name: {
            "kind": model.kind,
            "fingerprint": model.fingerprint,
            "predicted": model.predicted,
            "labels": [asdict(label) for label in model.labels],
            "quality": dict(model.quality),
            "evaluation": model.evaluation.to_json() if model.evaluation else None,
        }
        for model in data.models
    }
    page = {
        "job": data.job,
        "survey": data.survey,
        "galbatch": data.version,
        "rows": {
            "read": data.rows_read,
            "rejected": data.rows_rejected,
            "ingested": data.rows_ingested,
        },
        "left": list(data.left),
        "held_out": data.held_out.description if data.held_out else None,
        "stages": [asdict(stage) for stage in data.stages],
        "models": models,
    }
    return json.dumps(page, indent=1) + "\n"
