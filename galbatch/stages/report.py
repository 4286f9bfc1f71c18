"""Judge every model on the held-out rows, and draw the page."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from galbatch.report.data import ReportData
from galbatch.spec.job import SkySplit
from galbatch.stages import code
from galbatch.stages.base import OnProgress, Pending, Task, Where
from galbatch.stages.memory import PROCESS
from galbatch.stages.report_data import appended, report_data
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.stages.training_rows import split_of
from galbatch.store.commit import commit_bytes, digest_file
from galbatch.store.quarantine import rejected_total
from galbatch.store.receipts import Need, json_digest
from galbatch.store.units import PAGE_UNIT
from galbatch.values import Receipt


@dataclass(frozen=True)
class DrawReport:
    """One task, on the driver."""

    name: str = "report"
    progress_unit: str = "rows"
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

    def pending(self, snapshot: Snapshot) -> Pending[Need, None]:
        """The page, when anything that stands on it has changed."""
        receipts, need = snapshot.receipts, _need(snapshot, self.left)
        if need is None:
            return Pending((), waiting="predict")
        receipt = receipts.get("report", PAGE_UNIT)
        if receipts.holds(receipt, need):
            return Pending((), done=1)
        return Pending((Task(PAGE_UNIT, None, need, receipts.why(receipt, need)),))

    def begin(self, snapshot: Snapshot, pending: Pending[Need, None]) -> DrawReport:
        """Nothing to prepare."""
        return self

    def run(self, site: Site, task: Task[Need], report: OnProgress) -> tuple[Receipt, ...]:
        """Draw the page and record it."""
        began = time.perf_counter()
        self.draw(Snapshot(site))
        layout = site.layout
        outputs = {
            layout.relative(layout.report / name): digest_file(layout.report / name)
            for name in ("index.html", "report.json")
        }
        receipt = task.payload.receipt(
            digest=json_digest(outputs),
            rows=0,
            outputs=outputs,
            seconds=time.perf_counter() - began,
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, snapshot: Snapshot, pending: Pending[Need, None]) -> None:
        """Nothing more."""

    def draw(self, snapshot: Snapshot) -> Path:
        """Write the page and, beside it, its numbers as JSON.

        Parameters
        ----------
        snapshot : Snapshot

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

        data = replace(report_data(snapshot), left=self.left)
        folder = snapshot.site.layout.report
        page = folder / "index.html"
        commit_bytes(page, render(data).encode())
        commit_bytes(folder / "report.json", _numbers(data).encode())
        return page


def _need(snapshot: Snapshot, left: Sequence[str]) -> Need | None:
    site, receipts = snapshot.site, snapshot.receipts
    predictions = {}
    for version in snapshot.versions.all_current:
        receipt = receipts.get("predict", version)
        if receipt is None:
            return None
        predictions[version] = receipt.digest
    depends = {
        "code": code.REPORT,
        "report": site.job.report.model_dump(mode="json"),
        "predictions": predictions,
        "appended": {receipt.unit: receipt.key for receipt in appended(snapshot)},
        "quarantined": rejected_total(site.layout),
        "left": list(left),
    }
    return Need("report", PAGE_UNIT, depends)


def _numbers(data: ReportData) -> str:
    from galbatch.report.own import own_numbers

    models = {
        model.name: {
            "kind": model.kind,
            "fingerprint": model.fingerprint,
            "predicted": model.predicted,
            "labels": [asdict(label) for label in model.labels],
            "quality": dict(model.quality),
            "evaluation": model.evaluation.to_json() if model.evaluation else None,
            **({"own": own_numbers(model.own)} if model.own else {}),
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
