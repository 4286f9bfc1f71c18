"""By which processes a job's models are trained: `training` in `jobs/*.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from galbatch.spec.base import Line, Settings


class TrainingProcesses(Settings):
    """The processes that do a fit together.

    They are no part of what a model is: with another number of them nothing is trained again, and
    a fit that was cut short goes on.
    """

    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Each does its share of every batch, on all the GPUs that it sees."""
    launch: Literal["here", "srun"] = "here"
    """`here` begins them on the machine that trains, where they share its cores and GPUs; `srun`
    in SLURM's allocation, on its nodes."""
    interface: Line | None = None
    """Network interface by which processes on several nodes reach the first one."""
    options: tuple[Line, ...] = ()
    """Further options of srun, e.g. `--gpus-per-task=4`."""

    @model_validator(mode="after")
    def _are_of_srun(self) -> Self:
        if self.launch == "here" and (self.interface or self.options):
            word = "interface" if self.interface else "options"
            raise ValueError(f"{word}: is for 'launch: srun'; leave it out")
        return self
