"""What README and help tell a reader to type is there: programs, commands, options, files."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from small import REPOSITORY
from typer.testing import CliRunner

from galbatch.cli import app
from galbatch.spec import load_job, load_survey

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
COMMANDS: Any = typer.main.get_command(app)
SHOWN = [name for name, command in COMMANDS.commands.items() if not command.hidden]


def lines() -> Iterator[str]:
    """What stands after a `$`, and whatever of galbatch stands between backticks."""
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for line in block.splitlines():
            assert line.startswith("$ "), line
            yield line[2:]
    inline = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for words in re.findall(r"`([^`]+)`", inline):
        if re.match(r"(\w+=\S+ )*(\S*/)?(galbatch|python|make) ", words):
            yield words


TYPED = sorted(set(lines()))


@pytest.mark.parametrize("line", TYPED)
def test_a_command_of_the_readme_is_there(line: str) -> None:
    words = shlex.split(line, comments=True)
    while "=" in words[0]:
        words.pop(0)
    program, *rest = words
    match program:
        case "make":
            targets = re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
            assert set(rest) <= set(targets)
        case ".venv/bin/galbatch" | "galbatch":
            project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
            assert project["project"]["scripts"]["galbatch"] == "galbatch.cli:main"
            parsed(rest)
        case ".venv/bin/python" | "python":
            assert (REPOSITORY / rest[0]).is_file()
        case "pip":
            assert rest[0] == "install"
        case "sbatch":
            *_, wrapped = shlex.split(rest[-1])
            assert wrapped == "my_job.yaml" and " galbatch run " in rest[-1]
        case "salloc":
            assert rest[-3:] == ["galbatch", "run", "my_job.yaml"]
        case _:
            pytest.fail(f"what is {program}?")


def parsed(words: list[str]) -> None:
    """A command line that is understood, about a job or a survey that galbatch ships."""
    name, *rest = words
    if name == "..." or not rest or rest == ["JOB"]:
        assert name in {"...", *COMMANDS.commands}
        return
    context = COMMANDS.commands[name].make_context(name, list(rest))
    job, survey = context.params.get("job"), context.params.get("survey")
    if job and not job.startswith("my_"):
        load_job(job, context.params.get("set_") or ())
    if survey:
        load_survey(survey)


def test_the_commands_of_the_readme_were_found() -> None:
    typed = " ".join(TYPED)
    for command in SHOWN:
        assert re.search(rf"galbatch {command} ", typed), command
    assert "make test" in typed and "benchmarks/" in typed
    # Where `make` fetched uv, it is not on the PATH.
    assert not re.search(r"\$ .*\buv\b", README)


def test_the_arrays_of_the_readme_make_a_survey(tmp_path: Path) -> None:
    survey, _, arrays, *_ = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    head, columns = survey.split("columns:\n")
    listed, axes = arrays.removeprefix("columns:\n").split("axes:\n")
    own = [line for line in listed.splitlines(keepends=True) if line not in columns]
    file = tmp_path / "survey.yaml"
    file.write_text(f"{head}columns:\n{columns}{''.join(own)}axes:\n{axes}", encoding="utf-8")
    found = load_survey(str(file))
    assert [column.name for column in found.arrays] == ["spectrum", "ivar", "mask", "cutout"]


def test_the_cluster_of_the_readme_is_one(tmp_path: Path) -> None:
    (cluster,) = re.findall(r"```yaml\n# in the job\n(.*?)```", README, re.DOTALL)
    text = (REPOSITORY / "jobs" / "quickstart.yaml").read_text(encoding="utf-8")
    assert "\ncluster:" not in text
    file = tmp_path / "job.yaml"
    file.write_text(text + cluster, encoding="utf-8")
    assert load_job(str(file)).cluster.kind == "slurm"


@pytest.mark.parametrize("command", ["", *SHOWN])
def test_help_has_an_example_and_the_exit_codes(command: str) -> None:
    done = CliRunner().invoke(app, [command, "--help"] if command else ["--help"])
    text = " ".join(done.stdout.split())
    example = re.search(r"Example: galbatch (.*?) Exit codes: ([^│]*)$", text)
    assert example, text
    assert example[1].split()[0] == (command or "run")
    parsed(shlex.split(example[1]))
    codes = re.findall(r"(?:^|, )(\d+) ", example[2])
    assert codes == sorted(codes, key=int) and {"0", "2", "3"} <= set(codes)


@pytest.mark.parametrize("name", ["alhambra", "zcosmos"])
def test_the_thesis_networks_are_added_as_the_job_says(name: str) -> None:
    assert [model.kind for model in load_job(name).models] == ["photometric"]
    text = (REPOSITORY / "jobs" / f"{name}.yaml").read_text(encoding="utf-8")
    (words,) = re.findall(r"--set '(.*)'", text)
    kinds = [model.kind for model in load_job(name, [words]).models]
    assert kinds == ["photometric", "thesis"]
