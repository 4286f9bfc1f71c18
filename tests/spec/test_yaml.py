"""YAML 1.2, strictly: nothing in a file is taken for something else, and no file is a trap."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from small import REPOSITORY, job_words

from galbatch.errors import SpecError
from galbatch.spec import load_job, load_survey
from galbatch.spec.cluster import LocalCluster
from galbatch.spec.job import MockSource, PhotometricModel
from galbatch.spec.yaml import read_document, read_value

SHIPPED = sorted([*REPOSITORY.glob("jobs/*.yaml"), *REPOSITORY.glob("schemas/*.yaml")])


def write(folder: Path, text: str | bytes, name: str = "job.yaml") -> Path:
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def refused(file: Path) -> str:
    with pytest.raises(SpecError) as error:
        read_document(file)
    said = str(error.value)
    assert "\n" not in said
    assert said.startswith(str(file))
    return said.removeprefix(str(file))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_files_say_what_they_say_to_another_reader(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GALBATCH_DATA", "GALBATCH_STORES"):
        monkeypatch.delenv(name, raising=False)
    text = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", file.read_text(encoding="utf-8"))
    assert read_document(file).content == yaml.safe_load(text)


TWICE = """\
name: a
store: b
models:
  - {kind: photometric, epochs: 1}
  - kind: thesis
    epochs: 1
    name: t
    epochs: 2
