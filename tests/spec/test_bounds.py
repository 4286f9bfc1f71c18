"""Every number of a job and a survey has limits, and none reaches a traceback or pydantic's words.

The fields are found by walking the models: a new one is tried here without being named.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from galbatch.errors import SpecError
from galbatch.spec.cluster import GroupChanges, QueueCluster
from galbatch.spec.job import Job
from galbatch.spec.labels import Condition, StarLabel
from galbatch.spec.map_models import SomModel
from galbatch.spec.messages import describe_error
from galbatch.spec.mock import MockSky
from galbatch.spec.population_models import SspMixtureModel
from galbatch.spec.spectral_models import InfoVaeModel, SedAutoencoderModel, TemplateFile
from galbatch.spec.survey import Flag, Sentinel, Survey

# Without limits, as they are compared with (or stand in) a column of the catalogue, of any unit.
ANY_VALUE = {
    (Sentinel, "value"),
    (Flag, "values"),
    (Condition, "low"),
    (Condition, "high"),
    (Condition, "values"),
    (StarLabel, "galaxy"),
    (StarLabel, "galaxy_range"),
    (StarLabel, "star"),
    (StarLabel, "qso"),
    (MockSky, "constants"),
    (MockSky, "unobserved_error"),
}

NOT_OURS = re.compile(
    r"Input|should|_error|_type|type=|ctx|union|pydantic|Field|greater|less|\bvalid\b|constrained|"
    r"[Tt]uple|\bdict|regex|pattern|model|further|\n"
)

# The words that each model cannot do without (besides its kind).
COLUMNS = [{"name": name} for name in ("id", "v", "e")]
BAND = {"name": "b", "wavelength": 5000, "width": 100, "value": "v", "error": "e"}
LABEL = {"column": "v", "low": 0, "high": 1}
NEEDED: dict[str, dict[str, Any]] = {
    "Job": {
        "name": "a",
        "survey": "s",
        "store": "t",
        "source": {"kind": "mock", "rows": 5},
        "models": [{"kind": "photometric"}],
    },
    "Survey": {
        "name": "a",
        "title": "A",
        "id": {"column": "id"},
        "bands": [BAND],
        "reference_band": "b",
        "columns": COLUMNS,
    },
    "FilesSource": {"paths": ["a.csv"]},
    "MockSource": {"rows": 5},
    "QueueCluster": {"workers": 2},
    "SchedulerCluster": {"address": "tcp://a:1"},
    "DuckdbSink": {"path": "a.duckdb"},
    "Condition": {"column": "v", "low": 0},
    "Identifier": {"column": "id"},
    "Sky": {"ra": "v", "dec": "e"},
    "VectorColumns": {"value": "v", "error": "e"},
    "Sentinel": {"value": 99, "meaning": "not_observed"},
    "Flag": {"column": "v", "values": [1]},
    "Band": BAND,
    "Label": LABEL,
    "StarLabel": {"column": "v", "galaxy": [0], "star": [1]},
    "Published": {"target": "redshift", "statistic": "r2", "value": 1, "source": "us"},
    "Column": {"name": "v"},
    "SomModel": {"columns": ["v"]},
    "MockSky": {"magnitudes": [18, 24], "star_fraction": 0.1},
}


@dataclass(frozen=True)
class Number:
    """A number that a user may write.

    Parameters
    ----------
    root : type
        Job or Survey.
    model, field : type, str
        Where it is.
    whole : bool
    limits : tuple of 4 floats or None
        At least, above, at most, below.
    words : callable
        All words of the root, with a value for this number.
    """

    root: type[BaseModel]
    model: type[BaseModel]
    field: str
    whole: bool
    limits: tuple[float | None, ...]
    words: Callable[[Any], dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.root.__name__}: {self.model.__name__}.{self.field}"

    def allows(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.whole and isinstance(value, float):
            return False
        if not self.whole and not abs(value) <= sys.float_info.max:
            return False
        least, above, most, below = self.limits
        return not (
            (least is not None and value < least)
            or (above is not None and value <= above)
            or (most is not None and value > most)
            or (below is not None and value >= below)
        )


def minimal(model: type[BaseModel]) -> dict[str, Any]:
    words = dict(NEEDED.get(model.__name__, {}))
    kind = model.model_fields.get("kind")
    if kind is not None:
        words["kind"] = get_args(kind.annotation)[0]
    return words


def annotations(
    annotation: Any, metadata: tuple[Any, ...], wrap: Callable[[Any], Any]
) -> Iterator[tuple[Any, tuple[Any, ...], Callable[[Any], Any]]]:
    """The plain types of an annotation, what limits them, and how a value of one is put there."""
    arguments, origin = get_args(annotation), get_origin(annotation)
    if hasattr(annotation, "__metadata__"):
        yield from annotations(arguments[0], (*metadata, *annotation.__metadata__), wrap)
    elif origin is tuple:
        several = [one for one in arguments if one is not Ellipsis]
        count = len(arguments) if Ellipsis not in arguments else 1
        yield from annotations(several[0], (), lambda value: wrap([value] * count))
    elif origin is dict:
        yield from annotations(arguments[1], (), lambda value: wrap({"v": value}))
    elif arguments and not isinstance(annotation, type):
        for one in arguments:
            yield from annotations(one, metadata, wrap)
    else:
        yield annotation, metadata, wrap


def limit(metadata: tuple[Any, ...], name: str) -> float | None:
    flat = [one for entry in metadata
            for one in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]  # fmt: skip
    return next((value for one in flat if (value := getattr(one, name, None)) is not None), None)


def numbers(
    root: type[BaseModel], model: type[BaseModel], build: Callable[[Any], Any]
) -> Iterator[Number]:
    for name, field in model.model_fields.items():

        def placed(value: Any, name: str = name) -> Any:
            return build({**minimal(model), name: value})

        for kind, metadata, words in annotations(field.annotation, tuple(field.metadata), placed):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from numbers(root, kind, words)
            elif kind in (int, float):
                limits = tuple(limit(metadata, one) for one in ("ge", "gt", "le", "lt"))
                yield Number(root, model, name, kind is int, limits, words)


EVERY = [number for root in (Job, Survey) for number in numbers(root, root, lambda words: words)]
BY_NAME = {str(number): number for number in EVERY}
every_number = pytest.mark.parametrize("name", BY_NAME)


def counted(schema: Any) -> int:
    """Numbers in a JSON schema, wherever they are."""
    if isinstance(schema, list):
        return sum(map(counted, schema))
    if not isinstance(schema, dict):
        return 0
    own = schema.get("type") in ("integer", "number")
    return own + sum(counted(value) for value in schema.values())


def test_the_walk_finds_every_number() -> None:
    fields = {(number.root, number.model, number.field) for number in EVERY}
    for root in (Job, Survey):
        found = {one for one in fields if one[0] is root}
        # A pair is two numbers to the schema.
        two = {"galaxy_range", "ra", "dec", "magnitudes", "redshifts", "normalise", "som",
               "som_width", "cells", "width", "rest", "dispersion", "extinction", "gas",
               "signal_to_noise"}  # fmt: skip
        of = (StarLabel, MockSky, TemplateFile, SedAutoencoderModel, SomModel, InfoVaeModel,
              SspMixtureModel)  # fmt: skip
        # Its width is that of a layer.
        found = {one for one in found if one[1:] != (SspMixtureModel, "width")}
        alone = {one for one in fields if one[0] is root} - found
        pairs = sum(field in two for _, m, field in found if m in of)
        # And a number or a pair is three.
        pairs += 2 * sum(field == "workers" and m in (QueueCluster, GroupChanges)
                         for _, m, field in found)  # fmt: skip
        assert len(found) + len(alone) + pairs == counted(root.model_json_schema())
    assert len(fields) > 75


@every_number
def test_every_number_has_limits(name: str) -> None:
    number = BY_NAME[name]
    least, above, most, below = number.limits
    if (number.model, number.field) in ANY_VALUE:
        assert number.limits == (None,) * 4, "has limits: no exception any more"
        return
    assert least is not None or above is not None, "no lower limit"
    assert most is not None or below is not None, "no upper limit"


def tried(number: Number, value: Any) -> str:
    """The message, or nothing where the value is taken."""
    words = number.words(value)
    try:
        number.root.model_validate(words)
    except ValidationError as error:
        found = describe_error(number.root, error, words, lambda path: "job.yaml")
        assert isinstance(found, SpecError)
        return str(found)
    return ""


def check(number: Number, value: Any) -> None:
    said = tried(number, value)
    if number.allows(value):
        # Two numbers of a range may still not go together, which their model says.
        assert "expected a" not in said or "list" in said, said
    elif value is None and not said:
        pass  # a word that may be left out
    elif isinstance(value, str) and not said:
        assert number.field in ("hdu", "table"), "text is taken for a number"
    else:
        assert said, f"{number} takes {value!r}"
    ours = re.sub(r"^job\.yaml: '[^']*'", "", said).replace(repr(value), "")
    assert not NOT_OURS.search(ours), said
    assert len(said) < 400


def beside(number: Number) -> list[float]:
    """The limits, and what is just beyond them."""
    step: Callable[[float, float], float] = (
        (lambda value, to: value + (1 if to > 0 else -1)) if number.whole else math.nextafter
    )
    found: list[float] = []
    for value in number.limits:
        if value is not None:
            exact = int(value) if number.whole else float(value)
            found += [exact, step(exact, math.inf), step(exact, -math.inf)]
    return found


ODD = [10**30, -(10**30), 10**400, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf, -1, 0,
       -0.0, 0.5, 1.0, True, False, "12", "yes", "", "\n", "x" * 5000, None, [], [[]], {}, {"a": 1},
       [1, 2, 3]]  # fmt: skip


@every_number
def test_no_number_is_taken_for_another_or_reaches_a_traceback(name: str) -> None:
    number = BY_NAME[name]
    for value in (*ODD, *beside(number)):
        check(number, value)


VALUES = st.one_of(
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
    st.none(),
    st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=3),
)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(sorted(BY_NAME)), VALUES)
def test_whatever_is_written_for_a_number_is_taken_or_explained(name: str, value: Any) -> None:
    check(BY_NAME[name], value)
