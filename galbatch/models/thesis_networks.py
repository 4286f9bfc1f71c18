"""The networks of Cacho (2020) as Keras models. Imports TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import keras

from galbatch.targets import RECORDS
from galbatch.values import Target


@dataclass(frozen=True)
class ThesisNetwork:
    """One network of the thesis.

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers.
    activation : str
    optimizer : {"adam", "rmsprop"}
    batch, epochs : int
    power : float
        What labels that are scaled to [0, 1] are raised to (appendix A.5).
    """

    hidden: tuple[int, ...]
    activation: str
    optimizer: Literal["adam", "rmsprop"]
    batch: int
    epochs: int
    power: float = 1.0


# Section 3.3.1 to 3.3.5 and appendix A.6. The batch of 64 and "the code is the same for every
# parameter" are the appendix', the epochs section 3.3.5's. The absolute magnitude has no section of
# its own, so it gets the redshift's network, which is the one whose code is shown.
_REDSHIFT = ThesisNetwork((120,), "linear", "adam", 64, 80)
_TEXT: dict[Target, ThesisNetwork] = {
    "redshift": replace(_REDSHIFT, power=0.1),
    "star": ThesisNetwork((500, 600), "relu", "adam", 16, 20),
    "log_mass": ThesisNetwork((120, 200, 50), "linear", "adam", 64, 7),
    "spectral_type": ThesisNetwork((120, 500), "linear", "adam", 64, 10),
    "abs_mag_b": _REDSHIFT,
}
# The table of the slides: smaller networks for class and type, and RMSprop for the type.
_SLIDES: dict[Target, ThesisNetwork] = _TEXT | {
    "star": ThesisNetwork((2, 3), "relu", "adam", 16, 20),
    "spectral_type": ThesisNetwork((20, 10), "linear", "rmsprop", 64, 10),
}


def network_of(target: Target, layout: Literal["text", "slides"]) -> ThesisNetwork:
    """The network for a target, as the text or the slides have it."""
    return (_TEXT if layout == "text" else _SLIDES)[target]


def build(target: Target, layout: Literal["text", "slides"], inputs: int) -> Any:
    """A network as a Keras model.

    Parameters
    ----------
    target : Target
    layout : {"text", "slides"}
    inputs : int

    Returns
    -------
    keras.Model
        (n, inputs) to (n, 2) class probabilities, galaxy then star, or to (n, 1).

    Notes
    -----
    The text gives the spectral type five outputs "as there are 5 categories" and calls the network
    a regression of a continuous magnitude in the same breath; its results, and the slides, are of
    one number. So it has one neuron here.
    """
    network = network_of(target, layout)
    entry = keras.Input((inputs,), name="inputs")
    x = entry
    for index, units in enumerate(network.hidden):
        x = keras.layers.Dense(units, activation=network.activation, name=f"hidden_{index}")(x)
    last = (
        keras.layers.Dense(2, activation="softmax", name="outputs")
        if RECORDS[target].is_class
        else keras.layers.Dense(1, name="outputs")
    )
    return keras.Model(entry, last(x), name=target)
