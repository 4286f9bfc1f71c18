"""From what a catalogue says to fluxes, and from fluxes to what a network reads."""
