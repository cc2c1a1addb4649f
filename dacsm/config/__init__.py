"""Settings, the catalogue of datasets and the places of files: what is read, checked, and computes nothing."""

from pathlib import Path

PARAMS_FILE = Path("params.yaml")
SOURCE_ONLY = "source_only"  # the method that is the pretrained model itself
