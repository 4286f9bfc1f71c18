"""The base class of all settings, and the kinds of text and numbers that several of them have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from galbatch.spec.yaml import FromEnvironment, as_scalar


def say(text: str) -> dict[str, Any]:
    """The meaning of a pattern, for editors and for `galbatch.spec.messages`."""
    return {"patternErrorMessage": text}


def _can_be_a_path(text: str) -> str:
    """Refuse what every use of a path would fail over."""
    protocol, _, rest = text.rpartition("://")
    if protocol and not rest.strip("/"):
        raise ValueError(
            f"'{text}' names no bucket and no folder; write e.g. {protocol}://bucket/a"
        )
    if text.startswith("~") and os.path.expanduser(text) == text:  # noqa: PTH111
        raise ValueError(f"there is no home folder of {text.partition('/')[0]}")
    if any(len(part.encode()) > _LONGEST_NAME for part in text.split("/")):
        raise ValueError(f"a name in a path has at most {_LONGEST_NAME} bytes")
    return text


class SettingError(ValueError):
    """A mistake in one of the settings that a validator sees together.

    Parameters
    ----------
    problem : str
    *path : str
        The keys that lead to it, from the model that is validated.
    """

    def __init__(self, problem: str, *path: str) -> None:
        super().__init__(f"{'.'.join(path)}: {problem}")
        self.problem, self.path = problem, path


_LONGEST_NAME = 255
# No control characters: they would be lines of their own in scripts, logs and messages.
_LINE = r"^[^\x00-\x08\x0a-\x1f\x7f]+$"

Name = Annotated[
    str,
    Field(pattern=_LINE, max_length=64, json_schema_extra=say("a name of at most 64 characters")),
]
Slug = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]{0,47}$",
        json_schema_extra=say("a letter, then at most 47 letters, digits or _, e.g. my_survey"),
    ),
]
Line = Annotated[
    str,
    Field(pattern=_LINE, max_length=4096, json_schema_extra=say("one line of text")),
]
Location = Annotated[
    str,
    Field(pattern=_LINE, max_length=4096, json_schema_extra=say("a path")),
    AfterValidator(_can_be_a_path),
]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""What NumPy, TensorFlow and Keras all take."""
Share = Annotated[float, Field(ge=0, lt=1)]
Magnitude = Annotated[float, Field(ge=0, le=50)]
"""AB; squares of their fluxes in microjansky are numbers in float32."""


class Settings(BaseModel):
    """Base of every spec model: frozen, and a setting it does not know is an error.

    Nothing is made into what is wanted: neither "12" nor true is a number, 1 is not true.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _as_python(cls, settings: Any) -> Any:
        if not isinstance(settings, dict):
            return settings
        fields = cls.model_fields
        return {
            key: _as_wanted(value, fields[key].annotation) if key in fields else value
            for key, value in settings.items()
        }


def _as_wanted(value: Any, annotation: Any) -> Any:
    """YAML's lists are tuples here; what the environment says is read as what is wanted."""
    if isinstance(value, list):
        return tuple(_as_wanted(item, annotation) for item in value)
    if isinstance(value, dict) and get_origin(annotation) is dict:
        inner = get_args(annotation)[1]
        return {key: _as_wanted(item, inner) for key, item in value.items()}
    if isinstance(value, FromEnvironment):
        wanted, found = set(_leaves(annotation)), as_scalar(value)
        if str in wanted:
            return str(value)
        whole = type(found) is int and float in wanted
        return found if whole or type(found) in wanted else str(value)
    return value


def _leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of, but for None."""
    arguments = get_args(annotation)
    for inner in arguments:
        yield from _leaves(inner)
    if not arguments and annotation is not NoneType:
        yield annotation


def must_rise(low: float, high: float) -> None:
    """Refuse a range that holds nothing.

    Raises
    ------
    ValueError
        If `low` is not below `high`.
    """
    if low >= high:
        raise ValueError(f"low ({low:g}) must be below high ({high:g})")
