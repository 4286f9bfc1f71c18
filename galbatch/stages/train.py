"""Train every model on the labelled rows that are not held out.

The fit runs in a process of its own: TensorFlow's memory goes with it, and a Dask worker that has
used TensorFlow once cannot do so again. Words travel as JSON lines: the request on standard input,
progress and the outcome on standard output.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from galbatch.errors import GalbatchError, SpecError, TransientError
from galbatch.models.base import read_card
from galbatch.sample.census import SAMPLE_ROWS, Census, added, refusals
from galbatch.sample.labels import labels
from galbatch.sample.lineage import origin
from galbatch.sample.split import TEST, default_split, roles
from galbatch.spec.job import Job, MockSource, Model, PhotometricModel, Split
from galbatch.spec.survey import Label, StarLabel, Survey
from galbatch.stages.base import PROCESS, Pending, Report, Site, Task, Where, row_bytes
from galbatch.stages.catalogue import CATALOGUE_UNIT, Catalogue, finished_catalogue
from galbatch.store import fence
from galbatch.store.commit import commit_folder, digest_output
from galbatch.store.layout import Layout
from galbatch.store.places import local_copy, place
from galbatch.store.receipts import Need, words_digest
from galbatch.store.rows import read_rows
from galbatch.store.tables import HEALPIX
from galbatch.training.transfer import differences, read_pretrained
from galbatch.values import TARGETS, Receipt

TRAIN_VERSION = 5
_DIGITS = "[0-9a-f]{12}"
_LOOKS_EVERY = 2.0
"""Seconds between two looks whether a fit is still wanted."""
_PR_SET_PDEATHSIG = 1
_CLEAN = 10
"""Bytes of a band of a row: flux, error, observed, detected."""
_FEATURES = 24
"""Bytes of a band's features of a row."""
_OUTPUTS = 2**13
"""Bytes of the network's outputs of a row: two members, 900 cells."""


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
    word: str = "epochs"
    where: Where = "one worker"
    retrain: bool = False
    """Train again what was trained on a catalogue that has changed since."""

    def summary(self, site: Site) -> str:
        """One line for `galbatch plan`."""
        return "; ".join(
            f"{model.name} ({model.kind}: "
            f"{', '.join(model.targets or ('every labelled target',))}{_begins(model)})"
            for model in site.job.models
        )

    def memory(self, site: Site) -> int:
        """TensorFlow, and the rows to train on, whatever the rows in all.

        Three times as they are, while they are sorted out; fluxes, errors and flags of all of them
        and of those that train; and the features of those that validate, a quarter at most, for
        the network's own copy too, and what it says of them. The others' are made a few steps at a
        time.
        """
        bands = len(site.survey.bands)
        row = 3 * row_bytes(site) + 2 * _CLEAN * bands + (2 * _FEATURES * bands + _OUTPUTS) // 4
        rows = max(model.max_rows for model in site.job.models)
        if isinstance(site.job.source, MockSource):
            rows = min(rows, site.job.source.rows)
        return PROCESS + 2**30 + (rows + SAMPLE_ROWS) * row

    def pending(self, site: Site) -> Pending:
        """Models that are not trained as the job says."""
        catalogue = finished_catalogue(site)
        if catalogue is None:
            return Pending((), waiting="ingest")
        book, left, notes = site.book, [], []
        for model in site.job.models:
            notes += _differences(site, model)
            unit = current_version(site, model)
            need = train_need(site, model, unit)
            receipt = book.get("train", unit)
            if not book.holds(receipt, need):
                why = book.why(receipt, need)
                left.append(Task(unit, model.epochs, Fit(model.name, need, catalogue.digest), why))
            elif receipt and receipt.facts["catalogue"] != catalogue.digest:
                if self.retrain:
                    unit = _next_version(site, model)
                    fit = Fit(model.name, train_need(site, model, unit), catalogue.digest)
                    left.append(Task(unit, model.epochs, fit, "the catalogue changed since"))
                else:
                    notes.append(
                        f"{unit} was trained before the catalogue changed: "
                        "'galbatch run --retrain' trains a version on what there is now"
                    )
        return Pending(tuple(left), done=len(site.job.models) - len(left), notes=tuple(notes))

    def begin(self, site: Site, pending: Pending) -> Train:
        """Nothing to prepare: a model's folder is replaced as a whole."""
        return self

    def run(self, site: Site, task: Task, report: Report) -> tuple[Receipt, ...]:
        """Fit one model in a subprocess and move its folder into place."""
        began = time.perf_counter()
        fit: Fit = task.payload
        folder = _folder(site, task.unit, fit)
        facts = _in_a_process_of_its_own(site, fit.model, folder, report)
        need = _named(site, task.unit, fit, facts["fingerprint"])
        final = site.layout.model(need.unit)
        commit_folder(folder, final)
        name = site.layout.relative(final)
        digest = digest_output(final)
        receipt = need.receipt(
            digest=digest,
            rows=facts["rows"],
            outputs={name: digest},
            seconds=time.perf_counter() - began,
            facts=facts | {"catalogue": fit.catalogue},
        )
        site.book.put(receipt)
        return (receipt,)

    def finish(self, site: Site, pending: Pending) -> None:
        """Nothing more."""


