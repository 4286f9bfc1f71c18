"""YAML 1.2, strictly: what can be read in two ways is refused, with its line.

ruamel.yaml parses the text, and tells plain text, numbers and booleans apart. Here they become
mappings, lists and scalars alone: no tag makes anything, whatever it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from galbatch.errors import SpecError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_TAG = "tag:yaml.org,2002:"
_LEADING_ZERO = re.compile(r"[-+]?0[0-9_]")
# A survey of 10,000 columns takes a megabyte and nests four levels deep.
_LONGEST = 8 * 2**20
_DEEPEST = 40
# Entries that aliases may repeat in all: a bomb of a few lines has billions.
_MOST_REPEATED = 100_000


class FromEnvironment(str):
    """Text of which a variable of the environment is a part.

    Where a number is wanted it may be read as one (`as_scalar`); it never is anything else.
    """


@dataclass(frozen=True)
class Document:
    """The content of a YAML text, and the line of each part.

    Parameters
    ----------
    content : object
        Mappings, lists, text, numbers, booleans and None; no object in it is used twice.
    root : Node or None
    """

    content: Any
    root: Node | None

    def line(self, path: Sequence[str | int]) -> int | None:
        """The line, from 1, of a key or an entry, or of the nearest one above; None for neither."""
        node, line = self.root, None
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line


@dataclass(frozen=True)
class _Source:
    """Where a text came from, for messages."""

    name: str
    numbered: bool

    def at(self, line: int) -> str:
        return f"{self.name}: line {line}" if self.numbered else self.name


def read_document(file: Path) -> Document:
    """The mapping in a YAML file, with ``${NAME:-default}`` replaced from the environment.

    Raises
    ------
    SpecError
        If the file cannot be read, is not strict YAML 1.2 or no mapping, or a variable is not set.
    """
    name = str(file)
    try:
        if file.stat().st_size > _LONGEST:
            raise SpecError(name, f"is longer than {_LONGEST >> 20} MiB", "is it the right file?")
        data = file.read_bytes()
    except OSError as error:
        raise SpecError(name, f"cannot be read: {error.strerror or error}") from error
    source = _Source(name, numbered=True)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = data[error.start]
        raise SpecError(
            source.at(line), f"is not UTF-8 (byte 0x{byte:02x})", "save the file as UTF-8"
        ) from error
    document = _read(text, source, variables=True)
    if not isinstance(document.content, dict):
        raise SpecError(name, "expected 'key: value' lines at the top of the file")
    return document


def read_value(text: str, name: str) -> Any:
    """The value that a YAML text of one line is, as strictly as a file.

    Raises
    ------
    SpecError
        If it is not strict YAML 1.2.
    """
    return _read(text, _Source(name, numbered=False), variables=False).content


def read_as_written(text: str) -> Any:
    """The mappings, lists and texts of YAML that another program wrote, whatever its tags say.

    Returns
    -------
    object
        Every scalar is text; what an alias stands for is there once, however often it is named.

    Raises
    ------
    ValueError
        If it is not YAML.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        return None if root is None else _as_written(root, {})
    except (YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _as_written(node: Node, made: dict[int, Any]) -> Any:
    if isinstance(node, ScalarNode):
        return str(node.value)
    if id(node) in made:
        return made[id(node)]
    found: Any
    if isinstance(node, MappingNode):
        found = made[id(node)] = {}
        for key, value in node.value:
            found[str(key.value)] = _as_written(value, made)
    else:
        found = made[id(node)] = []
        found += [_as_written(item, made) for item in node.value]
    return found


def as_scalar(text: str) -> Any:
    """The value of a text in YAML without quotes; the text itself where that is ambiguous."""
    yaml = YAML(typ="safe", pure=True)
    tag = str(yaml.resolver.resolve(ScalarNode, text, (True, False)))
    try:
        return _plain(yaml, ScalarNode(tag, text, None, None), text)
    except ValueError:
        return text


def _read(text: str, source: _Source, *, variables: bool) -> Document:
    yaml = YAML(typ="safe", pure=True)
    root = _composed(yaml, text, source)
    if root is None:
        return Document(None, None)
    _measured(root, source, {}, set())
    return Document(_Builder(yaml, source, variables).built(root), root)


def _composed(yaml: YAML, text: str, source: _Source) -> Node | None:
    yaml.max_depth = _DEEPEST
    # YAML lets an anchor be defined twice; the nearest one above counts.
    yaml.composer.warn_double_anchors = False
    try:
        root: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        raise _explained(error, source) from error
    except (YAMLError, ValueError, OverflowError) as error:
        # An escape in quotes may name a character that there is not.
        position = getattr(error, "position", None)
        line = text.count("\n", 0, position) + 1 if position is not None else 1
        reason = str(error).splitlines()[0]
        raise SpecError(source.at(line), f"is not YAML: {reason}") from error
    version = yaml.doc_infos[-1].doc_version
    if version is not None and (version.major, version.minor) != (1, 2):
        raise SpecError(
            source.at(1), f"says %YAML {version.major}.{version.minor}", "it is read as YAML 1.2"
        )
    return root


def _explained(error: MarkedYAMLError, source: _Source) -> SpecError:
    mark = error.problem_mark or error.context_mark
    where = source.at(mark.line + 1) if mark else source.name
    problem = " ".join(str(error.problem).split())
    if "'\\t'" in problem:
        return SpecError(where, "a tab stands where spaces are wanted", "indent with spaces")
    if "another document" in problem:
        return SpecError(where, "a second document begins (---)", "one file is one document")
    if "maximum depth" in problem:
        return SpecError(where, f"is nested more than {_DEEPEST} deep")
    if "undefined alias" in problem:
        name = problem.rpartition(" ")[2].strip("'")
        return SpecError(where, f"*{name} stands for nothing", f"no &{name} comes before it")
    # The line where something begins that does not end helps more than the end of the file.
    began = error.context_mark
    context = f"{error.context}: " if error.context else ""
    if source.numbered and began and mark and began.line != mark.line:
        context = f"{error.context} that begins in line {began.line + 1}: "
    return SpecError(where, f"is not YAML: {context}{problem}")


def _measured(
    node: Node, source: _Source, known: dict[int, tuple[int, int]], above: set[int]
) -> tuple[int, int]:
    """Entries below a node and how deep they nest, aliases written out.

    Every node is looked at once, however often an alias repeats it.
    """
    if isinstance(node, ScalarNode):
        return 1, 1
    line = node.start_mark.line + 1
    if id(node) in above:
        raise SpecError(
            source.at(line), f"&{node.anchor} holds itself (*{node.anchor})", "write it out"
        )
    if id(node) in known:
        return known[id(node)]
    above.add(id(node))
    entries, depth = 1, 0
    for inner in _inner(node):
        more, deeper = _measured(inner, source, known, above)
        entries, depth = entries + more, max(depth, deeper)
    above.discard(id(node))
    if entries > _MOST_REPEATED and entries > 2 * _written(node):
        raise SpecError(source.at(line), "aliases (*) repeat too much", "write it out")
    if depth >= _DEEPEST:
        raise SpecError(source.at(line), f"is nested more than {_DEEPEST} deep")
    known[id(node)] = entries, depth + 1
    return known[id(node)]


def _inner(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [inner for pair in node.value for inner in pair]
    return list(node.value)


def _written(node: Node) -> int:
    """Entries below a node that stand in the text."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            waiting += () if isinstance(one, ScalarNode) else _inner(one)
    return len(seen)


@dataclass(frozen=True)
class _Builder:
    """Makes values of nodes."""

    yaml: YAML
    source: _Source
    variables: bool

    def built(self, node: Node) -> Any:
        self._untagged(node)
        if isinstance(node, MappingNode):
            return self._mapping(node)
        if isinstance(node, SequenceNode):
            return [self.built(item) for item in node.value]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _untagged(self, node: Node) -> None:
        """Refuse a tag other than the default one; `!!str` alone is a way to quote."""
        if isinstance(node, ScalarNode):
            plain = not node.style
            usual = self.yaml.resolver.resolve(ScalarNode, node.value, (plain, not plain))
            known = {str(usual), f"{_TAG}str"}
        else:
            known = {str(self.yaml.resolver.resolve(type(node), None, (True, False)))}
        if node.tag not in known:
            tag = _shown(str(node.tag).replace(_TAG, "!!"))
            raise SpecError(self._at(node), f"the tag {tag} is not known", "leave it out")

    def _mapping(self, node: MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            key, line = self._key(key_node), key_node.start_mark.line + 1
            if key in lines:
                raise self._twice(key, lines[key], line)
            lines[key] = line
            if _merges(key_node):
                merged = self._merged(value_node)
            else:
                own[key] = self.built(value_node)
        return {**merged, **own}

    def _twice(self, key: str, first: int, second: int) -> SpecError:
        said = f"{_shown(key)} is there twice"
        if self.source.numbered:
            said += f" (lines {first} and {second})" if first != second else f" (line {first})"
        return SpecError(self.source.name, said)

    def _merged(self, node: Node) -> dict[str, Any]:
        parts = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        # The first of several that have a key wins.
        for part in reversed(parts):
            if not isinstance(part, MappingNode):
                raise SpecError(self._at(part), "<< takes 'key: value' lines, or a list of them")
            merged |= self.built(part)
        return merged

    def _key(self, node: Node) -> str:
        self._untagged(node)
        if isinstance(node, ScalarNode):
            self._whole(node)
            if node.tag in (f"{_TAG}str", f"{_TAG}merge", f"{_TAG}timestamp", f"{_TAG}value"):
                return str(node.value)
            raise SpecError(
                self._at(node), f"the key {_shown(node.value, '')} is not text", "quote it"
            )
        raise SpecError(self._at(node), "a key is text, not a list or 'key: value' lines")

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        self._whole(node)
        try:
            value = _plain(self.yaml, node, text)
        except ValueError as error:
            raise SpecError(self._at(node), str(error), "or quote it, if it is text") from error
        if isinstance(value, str) and self.variables:
            return self._expanded(value, node)
        return value

    def _whole(self, node: ScalarNode) -> None:
        """Refuse half a character: an escape can write it, UTF-8 cannot."""
        try:
            node.value.encode()
        except UnicodeEncodeError as error:
            raise SpecError(
                self._at(node), f"{_shown(node.value)} holds half a character"
            ) from error

    def _expanded(self, value: str, node: ScalarNode) -> str:
        def replace(match: re.Match[str]) -> str:
            text = os.environ.get(match["name"]) or match["default"]
            if text is None:
                raise SpecError(
                    self._at(node),
                    f"the environment variable {match['name']} is not set",
                    f"export {match['name']}=..., or write ${{{match['name']}:-default}}",
                )
            return text

        expanded, found = _VARIABLE.subn(replace, value)
        return FromEnvironment(expanded) if found else value

    def _at(self, node: Node) -> str:
        return self.source.at(node.start_mark.line + 1)


def _plain(yaml: YAML, node: ScalarNode, text: str) -> Any:
    """The value of a scalar by its tag; ValueError where readers of YAML do not agree."""
    if node.tag in (f"{_TAG}int", f"{_TAG}float"):
        if node.tag == f"{_TAG}int" and _LEADING_ZERO.match(text):
            number = text.replace("_", "").lstrip("+-0") or "0"
            raise ValueError(
                f"{text} is octal to some readers of YAML: write it without the leading 0"
                + (f", {number}" if len(number) < 20 else "")
            )
        try:
            return yaml.constructor.construct_object(node)
        except ValueError:
            raise ValueError(f"{_shown(text, '')} is no number that can be read") from None
    if node.tag in (f"{_TAG}bool", f"{_TAG}null"):
        return yaml.constructor.construct_object(node)
    # Dates, = and << are text: YAML 1.2 has no types for them.
    return text


def _merges(node: Node) -> bool:
    return bool(node.tag == f"{_TAG}merge")


def _child(node: Node | None, part: str | int) -> tuple[int, Node] | None:
    """The line and the node of an entry of a mapping or list."""
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item.start_mark.line + 1, item
    if not isinstance(node, MappingNode):
        return None
    for key, value in node.value:
        if key.value == part and not _merges(key):
            return key.start_mark.line + 1, value
    for key, value in node.value:
        if _merges(key):
            for one in value.value if isinstance(value, SequenceNode) else [value]:
                found = _child(one, part)
                if found:
                    return found
    return None


def _shown(text: str, quote: str = "'") -> str:
    """Text of any length and kind in a line."""
    inner = text if len(text) <= 60 else f"{text[:57]}..."
    return quote + "".join(c if c.isprintable() else repr(c)[1:-1] for c in inner) + quote
