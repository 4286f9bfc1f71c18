"""What the page says of one version of a model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from galbatch.errors import counted
from galbatch.models.base import HISTORY, ShowingModel, read_card
from galbatch.models.pdf import QUANTILES
from galbatch.quality.evaluation import evaluate
from galbatch.quality.recalibration import FEWEST_TO_STRAIGHTEN
from galbatch.quality.results import Evaluation, Histogram
from galbatch.report.data import HeldOut, LossCurve, ModelReport, OwnReport, TargetLabels
from galbatch.stages.catalogue import Catalogue
from galbatch.stages.own_report import own_report
from galbatch.stages.predictions import loaded_model, predicted, predictors
from galbatch.stages.state import Snapshot
from galbatch.store.facts import Counts
from galbatch.store.locations import local_copy
from galbatch.store.model_facts import PredictFacts
from galbatch.values import TARGETS


def model_report(
    snapshot: Snapshot,
    catalogue: Catalogue,
    name: str,
    held_out: HeldOut | None,
    predictions: Mapping[str, NDArray[Any]],
) -> ModelReport:
    """What the page says of one version of a model.

    Parameters
    ----------
    snapshot : Snapshot
    catalogue : Catalogue
    name : str
        The version.
    held_out : HeldOut or None
    predictions : mapping of str to array
        Of the held-out rows.
    """
    site = snapshot.site
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
    summaries = _facts(snapshot, catalogue, name)
    return ModelReport(
        name=name,
        kind=card.kind,
        fingerprint=card.fingerprint,
        predicted=sum(summary.predicted for summary in summaries),
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
        redshifts=total_counts(summary.redshifts for summary in summaries),
        ood=total_counts(summary.ood for summary in summaries),
        quality=_qualities(summary.quality for summary in summaries),
        own=_own(snapshot, catalogue, name),
    )


def _own(snapshot: Snapshot, catalogue: Catalogue, version: str) -> OwnReport | None:
    """What a version shows of its own, if its family has it show anything."""
    for one in predictors(snapshot, catalogue):
        if one.version == version:
            model = loaded_model(snapshot.site.layout.model(version), one.fingerprint, one.asked)
            if isinstance(model, ShowingModel):
                return own_report(snapshot, catalogue, version, model)
    return None


def _facts(snapshot: Snapshot, catalogue: Catalogue, version: str) -> list[PredictFacts]:
    receipts = predicted(snapshot, catalogue, version)
    return [PredictFacts.from_json(receipt.facts) for receipt in receipts.values()]


def total_counts(parts: Iterable[Counts | None]) -> Histogram | None:
    """The sum of counts between the same edges; None of nothing."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    counts = np.sum([part.counts for part in present], axis=0)
    return Histogram(present[0].edges, tuple(int(number) for number in counts))


def _qualities(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part)
    return {name: counts[name] for name in ("ok", *counts) if counts[name]}


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
    judged = "simulated rows held out" if "simulated" in card["rows"] else "validation"
    for target, scores in card["metrics"].items():
        lines[f"{judged}, {target}"] = ", ".join(
            f"{name} {value:.4g}" for name, value in scores.items()
        )
    return tuple((name, line) for name, line in lines.items() if line)


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
