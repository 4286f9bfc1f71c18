"""How large a network the labelled rows can teach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from galbatch.models.heads import Head
from galbatch.spec.job import PhotometricModel

# With early stopping a network can have many weights for each row; with more than this, one
# trained on a few hundred rows has been seen to do worse than a smaller one.
_WEIGHTS_PER_ROW = 100
_NARROWEST = 16


@dataclass(frozen=True)
class Size:
    """A network's size.

    Parameters
    ----------
    words : dict of str to int
        Of `galbatch.models.network.Architecture`.
    warnings : tuple of str
        What is to be said of it.
    """

    words: dict[str, int]
    warnings: tuple[str, ...]


def parameters(inputs: int, width: int, layers: int, outputs: int) -> int:
    """Weights of one member of the ensemble."""
    return (inputs + 1) * width + (layers - 1) * (width + 1) * width + (width + 1) * outputs


def fitting_size(
    spec: PhotometricModel, inputs: int, heads: Sequence[Head], rows: int, pretrained: bool
) -> Size:
    """The size that a job asks for, or a narrower one where there are few rows.

    Parameters
    ----------
    spec : PhotometricModel
    inputs : int
        Features.
    heads : sequence of Head
    rows : int
        That train.
    pretrained : bool
        It begins with the weights of another: they set its size.

    Returns
    -------
    Size
    """
    outputs = sum(head.size for head in heads)

    def count(width: int) -> int:
        return parameters(inputs, width, spec.layers, outputs)

    width, warnings = spec.width, []
    if not pretrained:
        while width > _NARROWEST and count(width) > _WEIGHTS_PER_ROW * rows:
            width = max(width // 2, _NARROWEST)
    if count(width) > rows:
        warnings.append(
            f"{rows} training rows for the {count(width)} weights of a network: "
            "early stopping alone keeps it from learning them by heart"
        )
    if width < spec.width:
        warnings.append(f"width {width} instead of {spec.width}: so few rows teach no more")
    words = {
        "inputs": inputs,
        "members": spec.members,
        "width": width,
        "layers": spec.layers,
        "outputs": outputs,
    }
    return Size(words, tuple(warnings))