source: {rows: 1, rows: 1}
"store": c
"""


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (slice(None), ": 'epochs' is there twice (lines 6 and 8)"),
        (slice(8, 9), ": 'rows' is there twice (line 1)"),
        ([0, 1, 8, 9], ": 'rows' is there twice (line 3)"),
        ([0, 1, 9], ": 'store' is there twice (lines 2 and 3)"),
    ],
)
def test_a_key_is_there_once(tmp_path: Path, lines: Any, said: str) -> None:
    every = TWICE.splitlines(keepends=True)
    text = "".join(every[lines] if isinstance(lines, slice) else [every[n] for n in lines])
    assert refused(write(tmp_path, text)) == said


def test_a_survey_s_key_is_there_once(tmp_path: Path) -> None:
    text = (REPOSITORY / "schemas" / "zcosmos.yaml").read_text() + "title: another\n"
    with pytest.raises(SpecError, match=r"own\.yaml: 'title' is there twice \(lines \d+ and \d+\)"):
        load_survey(str(write(tmp_path, text, "own.yaml")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1:30", {"a": "1:30"}),
        ("a: [yes, No, on, y]", {"a": ["yes", "No", "on", "y"]}),
        ("no: 1\ny: 2", {"no": 1, "y": 2}),
        ("a: 0o17", {"a": 15}),
        ("a: [10_000, 0, -0, 1e3, 1.5, .5, 1_0.0]", {"a": [10_000, 0, 0, 1000.0, 1.5, 0.5, 10.0]}),
        ("a: [true, False, null, ~, '']", {"a": [True, False, None, None, ""]}),
        ("a: 2024-05-06", {"a": "2024-05-06"}),
        ("a: =", {"a": "="}),
        ("a: '012'\nb: !!str 012", {"a": "012", "b": "012"}),
        ("\ufeffa: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("%YAML 1.2\n---\na: 1\n...\n", {"a": 1}),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: &x {b: 1}\nc: &y {b: 2, d: 3}\ne:\n  <<: [*x, *y]\n",
         {"a": {"b": 1}, "c": {"b": 2, "d": 3}, "e": {"b": 1, "d": 3}}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
        ("'<<': 1", {"<<": 1}),
    ],
)  # fmt: skip
def test_what_is_written_is_what_is_read(tmp_path: Path, text: str, words: Any) -> None:
    found = read_document(write(tmp_path, text)).content
    assert found == words
    assert repr(found) == repr(words), "1 is not True, nor 1.0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 012", ": line 1: 012 is octal to some readers of YAML: write it without the leading "
                   "0, 12 (or quote it, if it is text)"),
        ("b: 1\na: [1, -0_7]", ": line 2: -0_7 is octal"),
        ("a: -_", ": line 1: -_ is no number that can be read"),
        ("a: " + "9" * 5000, "is no number that can be read"),
        ("b: 1\na: &x [1, {c: *x}]", ": line 2: &x holds itself (*x)"),
        ("a: &x\n  <<: *x", "&x holds itself (*x)"),
        ("a: *x", ": line 1: *x stands for nothing (no &x comes before it)"),
        ("a: 1\n---\nb: 1", ": line 2: a second document begins (---) (one file is one document)"),
        ("a:\n\tb: 1", ": line 2: a tab stands where spaces are wanted (indent with spaces)"),
        (b"a: 1\nb: caf\xe9\n", ": line 2: is not UTF-8 (byte 0xe9) (save the file as UTF-8)"),
        ("a: 1".encode("utf-16"), ": line 1: is not UTF-8"),
        ("a: 1\nb: \x00", ": line 2: is not YAML: unacceptable character #x0000"),
        ("", ": expected 'key: value' lines at the top of the file"),
        ("# nothing\n", ": expected 'key: value' lines at the top of the file"),
        ("just text", ": expected 'key: value' lines at the top of the file"),
        ("- a\n- b", ": expected 'key: value' lines at the top of the file"),
        ("a: 1\n2: 3", ": line 2: the key 2 is not text (quote it)"),
        ("a: {true: 3}", ": line 1: the key true is not text (quote it)"),
        ("a: {~: 3}", ": line 1: the key ~ is not text (quote it)"),
        ("? [a]\n: 1", ": line 1: a key is text, not a list or 'key: value' lines"),
        ("a: {<<: 3}", ": line 1: << takes 'key: value' lines, or a list of them"),
        ("a: 'x\nb: 1\nc: 2", "quoted scalar that begins in line 1"),
        ("a: b: c", ": line 1: is not YAML: mapping values are not allowed here"),
        ("a: !!int 'x'", ": line 1: the tag '!!int' is not known (leave it out)"),
        ("a: 1\nb: !!python/object/apply:os.system [ls]",
         ": line 2: the tag '!!python/object/apply:os.system' is not known"),
        ("a: !!python/name:os.system", "is not known"),
        ("!!python/dict {a: 1}", "is not known"),
        ("a: !!binary aGk=", "the tag '!!binary' is not known"),
        ("a: !!set {b}", "the tag '!!set' is not known"),
        ("%YAML 1.1\n---\na: yes", ": line 1: says %YAML 1.1 (it is read as YAML 1.2)"),
        ('a: "\\Uffffffff"', "is not YAML"),
        ('a: "\\ud800"', "holds half a character"),
        ("a: " + "[" * 50 + "]" * 50, "is nested more than 40 deep"),
        ("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60)),
         "is nested more than 40 deep"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_refused_with_its_line(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    assert said in refused(write(tmp_path, text))


@pytest.mark.parametrize("kind", ["list", "mapping", "merge"])
def test_an_alias_bomb_is_defused(tmp_path: Path, kind: str) -> None:
    each = {
        "list": "[{}]",
        "mapping": "{{{}}}",
        "merge": "{{{}}}",
    }[kind]
    lines = ["b0: &b0 {x: 1}"]
    for level in range(1, 30):
        inner = ", ".join(
            {"list": "*b{1}", "mapping": "k{0}: *b{1}", "merge": "m{0}: {{<<: [*b{1}, *b{1}]}}"}[
                kind
            ].format(number, level - 1)
            for number in range(10)
        )
        lines.append(f"b{level}: &b{level} " + each.format(inner))
    file = write(tmp_path, "\n".join(lines))
    tracemalloc.start()
    try:
        assert "aliases (*) repeat too much" in refused(file)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


def test_a_file_that_is_no_job_at_all_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "catalogue.yaml"
    with file.open("wb") as stream:
        stream.truncate(2**33)
    assert "is longer than 8 MiB (is it the right file?)" in refused(file)


PIECES = ["a", "b: ", "- ", "? ", ": ", "\n", "  ", "{", "}", "[", "]", ",", "&x ", "*x", "<<: ",
          "!!int ", "!!python/x ", "! ", "|\n", ">9\n", "'", '"', "\\U", "#", "%YAML 1.1\n",
          "---\n", "%TAG ! x\n", "...\n", "012", "1:30", "0x", "-_", ".inf", "\t", "\r", "\x00",
          "\u2028", "${X:-y}", '"\\Uffffffff"', "!<a> ", "%%\n", "é", "&", "*"]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_no_text_reaches_a_traceback(text: str) -> None:
    try:
        read_value(text, "--set x")
    except SpecError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("partition={rows: 3, rows: 4}", "'rows' is there twice"),
        ("models.photometric.epochs=012", "012 is octal to some readers"),
        ("store=&a [*a]", "&a holds itself"),
        ("store=!!python/name:os.system", "the tag '!!python/name:os.system' is not known"),
        ("store=[", "is not YAML"),
        ("store=a\n---\nb", "a second document begins"),
        ("models.photometric.epochs=yes", "expected a whole number from 1 to 10000, got 'yes'"),
        ("models.photometric.epochs=1:30", "expected a whole number from 1 to 10000, got '1:30'"),
        ("models.photometric.epochs=true", "expected a whole number from 1 to 10000, got true"),
        ("models.photometric.epochs='12'", "got '12' (without quotes)"),
        ("models.photometric.morphology=yes", "expected true or false, got 'yes'"),
        ("models.photometric.morphology=1", "expected true or false, got 1"),
        ("models.²=1", "neither a position (0 to 1) nor a name"),
    ],
)
def test_set_is_as_strict_as_a_file(override: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        load_job("quickstart", [override])
    assert said in str(error.value)
    assert " line " not in str(error.value)


def job_file(folder: Path, **changes: Any) -> str:
    return str(write(folder, yaml.safe_dump(job_words(**changes))))


def test_the_environment_says_numbers_where_numbers_are_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROWS", "70")
    monkeypatch.setenv("SHAPES", "false")
    model = {"kind": "photometric", "noise": "${NOISE:-1}", "morphology": "${SHAPES}"}
    cluster = {"kind": "${WHERE:-local}", "workers": "${WORKERS:-3}"}
    source = {"kind": "mock", "rows": "${ROWS}"}
    report = {"magnitude_bins": [18, "${FAINT:-2.4e1}"]}
    job = load_job(job_file(tmp_path, source=source, models=[model], cluster=cluster,
                            report=report, store="${ROWS}"))  # fmt: skip
    assert isinstance(job.source, MockSource)
    assert isinstance(job.models[0], PhotometricModel)
    assert isinstance(job.cluster, LocalCluster)
    assert (job.source.rows, job.models[0].noise, job.cluster.workers) == (70, 1.0, 3)
    assert job.models[0].morphology is False
    assert job.report.magnitude_bins == (18, 24)
    assert type(job.store) is str and job.store == "70"


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ("{kind: mock, rows: 1}", "got '{kind: mock, rows: 1}'"),
        ("[1]", "got '[1]'"),
        ("012", "got '012'"),
        ("yes", "got 'yes'"),
        ("true", "got 'true'"),
        ("1.0", "got '1.0'"),
        ("!!int 3", "got '!!int 3'"),
        ("1\nstore: /", "got '1\\nstore: /'"),
    ],
)
def test_the_environment_changes_no_types_and_adds_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, rows: str
) -> None:
    monkeypatch.setenv("VALUE", value)
    with pytest.raises(SpecError, match=re.escape(f"'source.rows': expected a whole number from 1 "
                                                  f"to 10000000000, {rows}")):  # fmt: skip
        load_job(job_file(tmp_path, source={"kind": "mock", "rows": "${VALUE}"}))


def test_a_variable_that_is_not_set_is_said_with_its_line(tmp_path: Path) -> None:
    said = refused(write(tmp_path, "name: a\nstore: ${GALBATCH_UNSET_VARIABLE}/x"))
    assert said.startswith(": line 2: the environment variable GALBATCH_UNSET_VARIABLE is not set")


@pytest.mark.parametrize("name", ["a" * 300 + ".yaml", "a\0.yaml", "\ud800.yaml"])
def test_a_name_that_no_file_can_have_is_no_file(name: str) -> None:
    with pytest.raises(SpecError, match="there is no such job file"):
        load_job(name)
    with pytest.raises(SpecError, match="there is no such survey file"):
        load_survey(name, Path("jobs"))
