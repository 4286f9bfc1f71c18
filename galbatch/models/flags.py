"""The bits of the `quality` column."""

from __future__ import annotations

from enum import IntFlag


class Quality(IntFlag):
    """What is to be known before a prediction is trusted; 0 when there is nothing."""

    NO_PHOTOMETRY = 1
    """No band has a usable measurement: nothing is predicted."""
    FEW_BANDS = 2
    """Fewer than half of the model's bands have a usable measurement."""
    SATURATED = 4
    """The catalogue says that the object is saturated."""
    UNDETECTED = 8
    """Every band that was observed has only an upper limit."""
    OUTSIDE_TRAINING = 16
    """Farther from the training sample than 99.5 % of the rows it was checked on (`ood` > 1)."""
    ENSEMBLE_DISAGREES = 32
    """The networks' mean redshifts scatter by more than 0.05 (1 + z)."""
    PROBABLY_STAR = 64
    """`prob_star` is above 0.5: redshift, mass and type are those of a galaxy that it is not."""

    PROBABLY_QSO = 128
    """`prob_qso` is above 0.5: mass and type are those of a galaxy that it is not, and so is the
    redshift, unless the survey's labels have redshifts of quasars (`qso_redshifts`)."""

    @classmethod
    def describe(cls) -> str:
        """``1 NO_PHOTOMETRY, 2 FEW_BANDS, ...``."""
        return ", ".join(f"{flag.value} {flag.name}" for flag in cls)