def _folder(site: Site, unit: str, fit: Fit) -> Path:
    """Where to fit: a folder of this try's own, with the checkpoints of one that was cut short.

    They are taken up under another name, so that a process which outlived its run, and still
    writes them, does not find them any more. Those of other words or rows are removed.
    """
    prefix, purpose = f"model-{unit}-", f"{fit.need.key[:12]}-{fit.catalogue[:12]}"
    staging = site.layout.staging
    staging.mkdir(parents=True, exist_ok=True)
    # As galbatch 0.1 named them, too.
    name = re.compile(rf"{re.escape(prefix)}({_DIGITS}-{_DIGITS})(-{_DIGITS})?")
    folder = staging / f"{prefix}{purpose}-{uuid.uuid4().hex[:12]}"
    fence.check()
    for path in staging.iterdir():
        found = name.fullmatch(path.name)
        if found and found[1] == purpose and not folder.exists():
            with suppress(FileNotFoundError):  # another try has taken it
                path.rename(folder)
        elif found:
            shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    return folder


def _named(site: Site, unit: str, fit: Fit, fingerprint: str) -> Need:
    """A version with predictions keeps its network: another one, be it of the same words, is new.

    It comes to that where the network was lost and the catalogue has changed since.
    """
    published = site.book.get("predict", unit)
    if published is None or published.facts["fingerprint"] == fingerprint:
        return fit.need
    model = next(model for model in site.job.models if model.name == fit.model)
    return train_need(site, model, _unit(model.name, _last(site, model.name) + 1))


def train_need(site: Site, model: Model, unit: str) -> Need:
    """What a version of a model depends on, whatever the rows it was trained on."""
    survey = site.survey.model_dump(
        mode="json", exclude={"columns", "mock", "published", "references", "title"}
    )
    words = {
        "code": TRAIN_VERSION,
        "model": model.training_words(),
        "split": split_of(site.job, site.survey).model_dump(mode="json"),
        "survey": words_digest(survey),
    }
    if isinstance(model, PhotometricModel) and model.pretrained is not None:
        words["pretrained"] = _fingerprint(site, model.pretrained, unit)
    return Need("train", unit, words)


def _begins(model: Model) -> str:
    """With what a fit begins, if not with nothing."""
    words = model.pretrained if isinstance(model, PhotometricModel) else None
    return f"; begins with {words}" if words else ""


def _differences(site: Site, model: Model) -> list[str]:
    """What a fit has otherwise than the model that it begins with."""
    with _pretrained(model) as folder:
        if folder is None:
            return []
        assert isinstance(model, PhotometricModel)
        bands = model.bands or site.survey.band_names
        try:
            before = read_pretrained(folder, model, bands)
        except SpecError as error:
            # `agree` would have said so if there were anything to train.
            return [f"{model.name}: cannot be trained again: {error}"]
    found = differences(before, site.survey, bands, model, _sample(site))
    return [f"{model.name}: {words}" for words in found]


def _fingerprint(site: Site, folder: str, unit: str) -> str | None:
    """Of the model to begin with; where it is gone, what the version's receipt remembers."""
    try:
        return read_card(place(folder)).fingerprint
    except SpecError:
        receipt = site.book.get("train", unit)
        return receipt.depends.get("pretrained") if receipt else None


def _sample(site: Site) -> dict[str, Any]:
    return origin(site.job.source, split_of(site.job, site.survey))


def is_trained(site: Site, model: Model) -> bool:
    """Whether a model is there as the job's words call for it, and nothing of it is left to do."""
    need = train_need(site, model, current_version(site, model))
    return site.book.valid(need) is not None


