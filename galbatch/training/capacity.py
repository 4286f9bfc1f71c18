"""How large a network the labelled rows can teach, and how long they teach it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from galbatch.models.heads import Head
from galbatch.spec.job import PhotometricModel

# A model that other numbers made is not what these would make: raise the version of the code that
# trains, in `stages`, with them.

# With early stopping a network can have many weights for each row; with more than this, one
# trained on a few hundred rows has been seen to do worse than a smaller one.
_WEIGHTS_PER_ROW = 100
_NARROWEST = 16
_MEMBERS, _LAYERS = 2, 4
_USUAL, _WIDE = 256, 384
_DROPOUT, _LITTLE_DROPOUT = 0.1, 0.05
_BATCH, _LARGE_BATCH = 256, 512
# Rows from which on the wider network and the smaller dropout were seen to do better, and larger
# steps as well as smaller ones, in less time.
_MANY = 200_000
# Rows shown in all epochs together, about, and the limits of their number.
_SHOWN = 8_000_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 40
# A fit of so many steps has the weight decay that the job asks for.
_USUAL_STEPS = 3000


@dataclass(frozen=True)
class NetworkSize:
    """A network's size.

    Parameters
    ----------
    numbers : dict of str to int
        Arguments of `galbatch.models.network.Architecture`.
    warnings : tuple of str
        What is to be said of it.
    """

    numbers: dict[str, int]
    warnings: tuple[str, ...]


def fitting_epochs(rows: int) -> int:
    """How often rows are shown: the fewer, the more there are.

    Parameters
    ----------
    rows : int
        Shown in an epoch, at least 1; copies beyond the class labels count.

    Returns
    -------
    int
    """
    return min(max(round(_SHOWN / rows), _FEWEST_EPOCHS), _MOST_EPOCHS)


def fitting_dropout(rows: int) -> float:
    """Share of the units that a step leaves out.

    Parameters
    ----------
    rows : int
        That train.

    Returns
    -------
    float
    """
    return _LITTLE_DROPOUT if rows >= _MANY else _DROPOUT


def fitting_batch(rows: int) -> int:
    """Rows in a step.

    Parameters
    ----------
    rows : int
        That train.

    Returns
    -------
    int
    """
    return _LARGE_BATCH if rows >= _MANY else _BATCH


def fitting_rate(rate: float, batch: int) -> float:
    """Learning rate of steps of some size.

    Parameters
    ----------
    rate : float
        Of steps of 256 rows.
    batch : int

    Returns
    -------
    float
        By the square root of the size: Malladi et al. (2022, arXiv:2205.10287) for Adam.
    """
    return rate * math.sqrt(batch / _BATCH)


def fitting_decay(decay: float, steps: int) -> float:
    """Weight decay of each step of a fit.

    Parameters
    ----------
    decay : float
        Of a fit of 3,000 steps.
    steps : int

    Returns
    -------
    float
        Less for a longer one, by the square root of the steps: Loshchilov & Hutter (2019,
        arXiv:1711.05101), appendix B.1.
    """
    return decay * min(1.0, math.sqrt(_USUAL_STEPS / steps))


def parameters(inputs: int, width: int, layers: int, outputs: int) -> int:
    """Weights of one member of the ensemble."""
    return (inputs + 1) * width + (layers - 1) * (width + 1) * width + (width + 1) * outputs


def fitting_size(
    settings: PhotometricModel,
    inputs: int,
    heads: Sequence[Head],
    rows: int,
    pretrained: Mapping[str, int] | None = None,
) -> NetworkSize:
    """The size that a job asks for, or one that suits the rows.

    Parameters
    ----------
    settings : PhotometricModel
    inputs : int
        Features.
    heads : sequence of Head
    rows : int
        That train.
    pretrained : mapping of str to int, optional
        Size of the network that it begins with: its weights set the size.

    Returns
    -------
    NetworkSize
    """
    outputs = sum(head.size for head in heads)
    own = {
        "members": settings.members or _MEMBERS,
        "width": settings.width or (_WIDE if rows >= _MANY else _USUAL),
        "layers": settings.layers or _LAYERS,
    }
    members, asked, layers = ((pretrained or own)[name] for name in own)

    def count(width: int) -> int:
        return parameters(inputs, width, layers, outputs)

    width, warnings = asked, []
    while pretrained is None and width > _NARROWEST and count(width) > _WEIGHTS_PER_ROW * rows:
        width = max(width // 2, _NARROWEST)
    if count(width) > rows:
        warnings.append(
            f"{rows} training rows for the {count(width)} weights of a network: "
            "early stopping alone keeps it from learning them by heart"
        )
    if width < asked:
        warnings.append(f"width {width} instead of {asked}: so few rows teach no more")
    numbers = {
        "inputs": inputs,
        "members": members,
        "width": width,
        "layers": layers,
        "outputs": outputs,
    }
    return NetworkSize(numbers, tuple(warnings))
