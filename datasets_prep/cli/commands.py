"""The commands that create, maintain, export and transfer data sets of latents."""

from __future__ import annotations

from datasets_prep.cli import codec_files, codec_fit, export, hub, prepare, preview, upkeep
from walloc_cdl.cli.registry import CommandTable

COMMANDS = CommandTable(
    {
        "prepare": prepare.prepare,
        "preview": preview.preview,
        "export": export.export,
        "push": hub.push,
        "pull": hub.pull,
        "repair": upkeep.repair,
        "drop": upkeep.drop,
        "merge": upkeep.merge,
        "split": upkeep.split,
        "cut": upkeep.cut,
        "codec fit": codec_fit.fit,
        "codec encode": codec_files.encode,
        "codec decode": codec_files.decode,
    }
)
