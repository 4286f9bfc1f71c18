"""Epochs that are not lost: a fit that was killed goes on where it was."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np
from numpy.typing import NDArray

_STATE = "state.npz"
# Saving takes longer than an epoch of a small network: what a kill may cost is bounded instead.
_SECONDS_BETWEEN = 5.0


@dataclass
class FitProgress:
    """How far a fit is.

    Parameters
    ----------
    epoch : int
        Finished epochs.
    best : float
        Lowest validation loss so far.
    waited : int
        Epochs since then.
    history : dict of str to list of float
        Loss curves.
    """

    epoch: int = 0
    best: float = float("inf")
    waited: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)


class Checkpoint(keras.callbacks.Callback):  # type: ignore[misc]
    """Early stopping, the best weights, and the state of the fit on disk every few seconds.

    `keras.callbacks.BackupAndRestore` keeps neither the best weights nor the patience, so that a
    resumed fit could end elsewhere; here one that was killed ends bit for bit like one that was
    not.

    Parameters
    ----------
    folder : Path
        Where the state is.
    key : str
        Of the rows and settings of this fit: the state of another is not taken up.
    patience : int or None
        Epochs without a better validation loss before it ends; None: all epochs, and the last
        weights are the ones that are kept.
    report : callable
        Told the epoch and what to say, after each.
    """

    def __init__(
        self, folder: Path, key: str, patience: int | None, report: Callable[[int, str], None]
    ) -> None:
        super().__init__()
        self._file, self._key = folder / _STATE, key
        self._patience, self._report = patience, report
        self.progress = FitProgress()
        self._best: list[NDArray[Any]] = []
        self._saved = float("-inf")

    @property
    def finished(self) -> bool:
        """Whether its patience is at an end."""
        return self._patience is not None and self.progress.waited >= self._patience

    def resume(self, model: Any) -> None:
        """Take up what is on disk, if it is of this fit.

        Parameters
        ----------
        model : keras.Model
            Compiled.
        """
        model.optimizer.build(model.trainable_variables)
        try:
            with np.load(self._file, allow_pickle=False) as state:
                facts = json.loads(str(state["facts"]))
                arrays = [state[f"now_{i}"] for i in range(facts["now"])]
                best = [state[f"best_{i}"] for i in range(facts["best"])]
        except (OSError, ValueError, KeyError, BadZipFile):
            return
        variables = variables_of(model)
        if facts["key"] != self._key or len(arrays) != len(variables):
            return
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self._best = best
        self.progress = FitProgress(**facts["progress"])

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the epoch and keep it."""
        loss = {name: float(value) for name, value in (logs or {}).items()}
        state = self.progress
        state.epoch = epoch + 1
        for name, value in loss.items():
            state.history.setdefault(name, []).append(value)
        if self._patience is not None and loss["val_loss"] < state.best:
            state.best, state.waited = loss["val_loss"], 0
            self._best = [np.asarray(weight) for weight in self.model.get_weights()]
        else:
            state.waited += 1
        # Who is told may find that this fit is not wanted any more: then nothing is kept.
        self._report(
            state.epoch, ", ".join(f"{name} {value:.4f}" for name, value in sorted(loss.items()))
        )
        if time.monotonic() - self._saved >= _SECONDS_BETWEEN:
            self._save()
        if self.finished:
            self.model.stop_training = True

    def best_weights(self, model: Any) -> list[NDArray[Any]]:
        """Weights of the best epoch, or the last ones where none was judged."""
        return self._best or [np.asarray(weight) for weight in model.get_weights()]

    def _save(self) -> None:
        now = [np.asarray(variable) for variable in variables_of(self.model)]
        facts = {
            "key": self._key,
            "now": len(now),
            "best": len(self._best),
            "progress": vars(self.progress),
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Beside the old one, then in its place: a kill leaves one that is whole. Under a name that
        # nobody else has, as a process that should have ended may be at the same.
        draft = self._file.with_name(f".{_STATE}.{uuid.uuid4().hex[:12]}.tmp")
        with draft.open("wb") as stream:
            np.savez(
                stream,
                allow_pickle=False,
                facts=np.array(json.dumps(facts)),
                **{f"now_{i}": array for i, array in enumerate(now)},
                **{f"best_{i}": array for i, array in enumerate(self._best)},
            )
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(self._file)
        self._saved = time.monotonic()


def variables_of(model: Any) -> list[Any]:
    """All that a step changes: weights, the dropout's generators, the optimiser's moments.

    Parameters
    ----------
    model : keras.Model
        Compiled, and its optimiser built.

    Returns
    -------
    list of keras.Variable
    """
    counters = {id(variable) for variable in model.metrics_variables}
    kept = [variable for variable in model.variables if id(variable) not in counters]
    return [*kept, *model.optimizer.variables]
