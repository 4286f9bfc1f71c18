"""A simulated sky seen through a survey."""
