"""The networks of Cacho (2020) as Keras models. Imports TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras

from galbatch.values import Target


@dataclass(frozen=True)
class Recipe:
    """One network of the thesis.

    Parameters
    ----------
    hidden : tuple of int
        Units of the hidden layers.
    activation : str
    optimizer : {"adam", "rmsprop"}
    batch, epochs : int
    """

    hidden: tuple[int, ...]
    activation: str
    optimizer: Literal["adam", "rmsprop"]
    batch: int
    epochs: int


# Section 3.3.1 to 3.3.5 and appendix A.6. The batch of 64 and "the code is the same for every
# parameter" are the appendix', the epochs section 3.3.5's. The absolute magnitude has no section of
# its own, so it gets the redshift's network, which is the one whose code is shown.
_REDSHIFT = Recipe((120,), "linear", "adam", 64, 80)
_TEXT: dict[Target, Recipe] = {
    "redshift": _REDSHIFT,
    "star": Recipe((500, 600), "relu", "adam", 16, 20),
    "log_mass": Recipe((120, 200, 50), "linear", "adam", 64, 7),
    "spectral_type": Recipe((120, 500), "linear", "adam", 64, 10),
    "abs_mag_b": _REDSHIFT,
}
# The table of the slides: smaller networks for class and type, and RMSprop for the type.
_SLIDES: dict[Target, Recipe] = _TEXT | {
    "star": Recipe((2, 3), "relu", "adam", 16, 20),
    "spectral_type": Recipe((20, 10), "linear", "rmsprop", 64, 10),
}


def recipe(target: Target, layout: Literal["text", "slides"]) -> Recipe:
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
    words = recipe(target, layout)
    entry = keras.Input((inputs,), name="inputs")
    x = entry
    for index, units in enumerate(words.hidden):
        x = keras.layers.Dense(units, activation=words.activation, name=f"hidden_{index}")(x)
    last = (
        keras.layers.Dense(2, activation="softmax", name="outputs")
        if target == "star"
        else keras.layers.Dense(1, name="outputs")
    )
    return keras.Model(entry, last(x), name=target)
