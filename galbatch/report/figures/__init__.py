"""The figures of the page. Each is one column wide, so that a phone shows it in full.

Numbers come in ready: nothing here measures.
"""

from galbatch.report.figures.base import Curve, literal
from galbatch.report.figures.bins import by_bins, honesty_by_bins
from galbatch.report.figures.catalogue import loss_curves, quality_flags, sky
from galbatch.report.figures.classes import (
    class_reliability,
    classes_by_magnitude,
    reliability,
    roc,
)
from galbatch.report.figures.distributions import distributions, ood, pit_histogram
from galbatch.report.figures.maps import cell_clusters, cells, clusters_tried
from galbatch.report.figures.points import redshift_scatter, target_scatter
from galbatch.report.figures.spectra import (
    chi2_curves,
    known_redshifts,
    ranked_failures,
    spectrum,
    together,
)

__all__ = [
    "Curve", "by_bins", "cell_clusters", "cells", "chi2_curves", "class_reliability",
    "classes_by_magnitude", "clusters_tried", "distributions", "honesty_by_bins", "known_redshifts",
    "literal", "loss_curves", "ood", "pit_histogram", "quality_flags", "ranked_failures",
    "redshift_scatter", "reliability", "roc", "sky", "spectrum", "target_scatter", "together",
]  # fmt: skip
