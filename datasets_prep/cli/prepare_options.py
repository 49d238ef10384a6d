"""The options of `cdl prepare`, by name: what each is and says of itself in the help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutAddress = Annotated[str, typer.Option(metavar="DIR", help="Folder of the data set to make, or address, as s3://….")]
CodecName = Annotated[
    str | None, typer.Option("--codec", help="A name from `cdl codec list`, a folder, a .pth file, or hub:….")
]
FromArchives = Annotated[bool, typer.Option("--archive", help="SOURCE is a folder that `cdl export --archive` made.")]
Size = Annotated[
    int | None, typer.Option(help="Images: pixels a side, shorter side resized to it, center crop; default 256.")
]
Resize = Annotated[str | None, typer.Option(help="Images: lanczos, bicubic, bilinear or box; default lanczos.")]
Crop = Annotated[
    str | None, typer.Option(help="Images: center, or pad (longer side resized, edges repeated); default center.")
]
Profiles = Annotated[
    str | None, typer.Option(help="Images: ignore embedded color profiles, or convert to srgb; default ignore.")
]
Decoder = Annotated[
    str | None,
    typer.Option(help="Images: pil, or pil-scaled: large JPEG files at a fraction of their size; default pil."),
]
Geometry = Annotated[
    str, typer.Option(help="fixed, or ragged: images and clips keep their own size, padded to the stride.")
]
Views = Annotated[str | None, typer.Option(help="Images: variants stored beside the evaluation crop, as flip,crops:4.")]
SegmentSeconds = Annotated[float | None, typer.Option(help="Audio: seconds of a segment; default 5.")]
HopSeconds = Annotated[
    float | None, typer.Option(help="Audio: seconds from segment to segment; default the segment's length.")
]
Normalization = Annotated[
    str | None, typer.Option(help="Audio: none, or clip (mean off, loudest sample to full scale); default none.")
]
ShardSamples = Annotated[int | None, typer.Option(help="Samples a shard; default 8,192 or 128 MiB of codes.")]
Workers = Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU, 0 for none.")]
EncodedBatch = Annotated[int, typer.Option(help="Samples encoded at once.")]
Limit = Annotated[int | None, typer.Option(help="Only the first so many samples of each split.")]
EngineName = Annotated[str, typer.Option(help="What runs the job: local (processes) or ray (a cluster).")]
ClusterAddress = Annotated[
    str | None, typer.Option(help="Ray: HOST:PORT of a cluster, or local; default the one Ray finds, else local.")
]
TaskCpus = Annotated[float | None, typer.Option(help="Ray: CPUs for each shard; default 1.")]
TaskGpus = Annotated[float | None, typer.Option(help="Ray: GPUs for each shard, as 0.25; default 1 on a GPU, else 0.")]
Slice = Annotated[
    str | None, typer.Option(metavar="I/N", help="Only every N-th shard from the I-th: one of N jobs of an array.")
]
Finish = Annotated[bool, typer.Option("--finish", help="Complete the data set when all slices are done.")]
MaxBad = Annotated[
    str | None, typer.Option(metavar="SHARE", help="Fail when more samples are unusable, as 1%; default any.")
]
DropDuplicates = Annotated[
    bool, typer.Option("--drop-duplicates", help="Store only the first of samples with the same content.")
]
Extend = Annotated[
    bool, typer.Option("--extend", help="Add to the finished data set in --out what SOURCE has gained since.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done, and what it would take.")]
Restart = Annotated[bool, typer.Option("--restart", help="Discard what an earlier job left in --out.")]
AllowDrift = Annotated[
    bool, typer.Option("--allow-drift", help="Go on with a job that other versions or devices began.")
]
DeviceName = Annotated[str, typer.Option(help="auto, cpu, cuda (all GPUs of one kind) or, as cuda:1, one GPU.")]
WorkFolder = Annotated[
    Path | None, typer.Option(help="For an address: folder for what is unfinished; default in the cache.")
]
