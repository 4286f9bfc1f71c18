"""The files of one source, compared with each other, with the job and with what is in the store."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from galbatch.columns import is_text
from galbatch.errors import SpecError, did_you_mean
from galbatch.models.families import family_of, needs_labels
from galbatch.spec.job import FilesSource, Job
from galbatch.spec.optional import optional_columns
from galbatch.spec.survey import Survey
from galbatch.stages.headers import FileFacts, is_of_numbers
from galbatch.store.column_types import THE_STORE, common_field
from galbatch.values import TARGETS, Target

_NAMED = 6
"""Columns that a line names, at most."""


@dataclass(frozen=True)
class UnreadFiles:
    """What is known of files whose headers are not read now.

    Parameters
    ----------
    fields : mapping of str to Field
        Of the columns of the catalogue; none where there is no catalogue.
    absent : mapping of str to tuple of str
        Columns of the survey that each of the files lacks.
    labelled : mapping of Target to int
        Their rows with a label.
    unseen : bool
        Whether there are files of whose columns, but for the survey's, nothing is known.
    """

    fields: Mapping[str, pa.Field] = field(default_factory=dict)
    absent: Mapping[str, Collection[str]] = field(default_factory=dict)
    labelled: Mapping[str, int] = field(default_factory=dict)
    unseen: bool = False

    def columns(self, survey: Survey) -> set[str]:
        """Columns that there are."""
        every = set(survey.column)
        return set(self.fields).union(*(every.difference(names) for names in self.absent.values()))


def compare(
    job: Job, survey: Survey, facts: Sequence[FileFacts], unread: UnreadFiles
) -> tuple[str, ...]:
    """Check that files can become one catalogue, and that it has what the job needs.

    Parameters
    ----------
    job : Job
        Of a source of files.
    survey : Survey
    facts : sequence of FileFacts
        Of the files that are to be read.
    unread : UnreadFiles

    Returns
    -------
    tuple of str
        What a user should know of them together, a line each.

    Raises
    ------
    SpecError
        Naming the word of the job or the survey, the column and the files.
    """
    usable = [one for one in facts if not one.problem]
    if facts and not usable and not unread.absent and not unread.fields:
        one = facts[0]
        others = f", nor can the other {len(facts) - 1:,} files" if len(facts) > 1 else ""
        raise SpecError(one.file, f"cannot be used{others}: {one.problem}")
    kinds = _one_of_each(usable)
    columns = {name for one in kinds for name in one.fields} | unread.columns(survey)
    spellings = {
        spelling
        for one in kinds
        for name, spelling in one.spellings.items()
        if name not in survey.column
    }
    _refuse_what_all_lack(job, survey, columns, spellings, unread)
    _check_report(job, columns, kinds, unseen=unread.unseen)
    _refuse_bad_rows(job, kinds)
    absent = {one.file: one.absent for one in usable} | dict(unread.absent)
    return (
        *absent_lines(survey, absent, spellings),
        *_compare_types(survey, kinds, unread.fields),
        *_labels_seen(job, survey, kinds, unread.labelled),
    )


def _one_of_each(usable: Sequence[FileFacts]) -> list[FileFacts]:
    """Of files with the same header, those whose first rows were looked at."""
    seen: set[int] = set()
    kept = []
    for one in usable:
        if one.first is not None or id(one.fields) not in seen:
            kept.append(one)
        seen.add(id(one.fields))
    return kept


def absent_lines(
    survey: Survey, absent: Mapping[str, Collection[str]], spellings: Iterable[str] = ()
) -> tuple[str, ...]:
    """What is to be said of columns that the survey makes use of and files lack.

    Parameters
    ----------
    survey : Survey
    absent : mapping of str to collection of str
        Columns of the survey that each file lacks.
    spellings : iterable of str
        Columns of the files that the survey does not know: one may be misspelt.

    Returns
    -------
    tuple of str
        A line for the columns that the same files lack.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    arrays = {column.name: ("an array",) for column in survey.columns if column.is_array}
    for name, uses in (arrays | optional_columns(survey)).items():
        lacking = tuple(file for file, names in absent.items() if name in names)
        if lacking:
            hint = _near(name, spellings) if len(lacking) == len(absent) else ""
            groups[lacking].append(f"'{name}' ({'; '.join(filter(None, (*uses, hint)))})")
    lines = []
    for lacking, names in groups.items():
        if len(lacking) == len(absent):
            lines.append(f"no file has {few(names)}: left out")
            continue
        if len(lacking) == 1:
            who, whose = f"{lacking[0]}, 1 of {len(absent):,} files, has", "its"
        else:
            others = f"{len(lacking):,} of {len(absent):,} files"
            who, whose = f"{others}, {lacking[0]} among them, have", "their"
        lines.append(f"{who} no {few(names)}: no value in {whose} rows")
    return tuple(lines)


def _near(name: str, spellings: Iterable[str]) -> str:
    """A spelling that may have been meant, and no list of others."""
    hint = did_you_mean(name, spellings)
    return hint if hint.startswith("did you mean") else ""


