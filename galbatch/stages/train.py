"""Train every model on the labelled rows that are not held out."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from galbatch.errors import SpecError
from galbatch.models.families import family_of
from galbatch.sample.census import SAMPLE_ROWS
from galbatch.spec.job import AnyModel, MockSource
from galbatch.stages.base import OnProgress, Pending, Task, Where
from galbatch.stages.fit_process import fit_in_subprocess, lineage_of, pretrained_folder
from galbatch.stages.memory import PROCESS, row_bytes
from galbatch.stages.site import Site
from galbatch.stages.state import Snapshot
from galbatch.store import fence
from galbatch.store.commit import commit_folder, digest_output
from galbatch.store.model_facts import TrainFacts
from galbatch.store.receipts import Need
from galbatch.training.fit import trainer_of
from galbatch.values import Receipt

_DIGITS = "[0-9a-f]{12}"


@dataclass(frozen=True)
class Fit:
    """What is to be trained.

    Parameters
    ----------
    model : str
        Its name in the job.
    need : Need
    catalogue : str
        Digest of the catalogue that it is trained on.
    """

    model: str
    need: Need
    catalogue: str


@dataclass(frozen=True)
class Train:
    """A task per model, one after the other: each takes all the cores or GPUs there are.

    A trained model stays as it is when the catalogue grows or changes: new rows are predicted
    with it, and `retrain` makes another version beside it.
    """

    name: str = "train"
    progress_unit: str = "epochs"
    where: Where = "one worker"
    retrain: bool = False
    """Train again what was trained on a catalogue that has changed since."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        return "; ".join(
            f"{model.name} ({model.kind}: "
            f"{', '.join(model.targets or _every_target(model))}{_begins(model)})"
            for model in site.job.models
        )

    def memory(self, site: Site) -> int:
        """TensorFlow, and the rows to train on, whatever the rows in all.

        Three times as they are, while they are sorted out, and what the family makes of them.
        """
        training = site.job.training
        here = training.processes if training.launch == "here" else 1
        rows = max(self._rows_memory(site, model) for model in site.job.models)
        return PROCESS + here * (2**30 + rows)

    def _rows_memory(self, site: Site, model: AnyModel) -> int:
        source, rows, sampled = site.job.source, model.max_rows, SAMPLE_ROWS
        if isinstance(source, MockSource):
            rows, sampled = min(rows, source.rows), min(sampled, source.rows)
        family = family_of(model.kind)
        whole = family.fit_bytes(model, site.survey)
        if family.streams:
            return whole
        sampled = sampled if family.needs_labels else 0
        made = family.training_bytes(model, site.survey)
        row = row_bytes(site, family.inputs(model, site.survey))
        return whole + (rows + sampled) * (3 * row + made)

    def pending(self, snapshot: Snapshot) -> Pending[Fit, None]:
        """Models that are not trained as the job says."""
        site, catalogue = snapshot.site, snapshot.catalogue
        if catalogue is None:
            return Pending((), waiting="ingest")
        receipts, versions = snapshot.receipts, snapshot.versions
        left, notes = [], []
        for model in site.job.models:
            notes += _differences(site, model)
            version = versions.current(model)
            need = versions.need(model, version)
            receipt = receipts.get("train", version)
            if not receipts.holds(receipt, need):
                fit = Fit(model.name, need, catalogue.digest)
                left.append(Task(version, model.epochs, fit, receipts.why(receipt, need)))
            elif receipt and TrainFacts.from_json(receipt.facts).catalogue != catalogue.digest:
                if self.retrain:
                    version = versions.next(model)
                    fit = Fit(model.name, versions.need(model, version), catalogue.digest)
                    left.append(Task(version, model.epochs, fit, "the catalogue changed since"))
                else:
                    notes.append(
                        f"{version} was trained before the catalogue changed: "
                        "'galbatch run --retrain' trains a version on what there is now"
                    )
        return Pending(tuple(left), done=len(site.job.models) - len(left), notes=tuple(notes))

    def begin(self, snapshot: Snapshot, pending: Pending[Fit, None]) -> Train:
        """Nothing to prepare: a model's folder is replaced as a whole."""
        return self

    def run(self, site: Site, task: Task[Fit], report: OnProgress) -> tuple[Receipt, ...]:
        """Fit one model in a subprocess and move its folder into place."""
        began = time.perf_counter()
        fit = task.payload
        folder = fit_folder(site, task.unit, fit)
        fitted = fit_in_subprocess(site, fit.model, folder, report)
        need = _need_of(site, task.unit, fit, fitted.fingerprint)
        final = site.layout.model(need.unit)
        commit_folder(folder, final)
        name = site.layout.relative(final)
        digest = digest_output(final)
        receipt = need.receipt(
            digest=digest,
            rows=fitted.rows,
            outputs={name: digest},
            seconds=time.perf_counter() - began,
            facts=TrainFacts(fitted.rows, fitted.fingerprint, fit.catalogue).to_json(),
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, snapshot: Snapshot, pending: Pending[Fit, None]) -> None:
        """Nothing more."""


def fit_folder(site: Site, unit: str, fit: Fit) -> Path:
    """Where to fit: a folder of this try's own, with the checkpoints of one that was cut short.

    They are taken up under another name, so that a process which outlived its run, and still
    writes them, does not find them any more. Those of other settings or rows are removed.
    """
    prefix, purpose = f"model-{unit}-", f"{fit.need.key[:12]}-{fit.catalogue[:12]}"
    staging = site.layout.staging
    staging.mkdir(parents=True, exist_ok=True)
    # As galbatch 0.1 named them, too.
    name = re.compile(rf"{re.escape(prefix)}({_DIGITS}-{_DIGITS})(-{_DIGITS})?")
    folder = staging / f"{prefix}{purpose}-{uuid.uuid4().hex[:12]}"
    fence.check()
    for path in staging.iterdir():
        match = name.fullmatch(path.name)
        if match and match[1] == purpose and not folder.exists():
            with suppress(FileNotFoundError):  # another try has taken it
                path.rename(folder)
        elif match:
            shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return folder


def _need_of(site: Site, version: str, fit: Fit, fingerprint: str) -> Need:
    """What the receipt of a network must say: it may be another version than was to be trained."""
    model = next(model for model in site.job.models if model.name == fit.model)
    versions = Snapshot(site).versions
    name = versions.named(model, version, fingerprint)
    return fit.need if name == version else versions.need(model, name)


def _every_target(model: AnyModel) -> tuple[str, ...]:
    needs_labels = family_of(model.kind).needs_labels
    return ("every labelled target" if needs_labels else "without labels",)


def _begins(model: AnyModel) -> str:
    """With what a fit begins, if not from random weights."""
    return f"; begins with {model.begins_with}" if model.begins_with else ""


def _differences(site: Site, model: AnyModel) -> list[str]:
    """In what a fit differs from the model that it begins with."""
    with pretrained_folder(model) as folder:
        if folder is None:
            return []
        trainer = trainer_of(model.kind)
        try:
            lines = trainer.differences(model, site.survey, folder, lineage_of(site))
        except SpecError as error:
            # `agree` would have said so if there were anything to train.
            return [f"{model.name}: cannot be trained again: {error}"]
    return [f"{model.name}: {line}" for line in lines]
