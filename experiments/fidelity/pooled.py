"""Joins the images of several measurements, such as those of codecs that were fitted to the other half each.

    python -m experiments.fidelity.pooled half-0.json half-1.json

Takes the JSON files of `cdl codec eval --classifier`, and prints the tables over all of their images, in Markdown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from experiments.fidelity.outcome import outcome_from_json, pool
from experiments.fidelity.plot import plot_outcome, require_picture
from experiments.fidelity.report import print_outcome
from walloc_cdl.errors import CdlError
from walloc_cdl.json_files import read_json

MAX_RESULT_BYTES = 1 << 28
"""Larger files are refused; a thousand images in ten forms take less than a megabyte."""


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and write JSON and plot; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fidelity.pooled", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of `cdl codec eval --classifier`")
    parser.add_argument("--plot", type=Path, help="picture to write")
    parser.add_argument("--json", type=Path, help="file for the joined result")
    options = parser.parse_args(arguments)
    try:
        if options.plot is not None:
            require_picture(options.plot)
        parts = [
            outcome_from_json(read_json(path, max_bytes=MAX_RESULT_BYTES, remedy="measure again"), str(path))
            for path in options.results
        ]
        outcome = pool(parts)
        print_outcome(outcome, options.json)
        if options.plot is not None:
            plot_outcome(outcome, options.plot)
    except (CdlError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
