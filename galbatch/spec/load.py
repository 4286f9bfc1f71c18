"""From YAML text to spec models, with errors a person can act on."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.base import Words
from galbatch.spec.job import Job
from galbatch.spec.survey import Survey

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_PACKAGE = Path(__file__).resolve().parent.parent
Spec = TypeVar("Spec", bound=Words)


def shipped(folder: str) -> Path:
    """Where the `jobs` or `schemas` that come with galbatch are (wheel or source tree)."""
    installed = _PACKAGE / f"_{folder}"
    return installed if installed.is_dir() else _PACKAGE.parent / folder


def load_job(path: str, overrides: Sequence[str] = ()) -> Job:
    """Read a job file.

    Parameters
    ----------
    path : str
        A YAML file, or the name of a job that galbatch ships (``quickstart``).
    overrides : sequence of str
        ``key.path=value`` words that replace what the file says; the value is read as YAML.

    Returns
    -------
    Job

    Raises
    ------
    SpecError
        If the file is missing or says something galbatch does not understand.
    """
    file = _find(path, "jobs", "job")
    words = read_yaml(file)
    for override in overrides:
        _override(words, override)
    return _parse(Job, words, str(file))


def load_survey(name: str, beside: Path | None = None) -> Survey:
    """Read a survey file.

    Parameters
    ----------
    name : str
        A YAML file, or the name of a survey that galbatch ships.
    beside : Path, optional
        Folder of the job: a relative path is looked for there if it is not in the current folder.

    Returns
    -------
    Survey

    Raises
    ------
    SpecError
        If there is no such survey, or its file says something galbatch does not understand.
    """
    if beside is not None and not Path(name).is_file() and (beside / name).is_file():
        name = str(beside / name)
    return _load_survey_file(_find(name, "schemas", "survey"))


@lru_cache(maxsize=16)
def _load_survey_file(file: Path) -> Survey:
    return _parse(Survey, read_yaml(file), str(file))


def read_yaml(file: Path) -> dict[str, Any]:
    """The mapping in a YAML file, with ``${NAME:-default}`` replaced from the environment.

    Raises
    ------
    SpecError
        If the file is missing, is not YAML or is not a mapping, or a variable is not set.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(str(file), f"cannot be read: {error}") from error
    try:
        words = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}: line {mark.line + 1}" if mark else str(file)
        raise SpecError(where, f"is not YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(words, dict):
        raise SpecError(str(file), "expected 'key: value' lines at the top of the file")
    expanded: dict[str, Any] = _expand(words, str(file))
    return expanded


def _find(name: str, folder: str, what: str) -> Path:
    file = Path(name)
    if file.suffix in (".yaml", ".yml") or file.parent != Path():
        if not file.is_file():
            beside = file.parent.glob("*.y*ml") if file.parent.is_dir() else ()
            hint = did_you_mean(file.name, [entry.name for entry in beside])
            raise SpecError(name, f"there is no such {what} file", hint)
        return file
    known = {entry.stem: entry for entry in shipped(folder).glob("*.yaml")}
    if name not in known:
        hint = did_you_mean(name, known) or f"known: {', '.join(sorted(known))}"
        raise SpecError(name, f"is no known {what}", f"{hint}; or give the path of a YAML file")
    return known[name]


def _expand(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, where) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        text = os.environ.get(match["name"]) or match["default"]
        if text is None:
            raise SpecError(
                where,
                f"the environment variable {match['name']} is not set",
                f"export {match['name']}=..., or write ${{{match['name']}:-default}}",
            )
        return text

    return _VARIABLE.sub(replace, value)


def _override(words: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override}", "expected key.path=value", "e.g. store=results/try2")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SpecError(f"--set {override}", "the value is not YAML", "quote it?") from error
    *parents, last = path.split(".")
    node: Any = words
    for depth, key in enumerate(parents):
        if isinstance(node, list):
            node = node[_position(node, key, override)]
        else:
            node = node.setdefault(key, {})
        if not isinstance(node, dict | list):
            raise SpecError(
                f"--set {override}", f"'{'.'.join(parents[: depth + 1])}' holds a value, not keys"
            )
    if isinstance(node, list):
        node[_position(node, last, override)] = value
    else:
        node[last] = value


def _position(node: list[Any], key: str, override: str) -> int:
    named = [
        item.get("name", item.get("kind")) if isinstance(item, dict) else None for item in node
    ]
    if key in named:
        return named.index(key)
    if key.isdigit() and int(key) < len(node):
        return int(key)
    raise SpecError(
        f"--set {override}",
        f"'{key}' is neither a position (0 to {len(node) - 1}) nor a name in that list",
        did_you_mean(key, [str(name) for name in named if name]),
    )


def _parse(model: type[Spec], words: Mapping[str, Any], where: str) -> Spec:
    try:
        return model.model_validate(words)
    except ValidationError as error:
        raise _first_error(model, error, where) from None


def _first_error(model: type[Words], error: ValidationError, where: str) -> SpecError:
    # A misspelt word usually also shows up as a missing one: name the misspelling first.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    place = _readable(model, problem["loc"])
    match problem["type"]:
        case "extra_forbidden":
            known = _known_words(model, problem["loc"][:-1])
            return SpecError(where, f"unknown word '{place}'", did_you_mean(_last(problem), known))
        case "missing":
            return SpecError(where, f"'{place}' is missing")
        case "union_tag_invalid" | "union_tag_not_found":
            context = problem.get("ctx", {})
            tags = [tag.strip(" '") for tag in str(context.get("expected_tags", "")).split(",")]
            if problem["type"] == "union_tag_not_found":
                tags = _tags(model, problem["loc"])
                return SpecError(
                    where, f"'{place}' needs a word 'kind'", f"one of: {', '.join(tags)}"
                )
            return SpecError(
                where,
                f"'{place}.kind' cannot be '{context.get('tag')}'",
                did_you_mean(str(context.get("tag")), tags) or f"one of: {', '.join(tags)}",
            )
        case "too_short":
            return SpecError(where, f"'{place}' is empty", "it needs at least one entry")
        case "literal_error":
            options = re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))
            hint = did_you_mean(str(problem["input"]), options)
            return SpecError(where, f"'{place}' cannot be {problem['input']!r}", hint)
        case _:
            message = problem["msg"].removeprefix("Value error, ")
            arrived = problem["input"]
            if isinstance(arrived, str | int | float | bool):
                message += f", not {arrived!r}"
            return SpecError(where, f"'{place}': {message}" if place else message)


