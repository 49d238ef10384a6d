"""Tests of the reading side use the data sets of the format's tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "latents"))
