"""The small sky that these tests are about."""

from __future__ import annotations

from toy_sky import sky, survey

__all__ = ["sky", "survey"]
