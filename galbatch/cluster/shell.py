"""What users write of a job's script in the language of a shell."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from galbatch.cluster.systems import WIDTH
from galbatch.errors import SpecError
from galbatch.spec.cluster import QueueCluster

_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""")
_COMMENT = re.compile(r"(?:^|(?<=[\s;&|()]))#")
_END = re.compile(r"(?<!;);\s*$")
_GOES_ON = re.compile(r"(?<!\\)(\\\\)*\\$")
_DOLLARS = re.compile(r"(\$+)\(")


def for_condor(lines: Sequence[str]) -> list[str]:
    """Lines of a shell for HTCondor, which has them in one, and puts its own words for `$(word)`.

    They lose their comments, which would hide what follows.
    """
    return [_DOLLARS.sub(_as_they_are, line) for line in _bare(lines)]


def check_prologues(spec: QueueCluster) -> None:
    """Refuse what a shell would stop at, or join with the command that follows.

    Raises
    ------
    SpecError
        Naming the setting.
    """
    found = {"prologue": spec.prologue, "driver.prologue": spec.driver.prologue}
    found |= {f"groups.{name}.prologue": one.prologue for name, one in spec.groups.items()}
    for name, lines in found.items():
        if lines:
            _check(spec.kind, lines, f"cluster.{name}")


def _check(kind: str, lines: Sequence[str], where: str) -> None:
    in_one = kind == "htcondor"
    hint = "htcondor has its lines in one, with ';' between them" if in_one else ""
    kept = _bare(lines) if in_one else lines
    for line in kept if in_one else kept[-1:]:
        if _GOES_ON.search(line):
            problem = f"'{line[:WIDTH]}' goes on in a line that is not of the prologue"
            raise SpecError(where, problem, hint)
    shell = "sh" if in_one else "bash"
    text = ("; " if in_one else "\n").join([*kept, ":"])
    try:
        done = subprocess.run(
            [shell, "-n"], input=text, capture_output=True, text=True, check=False
        )
    except OSError:  # it is only where the jobs run
        return
    if done.returncode:
        said = " ".join(done.stderr.split())[:WIDTH]
        raise SpecError(where, f"is not what a shell understands: {said}", hint)


def _bare(lines: Sequence[str]) -> list[str]:
    """Lines without comments, and without a `;` in the end: they are joined by one."""
    found = []
    for line in lines:
        # Of the same length, so that what is quoted moves nothing.
        plain = _QUOTED.sub(lambda quoted: "x" * len(quoted.group()), line)
        plain = _COMMENT.split(plain, maxsplit=1)[0]
        rest = line[: len(_END.sub("", plain))].strip()
        if rest:
            found.append(rest)
    return found


def _as_they_are(found: re.Match[str]) -> str:
    """Dollar signs before a bracket, by HTCondor's words for two of them and for one."""
    pairs, rest = divmod(len(found[1]), 2)
    return "$$(DOLLARDOLLAR)" * pairs + "$(DOLLAR)" * rest + "("
