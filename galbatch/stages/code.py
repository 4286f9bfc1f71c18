"""Versions of the code of the stages: what another version has written is done again."""

SCAN = 4
INGEST = 3
TRAIN = 6
PREDICT = 5
APPEND = 2
REPORT = 5
