"""What a model is made with."""

from __future__ import annotations

from importlib.metadata import version


def libraries() -> dict[str, str]:
    """Versions of what a model is made with."""
    found = {name: version(name) for name in ("galbatch", "keras", "numpy", "onnxruntime")}
    import tensorflow

    return found | {"tensorflow": str(tensorflow.__version__)}
