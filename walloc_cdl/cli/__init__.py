"""The `cdl` command: parsing and wiring only. Modules that compute are imported inside the commands."""

from walloc_cdl.cli.app import main

__all__ = ["main"]