def _last(problem: Any) -> str:
    return str(problem["loc"][-1])


def _readable(model: type[Words], location: Sequence[str | int]) -> str:
    """`source.rows` from ('source', 'mock', 'rows'): pydantic adds the tag of a union."""
    words: list[str] = []
    for index, part in enumerate(location):
        if index and part in _tags(model, location[:index]) and index < len(location) - 1:
            continue
        words.append(str(part))
    return ".".join(words)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models(argument)]


def _reached(model: type[Words], location: Sequence[str | int]) -> list[type[BaseModel]]:
    reached: list[type[BaseModel]] = [model]
    for part in location:
        if isinstance(part, int):
            continue
        inner = [m for m in reached if part in m.model_fields]
        if inner:
            reached = [
                found for m in inner for found in _models(m.model_fields[str(part)].annotation)
            ]
        else:
            tagged = [m for m in reached if part in get_args(_kind(m))]
            reached = tagged or reached
    return reached


def _kind(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("kind")
    return field.annotation if field else None


def _known_words(model: type[Words], location: Sequence[str | int]) -> list[str]:
    return [word for reached in _reached(model, location) for word in reached.model_fields]


def _tags(model: type[Words], location: Sequence[str | int]) -> list[str]:
    return [tag for reached in _reached(model, location) for tag in get_args(_kind(reached))]