def current_version(site: Site, model: Model) -> str:
    """The version that the job's words call for: there already, or to be trained.

    Versions are `<name>`, `<name>_v2`, `<name>_v3`, ...: a changed word that trains makes another
    one, and the words of an earlier one bring that back.
    """
    found = model_versions(site, model.name)
    for version in range(_last(site, model.name), 0, -1):
        unit = _unit(model.name, version)
        if version in found:
            meant = found[version].key == train_need(site, model, unit).key
        else:
            meant = _words(site.layout.model(unit)) == model.training_words()
        if meant:
            return unit
    return _next_version(site, model)


def model_versions(site: Site, name: str) -> dict[int, Receipt]:
    """The trained versions of a model by their number."""
    found = {}
    for unit, receipt in site.book.all("train").items():
        match = re.fullmatch(re.escape(name) + r"(?:_v(\d+))?", unit)
        if match:
            found[int(match[1] or 1)] = receipt
    return found


def held_versions(site: Site) -> list[dict[str, Any]]:
    """What versions of models the store holds, as JSON values.

    Returns
    -------
    list of dict
        ``name``, ``fingerprint``, ``rows`` (predicted and published), ``current`` (what the job's
        words call for), ``earlier_catalogue`` (whether its predictions are of one).
    """
    book = site.book
    current = {current_version(site, model) for model in site.job.models}
    catalogue = book.get("ingest", CATALOGUE_UNIT)
    found = []
    for version, receipt in book.all("train").items():
        published = book.get("predict", version)
        found.append(
            {
                "name": version,
                "fingerprint": receipt.facts["fingerprint"],
                "rows": published.rows if published else 0,
                "current": version in current,
                "earlier_catalogue": bool(
                    published and catalogue and published.depends["catalogue"] != catalogue.digest
                ),
            }
        )
    return found


def _next_version(site: Site, model: Model) -> str:
    last = _last(site, model.name)
    # What was never published need not be kept; a receipt that cannot be read speaks for it.
    if last and not site.layout.receipt("predict", _unit(model.name, last)).exists():
        return _unit(model.name, last)
    return _unit(model.name, last + 1)


def _last(site: Site, name: str) -> int:
    """The highest version that the store knows of: by a receipt, be it damaged, or by a folder."""
    last = max(model_versions(site, name), default=0)
    while any(
        path.exists()
        for unit in [_unit(name, last + 1)]
        for path in (
            site.layout.receipt("train", unit),
            site.layout.receipt("predict", unit),
            site.layout.model(unit),
        )
    ):
        last += 1
    return last


def _words(folder: Path) -> Any:
    """The words that a network was trained by, where its receipt is lost."""
    try:
        with local_copy(folder) as copy:
            return dict(read_card(copy).spec)
    except SpecError:
        return None


def _unit(name: str, version: int) -> str:
    return name if version == 1 else f"{name}_v{version}"


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
) -> tuple[pa.Table, Any, Census]:
    """Rows to train on: labelled, not held out, and a random sample of them if they are too many.

    Partitions are read a row group at a time: memory is that of the rows that are kept.

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
    census : Census
        Of all rows that are not held out, labelled or not.
    """
    known = set(catalogue.facts["columns"])
    wanted = [*input_columns(survey), *label_columns(survey)]
    if survey.sky is not None:
        wanted.append(HEALPIX)
    columns = [name for name in dict.fromkeys(wanted) if name in known]
    share = min(1.0, at_most / max(max(catalogue.facts["labelled"].values()), 1))
    inputs = [name for name in input_columns(survey) if name in known]
    sampled = min(1.0, SAMPLE_ROWS / max(catalogue.rows, 1))
    tables, role_parts, samples, refused = [], [], [], []
    for partition in catalogue.partitions:
        at = (partition.order, partition.index)
        draw, other = np.random.default_rng([seed, *at]), np.random.default_rng([seed, *at, 1])
        for table in read_rows(layout, partition, columns):
            healpix = table[HEALPIX].to_numpy() if survey.sky is not None else None
            role = roles(split, healpix, table[survey.id.column].to_numpy())
            seen = role != TEST
            kept = seen & _has_label(survey, table)
            if share < 1:
                kept &= draw.random(table.num_rows) < share
            tables.append(table.filter(pa.array(kept)))
            role_parts.append(role[kept])
            drawn = seen & (other.random(table.num_rows) < sampled)
            samples.append(table.select(inputs).filter(pa.array(drawn)))
            refused.append(refusals(survey, table.filter(pa.array(seen))))
    census = Census(pa.concat_tables(samples).combine_chunks(), added(refused))
    return pa.concat_tables(tables).combine_chunks(), np.concatenate(role_parts), census


