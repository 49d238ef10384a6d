"""The commands on what `walloc_cdl` itself holds: codecs, and data sets of latents as they are stored."""

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
    groups={"codec": "List, look at, fit and measure codecs."},
)