def _refuse_what_all_lack(
    job: Job,
    survey: Survey,
    columns: Collection[str],
    spellings: Collection[str],
    unread: UnreadFiles,
) -> None:
    """What the job asks for needs a column of some file."""
    there = {
        target: label.column in columns or bool(unread.labelled.get(target))
        for target in TARGETS
        if (label := survey.labels.of(target)) is not None
    }
    for model in job.models:
        where = f"models.{model.name}"
        for column, setting in family_of(model.kind).needed(model, survey).items():
            if column not in columns:
                raise SpecError(
                    f"{where}.{setting}",
                    f"no file has the column '{column}'",
                    _near(column, spellings) or "join it to the files, or change the setting",
                )
        for target in model.targets or ():
            label = survey.labels.of(target)
            if label is not None and not there[target]:
                raise SpecError(
                    f"{where}.targets",
                    f"'{target}' has no label: no file has the column '{label.column}'",
                    _near(label.column, spellings)
                    or f"take '{target}' out of the targets, or give a file with labels",
                )
    if needs_labels(job.models) and not any(there.values()):
        wanted = [label.column for target in there if (label := survey.labels.of(target))]
        named = few([f"'{name}'" for name in dict.fromkeys(wanted)])
        hints = (hint for name in wanted if (hint := _near(name, spellings)))
        begun = [model for model in job.models if model.begins_with]
        taught = ", and 'pretrained' is taught on with labels" if begun else ""
        raise SpecError(
            "models",
            f"no file has a column with labels ({named}): there is nothing to train on{taught}",
            next(hints, "join labels to a file, or correct 'labels' in the survey"),
        )


def _check_report(
    job: Job, columns: Collection[str], usable: Sequence[FileFacts], *, unseen: bool
) -> None:
    """Rows that do not say meet no condition: of a misspelt one, none would be judged."""
    for condition in job.report.where:
        name = condition.column
        if name not in columns and not unseen:
            raise SpecError(
                "report.where", f"no file has the column '{name}'", did_you_mean(name, columns)
            )
        for one in usable:
            column = one.fields.get(name)
            if column is not None and not is_of_numbers(column.type):
                raise SpecError(
                    "report.where",
                    f"expected numbers in column '{name}', {one.file} holds {_kind(column.type)}",
                    "choose another column",
                )


def _kind(kind: pa.DataType) -> str:
    return "text" if is_text(kind) else str(kind)


def _refuse_bad_rows(job: Job, usable: Sequence[FileFacts]) -> None:
    """Where no row that was looked at is sound, it is a column, or the survey, that is wrong."""
    source = job.source
    looked = [one for one in usable if one.first is not None]
    bad = [one for one in looked if one.first and one.first.refused and not one.first.rows]
    if isinstance(source, FilesSource) and source.bad_rows < 1 and bad and len(bad) == len(looked):
        first = bad[0].first
        assert first is not None
        raise SpecError(
            f"{bad[0].file}: {first.example}",
            f"all of the first {first.refused:,} rows are bad",
            "correct the file, or the survey",
        )


def _compare_types(
    survey: Survey, usable: Sequence[FileFacts], held: Mapping[str, pa.Field]
) -> tuple[str, ...]:
    """A column is one thing in all files, by the rule of ingest; what is to be said of the id.

    Of integers, what the first rows hold is known.
    """
    columns: dict[str, list[tuple[str, pa.Field]]] = defaultdict(list)
    for name, field_ in held.items():
        columns[name].append((THE_STORE, field_))
    for one in usable:
        for name, field_ in one.fields.items():
            columns[name].append((one.file, field_))
    seen = {one.file: one.first.limits for one in usable if one.first}

    def limits(name: str, files: Collection[str]) -> tuple[int, int]:
        ends = [seen[file].get(name, (0, 0)) for file in files if file in seen]
        return min((low for low, _ in ends), default=0), max((high for _, high in ends), default=0)

    lines = []
    for name, fields in columns.items():
        is_id = name == survey.id.column
        kinds = {_kind(one.type): file for file, one in reversed(fields)}
        unified = common_field(name, fields, limits, is_id=is_id)
        if is_id and len(kinds) > 1 and is_text(unified.type):
            said = ", ".join(f"{kind} in {file}" for kind, file in sorted(kinds.items()))
            lines.append(f"column '{name}' is {said}: ids become text")
    return tuple(lines)


def _labels_seen(
    job: Job, survey: Survey, usable: Sequence[FileFacts], labelled: Mapping[str, int]
) -> tuple[str, ...]:
    looked = [one.first for one in usable if one.first is not None]
    rows = sum(one.rows for one in looked)
    seen: dict[Target, int] = {
        target: sum(one.labelled.get(target, 0) for one in looked)
        for target in TARGETS
        if survey.labels.of(target) is not None
    }
    if not rows or any(labelled.values()):
        return ()
    sample = f"the first {rows:,} rows of {len(looked):,} file{'s' * (len(looked) > 1)}"
    if not any(seen.values()):
        if not needs_labels(job.models):
            return ()
        return (f"no label in {sample}: without one further on, there is nothing to train on",)
    said = ", ".join(f"{target} {number:,}" for target, number in seen.items())
    return (f"labels in {sample}: {said}",)


def few(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
