"""Spectra: grids, resampling, cleaning, and fits of linear templates; arrays in, arrays out."""
