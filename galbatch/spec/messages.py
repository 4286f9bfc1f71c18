"""Messages for what pydantic refuses: what was expected, what arrived, where in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from pydantic import ValidationError

from galbatch.errors import SpecError, did_you_mean
from galbatch.spec.base import SettingError, Settings

KeyPath = Sequence[str | int]
_LONGEST = 60
_LENGTHS = ("too_short", "too_long")


def describe_error(
    model: type[Settings],
    error: ValidationError,
    settings: Any,
    where: Callable[[Sequence[str | int]], str],
) -> SpecError:
    """The first thing that is wrong, as one line.

    Parameters
    ----------
    model : type
        That refused the settings.
    error : ValidationError
    settings : object
        What it refused.
    where : callable
        From a place in `settings` (keys and positions) to the file and line that it is in.

    Returns
    -------
    SpecError
    """
    # A misspelt key usually also shows up as a missing one: name the misspelling first.
    problems = sorted(
        error.errors(include_url=False),
        key=lambda problem: problem["type"] != "extra_forbidden",
    )
    found = [_found(_schema_of(model), problem) for problem in problems]
    problem = _nearest([one for one in found if one.is_within(found[0])])
    path = problem.place.path
    said, hint = _said(problem, _readable(path, settings))
    return SpecError(where(path), said, hint)


def _found(schema: _Schema, problem: Any) -> _Problem:
    # A tuple of fixed length that is too short lacks a key as well, to pydantic.
    location, kind = list(problem["loc"]), problem["type"]
    if kind == "missing" and isinstance(location[-1], int):
        location, kind = location[:-1], "too_short"
    place, said = _placed(schema, location), ""
    if kind == "value_error":
        cause = problem["ctx"]["error"]
        said = str(cause)
        if isinstance(cause, SettingError):
            place, said = replace(place, path=(*place.path, *cause.path)), cause.problem
    least = problem.get("ctx", {}).get("min_length", 0)
    return _Problem(kind, place, problem["input"], said, least)


def _nearest(problems: Sequence[_Problem]) -> _Problem:
    """Of what each alternative of a setting refuses, that of what was probably meant."""
    return max(problems, key=lambda one: (len(one.place.path), one.kind in _LENGTHS))


@cache
def _schema_of(model: type[Settings]) -> _Schema:
    schema = model.model_json_schema()
    return _Schema(schema, schema.get("$defs", {}))


def _said(problem: _Problem, name: str) -> tuple[str, str]:
    """The problem, and what to try."""
    arrived, place, schema = problem.arrived, problem.place, problem.place.schema
    match problem.kind:
        case "extra_forbidden":
            return f"unknown setting '{name}'", did_you_mean(str(place.path[-1]), place.siblings)
        case "missing":
            return f"'{name}' is missing", ""
        case "union_tag_not_found":
            return f"'{name}' needs a 'kind'", f"one of: {', '.join(schema.tags())}"
        case "union_tag_invalid":
            tags, tag = schema.tags(), arrived["kind"]
            hint = did_you_mean(tag, tags) if isinstance(tag, str) else ""
            return f"'{name}.kind' cannot be {shown(tag)}", hint or f"one of: {', '.join(tags)}"
        case "literal_error" if not schema.has_alternatives:
            options = schema.options()
            hint = did_you_mean(arrived, options) if isinstance(arrived, str) else ""
            return f"'{name}' cannot be {shown(arrived)}", hint or f"one of: {', '.join(options)}"
        case "value_error":
            return f"'{name}': {problem.said}" if name else problem.said, ""
        case kind if kind in _LENGTHS and isinstance(arrived, tuple):
            if not arrived and problem.least == 1:
                return f"'{name}' is empty", "it needs at least one entry"
            number = f"a list of {len(arrived)}" if schema.has_alternatives else str(len(arrived))
            return f"'{name}': expected {schema.wanted()}, got {number}", ""
        case _:
            wanted = schema.wanted()
            said = f"expected {wanted}, got {shown(arrived)}"
            return f"'{name}': {said}" if name else said, _advice(wanted, arrived)


def _advice(wanted: str, arrived: Any) -> str:
    """A hint at what a value of the wrong kind usually means."""
    text = isinstance(arrived, str)
    if "number" in wanted and text and re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", arrived):
        return "without quotes"
    if not text and isinstance(arrived, int | float) and not _counts(wanted):
        return "in quotes, if it is text"
    return ""


def _counts(wanted: str) -> bool:
    return any(word in wanted for word in ("number", "true", "list", "lines"))


@dataclass(frozen=True)
class _Place:
    """Where a problem is: the keys that lead there, and the schema of what belongs there."""

    path: tuple[str | int, ...]
    schema: _Schema
    siblings: tuple[str, ...]


@dataclass(frozen=True)
class _Problem:
    """One of the things that pydantic refuses.

    Parameters
    ----------
    kind : str
        As pydantic calls it.
    place : _Place
    arrived : object
    said : str
        What a validator says of it; empty for what pydantic itself refuses.
    least : int
        Entries of a list.
    """

    kind: str
    place: _Place
    arrived: Any
    said: str
    least: int

    def is_within(self, other: _Problem) -> bool:
        return self.place.path[: len(other.place.path)] == other.place.path


@dataclass(frozen=True)
class _Schema:
    """A JSON Schema, with the definitions that it refers to."""

    node: Mapping[str, Any]
    definitions: Mapping[str, Any]

    def branches(self) -> Iterator[_Schema]:
        """The alternatives for this value, references followed, null left out."""
        if "$ref" in self.node:
            name = self.node["$ref"].rpartition("/")[2]
            yield from _Schema(self.definitions[name], self.definitions).branches()
        elif "anyOf" in self.node:
            for node in self.node["anyOf"]:
                yield from _Schema(node, self.definitions).branches()
        elif self.node.get("type") != "null":
            yield self

    def tags(self) -> list[str]:
        """The values of `kind`, where it says what may stand here."""
        kinds = [
            _Schema(node, self.definitions).inner("kind")
            for branch in self.branches()
            for node in branch.node.get("oneOf", [])
        ]
        return [tag for kind in kinds if kind for tag in kind.options()]

    def tagged(self, tag: str | int) -> _Schema | None:
        for branch in self.branches():
            reference = branch.node.get("discriminator", {}).get("mapping", {}).get(tag)
            if reference:
                return _Schema({"$ref": reference}, self.definitions)
        return None

    @property
    def has_alternatives(self) -> bool:
        """Whether values of several types, which have no tag, may stand here."""
        return len([*self.branches()]) > 1

    def chosen(self, label: str | int) -> _Schema | None:
        """The alternative that pydantic means, by a tag or by what it calls the type."""
        tagged = self.tagged(label)
        if tagged is not None or not self.has_alternatives:
            return tagged
        for branch in self.branches():
            is_list = branch.node.get("type") == "array" and str(label).startswith("tuple[")
            if is_list or branch.node.get("title") == label:
                return branch
        return None

    def inner(self, part: str | int) -> _Schema | None:
        """The schema of a key or a position of this value."""
        for branch in self.branches():
            node = branch.node
            if isinstance(part, int):
                several = node.get("prefixItems", [])
                found = several[part] if part < len(several) else node.get("items")
            else:
                found = node.get("properties", {}).get(part) or _of_any_key(node)
            if isinstance(found, Mapping):
                return _Schema(found, self.definitions)
        return None

    def names(self) -> _Schema:
        """The schema of the keys themselves, where they may be any of a kind."""
        told = next(branch.node.get("propertyNames", {}) for branch in self.branches())
        return _Schema({"type": "string", **told}, self.definitions)

    def keys(self) -> tuple[str, ...]:
        return tuple(w for branch in self.branches() for w in branch.node.get("properties", {}))

    def options(self) -> list[str]:
        found: list[Any] = []
        for branch in self.branches():
            found += branch.node.get("enum", [])
            found += [branch.node["const"]] if "const" in branch.node else []
        return [one if isinstance(one, str) else shown(one) for one in found]

    def wanted(self) -> str:
        """What may be written here, for a message."""
        branches = [*self.branches()]
        if len(branches) == 1:
            return _wanted(branches[0])
        return " or ".join(dict.fromkeys(_alternative(one, branches) for one in branches))


def _of_any_key(node: Mapping[str, Any]) -> Any:
    """What belongs to a key that the schema does not name."""
    patterns = node.get("patternProperties", {}).values()
    return node.get("additionalProperties") or next(iter(patterns), None)


def _alternative(schema: _Schema, branches: Sequence[_Schema]) -> str:
    """One of several things that may be written, the others of which are told beside it."""
    node, wanted = schema.node, _wanted(schema)
    if node.get("required"):
        return f"{wanted} ({', '.join(node['required'])})"
    inner = schema.inner(0)
    if inner is not None and any(inner.node == other.node for other in branches):
        return f"{wanted.removesuffix('entries')}of them"
    return wanted


def _placed(schema: _Schema, location: KeyPath) -> _Place:
    """Follow pydantic's location, which names the chosen alternative of a union as well."""
    path: list[str | int] = []
    siblings: tuple[str, ...] = ()
    for number, part in enumerate(location):
        # The name follows the union at once, and something of it follows the name.
        chosen = schema.chosen(part) if number < len(location) - 1 else None
        if chosen is not None:
            schema = chosen
            continue
        if schema.has_alternatives:
            break  # the name of one of them, which as a whole is not what arrived
        if list(location[number + 1 :]) == ["[key]"]:
            return _Place((*path, part), schema.names(), ())
        found = schema.inner(part)
        siblings = schema.keys()
        if found is None and not siblings:
            break  # a tag, of which as a whole something is wrong
        path.append(part)
        if found is None:
            break
        schema = found
    return _Place(tuple(path), schema, siblings)


