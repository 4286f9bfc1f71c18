"""Grids on which distributions are stored."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from galbatch.spec.base import Settings, must_rise

_FINEST = 1e-6
"""Smallest step between redshifts that float32 tells apart."""


class RedshiftGrid(Settings):
    """Evenly spaced redshifts at which p(z) is stored in full."""

    low: float = Field(default=0.0, ge=0, le=100)
    high: float = Field(default=6.0, gt=0, le=100)
    points: int = Field(default=301, ge=2, le=10_000)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        must_rise(self.low, self.high)
        if (self.high - self.low) / self.points < _FINEST:
            raise ValueError(f"points are closer than {_FINEST:g}; take fewer, or a wider range")
        return self
