"""The commands that compare and measure."""

from __future__ import annotations

from experiments.cli import bench, codec, comparison, sound
from walloc_cdl.cli.registry import CommandTable

COMMANDS = CommandTable(
    {
        "compare": comparison.compare,
        "crossval": sound.crossval,
        "demo": comparison.demo,
        "report": comparison.show_report,
        "codec eval": codec.evaluate,
        "codec inspect": codec.inspect,
        "bench encode": bench.bench_encode,
        "bench unpack": bench.bench_unpack,
        "bench load": bench.bench_load,
        "bench prepare": bench.bench_prepare,
        "bench train": bench.bench_train,
        "bench archive": bench.bench_archive,
    },
    groups={"bench": "Measure speed against other programs and limits."},
)
