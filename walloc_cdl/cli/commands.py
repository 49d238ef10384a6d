"""The commands of the package `walloc_cdl` itself: on codecs, and on stored data sets of latents."""

from __future__ import annotations

from walloc_cdl.cli import codec, dataset
from walloc_cdl.cli.registry import CommandTable

COMMANDS = CommandTable(
    {
        "inspect": dataset.inspect,
        "verify": dataset.verify,
        "codec list": codec.list_codecs,
        "codec info": codec.info,
        "codec import": codec.import_published,
    },
    groups={"codec": "List, inspect, fit and measure codecs."},
)
