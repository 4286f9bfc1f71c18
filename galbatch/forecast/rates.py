"""How fast each stage is: by a store's own receipts, or as measured on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from galbatch.errors import SpecError
from galbatch.plan import plan
from galbatch.run.loop import run
from galbatch.run.store import opened
from galbatch.spec.job import AnyModel, Job
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store.history import all_records
from galbatch.training.capacity import fitting_epochs

SAMPLE = 20_000
"""Simulated rows that a measurement reads, trains on and predicts."""
_EPOCHS = (1, 6)
_ROW_STAGES = ("scan", "ingest", "predict")


@dataclass(frozen=True)
class Rates:
    """What one worker does in a second.

    Parameters
    ----------
    rows : mapping of str to float
        Rows, by stage (``scan``, ``ingest``, ``predict``: of all models). For ``train``, rows
        times epochs, of all models together.
    measured : str
        When: an ISO date.
    where : str
        On what: the machine and its processor, or the store.
    sample : int
        Rows of the catalogue that it was measured with.
    """

    rows: Mapping[str, float]
    measured: str
    where: str
    sample: int

    def __str__(self) -> str:
        return f"rates: {self.where}, {self.measured}, {self.sample:,} rows"


def epochs_of(model: AnyModel, rows: int) -> int:
    """How often a model is shown its rows.

    Parameters
    ----------
    model : AnyModel
    rows : int
        To train on.
    """
    return model.epochs or fitting_epochs(max(rows, 1))


def rates_of_store(snapshot: Snapshot) -> Rates | None:
    """The rates of all that was ever done in a store; None where a stage was not done yet.

    Parameters
    ----------
    snapshot : Snapshot
    """
    site = snapshot.site
    rates = _of_rows(site, len(site.job.models))
    shown = seconds = 0.0
    for fit in snapshot.receipts.all("train").values():
        for model in site.job.models:
            if re.fullmatch(rf"{re.escape(model.name)}(_v\d+)?", fit.unit):
                shown += fit.rows * epochs_of(model, fit.rows)
                seconds += fit.seconds
    if not seconds or len(rates) < len(_ROW_STAGES):
        return None
    rates["train"] = shown / seconds
    ingested = [record for record in all_records(site.layout) if record.stage == "ingest"]
    date = datetime.fromtimestamp(site.layout.history.stat().st_mtime, UTC).date().isoformat()
    rows = max(record.rows for record in ingested)
    return Rates(rates, date, f"what was done in {site.layout.root}", rows)


def _of_rows(site: Site, models: int) -> dict[str, float]:
    """Rows per second of a worker, by stage; of those that have been done."""
    rates = {}
    for stage in _ROW_STAGES:
        mine = [one for one in all_records(site.layout) if one.stage == stage and one.task_seconds]
        if mine:
            rows = sum(record.rows for record in mine)
            rates[stage] = rows / sum(record.task_seconds for record in mine)
    if "predict" in rates:
        rates["predict"] /= models  # a row counts once for each of them
    return rates


def measure_rates(site: Site) -> Rates:
    """Run the job's stages on a simulated sky in this process, and keep how fast they were.

    Parameters
    ----------
    site : Site

    Returns
    -------
    Rates

    Raises
    ------
    SpecError
        If the survey cannot be simulated.
    """
    job, survey = site.job, site.survey
    if not survey.is_simulated:
        problem = f"survey '{survey.name}' cannot be simulated: it has no 'mock' section"
        hint = "run the job on some of its files: the rates of its store are then used"
        raise SpecError("plan --measure", problem, hint)
    with tempfile.TemporaryDirectory(prefix="galbatch-rates-") as folder:
        changes: dict[str, Any] = {
            "source": {"kind": "mock", "rows": SAMPLE, "seed": 1},
            "store": str(Path(folder) / "store"),
            "scratch": None,
            "sinks": [],
            "cluster": {"kind": "serial"},
        }
        settings = job.model_dump(mode="json") | changes
        # The difference between a long and a short fit is free of what every fit begins with.
        settings["models"] = [
            {**model, "name": f"{model['name'][:40]}_{epochs}", "epochs": epochs}
            for model in settings["models"]
            for epochs in _EPOCHS
        ]
        sample = Site.of(Job.model_validate(settings), survey)
        stages = [stage for stage in plan(sample.job, survey) if stage.name != "report"]
        with opened(sample):
            run(stages, sample, lambda: nullcontext(None), _Silent())
        rates = _of_rows(sample, len(job.models))
        fits = sample.book.all("train")
    few, many = _EPOCHS
    seconds = {
        epochs: sum(fit.seconds for name, fit in fits.items() if name.endswith(f"_{epochs}"))
        for epochs in _EPOCHS
    }
    shown = sum(fit.rows for name, fit in fits.items() if name.endswith(f"_{many}"))
    rates["train"] = shown * (many - few) / max(seconds[many] - seconds[few], 0.1)
    found = Rates(rates, datetime.now(UTC).date().isoformat(), _machine(), SAMPLE)
    path = _file(site)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps(asdict(found), indent=1), encoding="utf-8")
    temporary.replace(path)
    return found


def measured_rates(site: Site) -> Rates | None:
    """What `measure_rates` kept on this machine for such a survey and such models, if it did.

    Parameters
    ----------
    site : Site
    """
    try:
        return Rates(**json.loads(_file(site).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _file(site: Site) -> Path:
    """Where they are kept: by the survey, and the models but for how long they are trained."""
    models = [model.model_dump(mode="json") for model in site.job.models]
    for model in models:
        model.pop("epochs", None)
        model.pop("max_rows", None)
    about: Any = [site.survey.model_dump(mode="json"), models, _machine()]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "galbatch" / "rates" / f"{site.survey.name}-{digest}.json"


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{platform.node()}, {name}"


class _Silent:
    """A monitor that shows nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **words: None
