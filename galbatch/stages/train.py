"""Train every model on the labelled rows that are not held out.

The fit runs in a process of its own: TensorFlow's memory goes with it, and a Dask worker that has
used TensorFlow once cannot do so again. Words travel as JSON lines: the request on standard input,
progress and the outcome on standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from galbatch.errors import GalbatchError, SpecError, TransientError
from galbatch.spec.job import Job, Model, PhotometricModel, Split
from galbatch.spec.survey import Label, StarLabel, Survey
from galbatch.stages.base import Pending, Report, Site, Task, Where
from galbatch.stages.catalogue import Catalogue, finished_catalogue
from galbatch.store.commit import commit_folder, digest_outputs
from galbatch.store.layout import Layout
from galbatch.store.receipts import receipt_key
from galbatch.store.tables import HEALPIX, read_partition
from galbatch.training.labels import labels
from galbatch.training.split import TEST, default_split, roles
from galbatch.values import TARGETS, Receipt

TRAIN_VERSION = 1


@dataclass(frozen=True)
class Train:
    """A task per model, one after the other: each takes all the cores or GPUs there are."""

    name: str = "train"
    word: str = "epochs"
    where: Where = "one worker"

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        return "; ".join(
            f"{model.name} ({model.kind}: {', '.join(model.targets or ('every labelled target',))})"
            for model in site.job.models
        )

    def pending(self, site: Site) -> Pending:
        """Models that are not trained on the catalogue as it is."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return Pending((), waiting="ingest")
        left = tuple(
            Task(model.name, model.epochs, key)
            for model in site.job.models
            if site.book.valid("train", model.name, key := train_key(site, model, catalogue))
            is None
        )
        return Pending(left, done=len(site.job.models) - len(left))

    def begin(self, site: Site, pending: Pending) -> Train:
        """Nothing to prepare: a model's folder is replaced as a whole."""
        return self

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Fit one model in a subprocess and move its folder into place."""
        began = time.perf_counter()
        folder = site.layout.staging / f"model-{task.unit}-{task.payload[:12]}"
        folder.mkdir(parents=True, exist_ok=True)
        facts = _in_a_process_of_its_own(site, task.unit, folder, report)
        final = site.layout.model(task.unit)
        commit_folder(folder, final)
        outputs = (site.layout.relative(final),)
        receipt = Receipt(
            stage="train",
            unit=task.unit,
            key=task.payload,
            digest=digest_outputs(site.layout.root, outputs),
            rows=facts["rows"],
            outputs=outputs,
            seconds=time.perf_counter() - began,
            facts=facts,
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site) -> None:
        """Nothing more."""


def train_key(site: Site, model: Model, catalogue: Catalogue) -> str:
    """What a trained model depends on."""
    words = {
        "model": model.model_dump(mode="json"),
        "split": split_of(site.job, site.survey).model_dump(mode="json"),
        "survey": site.survey.model_dump(
            mode="json", exclude={"columns", "mock", "published", "references", "title"}
        ),
    }
    return receipt_key("train", TRAIN_VERSION, words, (catalogue.digest,), model.name)


def split_of(job: Job, survey: Survey) -> Split:
    """The job's split, or the one that suits the survey."""
    return job.split or default_split(survey)


def label_columns(survey: Survey) -> tuple[str, ...]:
    """Columns that labels are made of."""
    names: list[str] = []
    for target in TARGETS:
        label: Label | StarLabel | None = survey.labels.of(target)
        if label is not None:
            names += [label.column, *(condition.column for condition in label.where)]
    return tuple(dict.fromkeys(names))


def input_columns(survey: Survey) -> tuple[str, ...]:
    """Columns that a model may use to predict."""
    names = [*survey.photometry_columns, *survey.morphology, *survey.thesis_inputs]
    names += [survey.id.column]
    if survey.sky is not None:
        names += [survey.sky.ra, survey.sky.dec]
    if survey.extinction:
        names.append(survey.extinction)
    if survey.photometry.saturation:
        names.append(survey.photometry.saturation.column)
    return tuple(dict.fromkeys(names))