def _has_label(survey: Survey, table: pa.Table) -> NDArray[np.bool_]:
    found = np.zeros(table.num_rows, bool)
    for values in labels(survey, table).values():
        found |= np.isfinite(values)
    return found


def _in_a_process_of_its_own(
    site: Site, model: str, folder: Path, report: Report
) -> dict[str, Any]:
    run = fence.attempt()
    request = {
        "parent": os.getpid(),
        "run": run.run if run else None,
        "job": site.job.model_dump(mode="json"),
        "survey": site.survey.model_dump(mode="json"),
        "root": str(site.layout.root),
        "scratch": str(site.layout.scratch) if site.layout.scratch else None,
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
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()  # and left open: when it closes, this process is gone
            for words in _spoken(process.stdout):
                if "done" in words:
                    report(words["done"], words["total"], words["note"])
                else:
                    outcome = words
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
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


def _end_with_parent(parent: int) -> None:
    """Nobody shall go on with a checkpoint that another run has taken up."""
    with suppress(OSError, AttributeError):
        # On Linux at once, whatever this process is at. The thread that began it waits for it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

    def read() -> None:
        os.read(sys.stdin.fileno(), 1)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()


def _end_when_unwanted(run: fence.Attempt | None, folder: Path) -> None:
    """The parent may outlive its run, on a machine of a cluster, and not know that this is over."""

    def look() -> None:
        while True:
            time.sleep(_LOOKS_EVERY)
            try:
                _check_wanted(run, folder)
            except SpecError as error:
                _say_error(error)
                os._exit(1)
            except TransientError:  # the disk may be back at the next look
                continue

    threading.Thread(target=look, daemon=True).start()


def _check_wanted(run: fence.Attempt | None, folder: Path) -> None:
    if run is not None:
        run.check()
    if not folder.is_dir():
        raise SpecError(str(folder), "is gone: another try has taken over this fit")


@contextmanager
def _pretrained(model: Model) -> Iterator[Path | None]:
    """Folder of the model that a job's words begin with."""
    words = model.pretrained if isinstance(model, PhotometricModel) else None
    if words is None:
        yield None
        return
    with local_copy(place(words)) as folder:
        yield folder


def _say(**words: Any) -> None:
    print(json.dumps({"galbatch": True, **words}), flush=True)


def _say_error(error: GalbatchError) -> None:
    kind = SpecError if isinstance(error, SpecError) else type(error)
    _say(error=kind.__name__, where=error.where, problem=error.problem, hint=error.hint)


def main() -> None:
    """The subprocess: read a request, fit, say how it goes."""
    request = json.loads(sys.stdin.readline())
    _end_with_parent(request["parent"])
    job = Job.model_validate(request["job"])
    survey = Survey.model_validate(request["survey"])
    scratch = Path(request["scratch"]) if request["scratch"] else None
    site = Site(job, survey, Layout(place(request["root"]), scratch))
    model = next(model for model in job.models if model.name == request["model"])
    folder = Path(request["folder"])
    run = fence.Attempt(site.layout.lock, request["run"]) if request["run"] else None
    _end_when_unwanted(run, folder)

    def report(done: int, total: int, note: str) -> None:
        # Before the epoch is kept, and before the first file of the finished model.
        _check_wanted(run, folder)
        _say(done=done, total=total, note=note)

    try:
        catalogue = finished_catalogue(site)
        if catalogue is None:
            raise TransientError(str(site.layout.root), "the catalogue changed meanwhile")
        table, role, census = labelled_rows(
            site.layout, survey, split_of(job, survey), catalogue, model.max_rows, model.seed
        )
        from galbatch.training.fit import train

        with _pretrained(model) as before:
            card = train(
                model,
                survey,
                table,
                role,
                folder,
                report,
                census=census,
                pretrained=before,
                sample=_sample(site),
            )
    except GalbatchError as error:
        _say_error(error)
        return
    _say(facts={"rows": table.num_rows, "fingerprint": card.fingerprint})


if __name__ == "__main__":
    main()