def _readable(path: KeyPath, settings: Any) -> str:
    """`models.photometric.seed`, as `--set` takes it: an entry by its name where it has one."""
    parts: list[str] = []
    for part in path:
        inner = settings[part] if _holds(settings, part) else None
        parts.append(_entry(settings, part) if isinstance(part, int) else _shortened(part))
        settings = inner
    return ".".join(parts)


def _entry(entries: Any, position: int) -> str:
    names = name_entries(entries) if isinstance(entries, list) else []
    name = names[position] if position < len(names) else None
    return _shortened(name) if name and names.count(name) == 1 else str(position)


def name_entries(entries: Sequence[Any]) -> list[str | None]:
    """The names (or kinds) of the entries of a list; None for those that have neither."""
    named = [
        entry.get("name", entry.get("kind")) if isinstance(entry, dict) else None
        for entry in entries
    ]
    return [name if isinstance(name, str) else None for name in named]


def _holds(settings: Any, part: str | int) -> bool:
    if isinstance(part, int):
        return isinstance(settings, list) and part < len(settings)
    return isinstance(settings, dict) and part in settings


def _wanted(schema: _Schema) -> str:
    node = schema.node
    if "enum" in node or "const" in node:
        options = schema.options()
        return options[0] if len(options) == 1 else f"one of: {', '.join(options)}"
    match node.get("type"):
        case "integer" | "number":
            return _number(node)
        case "boolean":
            return "true or false"
        case "string":
            return str(node.get("patternErrorMessage", "text"))
        case "array":
            return _list(node)
        case _:
            return "'key: value' lines"


def _number(node: Mapping[str, Any]) -> str:
    kind = "a whole number" if node["type"] == "integer" else "a number"
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f"{kind} from {_figure(low)} to {_figure(high)}"
    limits = [
        f"{word} {_figure(node[key])}"
        for key, word in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in node
    ]
    return f"{kind}, {' and '.join(limits)}" if limits else f"{kind} (finite)"


def _list(node: Mapping[str, Any]) -> str:
    least, most = node.get("minItems"), node.get("maxItems")
    if least is not None and least == most:
        return f"a list of {least} entries"
    if least is not None and least > 1:
        return f"a list of at least {least} entries"
    return "a list"


def _figure(number: float) -> str:
    """A limit as a person writes it."""
    return f"{number:g}" if abs(number) >= 1e15 or number != int(number) else str(int(number))


def shown(value: Any) -> str:
    """A value of any kind and size, as part of a line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        long = abs(value) >= 10**25
        return f"a number of {int(math.log10(abs(value))) + 1} digits" if long else str(value)
    if isinstance(value, str):
        return f"'{_shortened(value)}'"
    return "'key: value' lines" if isinstance(value, Mapping) else "a list"


def _shortened(text: str) -> str:
    """Text without what would end or break a line."""
    cut = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cut)