def labelled_rows(
    layout: Layout, survey: Survey, split: Split, catalogue: Catalogue, at_most: int, seed: int
) -> tuple[pa.Table, Any]:
    """Rows to train on: labelled, not held out, and a random sample of them if they are too many.

    Parameters
    ----------
    layout : Layout
    survey : Survey
    split : Split
    catalogue : Catalogue
    at_most : int
        Rows of the sample, about.
    seed : int

    Returns
    -------
    table : pyarrow.Table
        Inputs and labels.
    roles : array of int8, shape (rows,)
        `TRAIN` or `VALIDATION`.
    """
    known = set(catalogue.facts["columns"])
    wanted = [*input_columns(survey), *label_columns(survey)]
    if survey.sky is not None:
        wanted.append(HEALPIX)
    columns = [name for name in dict.fromkeys(wanted) if name in known]
    share = min(1.0, at_most / max(max(catalogue.facts["labelled"].values()), 1))
    tables, role_parts = [], []
    for partition in catalogue.partitions:
        table = read_partition(layout, partition, columns)
        found = labels(survey, table)
        kept = np.zeros(table.num_rows, bool)
        for values in found.values():
            kept |= np.isfinite(values)
        healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
        role = roles(split, healpix, table[survey.id.column].to_numpy())
        kept &= role != TEST
        if share < 1:
            draw = np.random.default_rng([seed, partition.order, partition.index])
            kept &= draw.random(table.num_rows) < share
        tables.append(table.filter(pa.array(kept)))
        role_parts.append(role[kept])
    return pa.concat_tables(tables).combine_chunks(), np.concatenate(role_parts)


def _in_a_process_of_its_own(
    site: Site, model: str, folder: Path, report: Report
) -> dict[str, Any]:
    request = {
        "job": site.job.model_dump(mode="json"),
        "survey": site.survey.model_dump(mode="json"),
        "root": str(site.layout.root.resolve()),
        "model": model,
        "folder": str(folder.resolve()),
    }
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    # Set to 1 for workers, it would bind the fit to one core as well.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment.pop(name, None)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "galbatch.stages.train"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        )
        assert process.stdin is not None and process.stdout is not None
        outcome: dict[str, Any] = {}
        try:
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            for words in _spoken(process.stdout):
                if "done" in words:
                    report(words["done"], words["total"], words["note"])
                else:
                    outcome = words
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        if "error" in outcome:
            kind = SpecError if outcome["error"] == "SpecError" else TransientError
            raise kind(outcome["where"], outcome["problem"], outcome["hint"])
        if code or "facts" not in outcome:
            log.seek(0)
            last = " | ".join(deque((line.strip() for line in log if line.strip()), maxlen=5))
            raise TransientError(f"train {model}", f"the process ended with code {code}", last)
    facts: dict[str, Any] = outcome["facts"]
    return facts


def _spoken(stream: Iterator[str]) -> Iterator[dict[str, Any]]:
    """JSON lines of ours; libraries write to standard output as well."""
    for line in stream:
        if line.startswith("{"):
            try:
                words = json.loads(line)
            except ValueError:
                continue
            if words.pop("galbatch", None):
                yield words


def _say(**words: Any) -> None:
    print(json.dumps({"galbatch": True, **words}), flush=True)


def main() -> None:
    """The subprocess: read a request, fit, say how it goes."""
    request = json.load(sys.stdin)
    job = Job.model_validate(request["job"])
    survey = Survey.model_validate(request["survey"])
    site = Site(job, survey, Layout(Path(request["root"])))
    model = next(model for model in job.models if model.name == request["model"])
    try:
        catalogue = finished_catalogue(site)
        if catalogue is None:
            raise TransientError(str(site.layout.root), "the catalogue changed meanwhile")
        at_most = model.max_rows if isinstance(model, PhotometricModel) else sys.maxsize
        table, role = labelled_rows(
            site.layout, survey, split_of(job, survey), catalogue, at_most, model.seed
        )
        from galbatch.training.fit import train

        card = train(
            model,
            survey,
            table,
            role,
            Path(request["folder"]),
            lambda done, total, note: _say(done=done, total=total, note=note),
        )
    except GalbatchError as error:
        kind = type(error).__name__
        _say(error=kind, where=error.where, problem=error.problem, hint=error.hint)
        return
    _say(facts={"rows": table.num_rows, "fingerprint": card.fingerprint})


if __name__ == "__main__":
    main()
