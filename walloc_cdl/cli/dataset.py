"""`cdl prepare`, `inspect`, `verify` and `preview`: data sets of latents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from walloc_cdl.cli.codec import ContainerName, SourceName
from walloc_cdl.cli.console import (
    JsonPath,
    Seed,
    duration_text,
    interruptible,
    parse_share,
    progress,
    report,
    require_local,
    require_parent,
    say,
    size_text,
    write_json,
)
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from datasets_prep.config import PrepareConfig
    from datasets_prep.sources import Source
    from walloc_cdl.codec import Codec
    from walloc_cdl.latents import Manifest

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")]


def prepare(
    source: SourceName,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the data set to make, or address, as s3://….")],
    codec: Annotated[
        str | None, typer.Option("--codec", help="A name from `cdl codec list`, a folder, a .pth file, or hub:….")
    ] = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="SOURCE is a folder that `cdl export --archive` made.")
    ] = False,
    size: Annotated[
        int | None, typer.Option(help="Images: pixels a side, shorter side resized to it, center crop; default 256.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option(help="Images: lanczos, bicubic, bilinear or box; default lanczos.")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(help="Images: center, or pad (longer side resized, edges repeated); default center."),
    ] = None,
    icc: Annotated[
        str | None, typer.Option(help="Images: ignore embedded color profiles, or convert to srgb; default ignore.")
    ] = None,
    geometry: Annotated[
        str, typer.Option(help="fixed, or ragged: images and clips keep their own size, padded to the stride.")
    ] = "fixed",
    views: Annotated[
        str | None, typer.Option(help="Images: variants stored beside the evaluation crop, as flip,crops:4.")
    ] = None,
    segment: Annotated[float | None, typer.Option(help="Audio: seconds of a segment; default 5.")] = None,
    hop: Annotated[
        float | None, typer.Option(help="Audio: seconds from segment to segment; default the segment's length.")
    ] = None,
    normalization: Annotated[
        str | None, typer.Option(help="Audio: none, or clip (mean off, loudest sample to full scale); default none.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="A flat folder's labels: a text file of lines NAME LABEL.")
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Share of a source without splits to hold out as `test`, stratified.")
    ] = None,
    shard_samples: Annotated[
        int | None, typer.Option(help="Samples a shard; default 8,192 or 128 MiB of codes.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Decoding processes; default one for each CPU, 0 for none.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Samples encoded at once.")] = 32,
    limit: Annotated[int | None, typer.Option(help="Only the first so many samples of each split.")] = None,
    engine: Annotated[str, typer.Option(help="What runs the job: local (processes) or ray (a cluster).")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray: HOST:PORT of a cluster, or local; default the one Ray finds, else local.")
    ] = None,
    cpus_per_task: Annotated[float | None, typer.Option(help="Ray: CPUs for each shard; default 1.")] = None,
    gpus_per_task: Annotated[
        float | None, typer.Option(help="Ray: GPUs for each shard, as 0.25; default 1 on a GPU, else 0.")
    ] = None,
    shards: Annotated[
        str | None, typer.Option(metavar="I/N", help="Only every N-th shard from the I-th: one of N jobs of an array.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Complete the data set when all slices are done.")] = False,
    max_bad: Annotated[
        str | None, typer.Option(metavar="SHARE", help="Fail when more samples are unusable, as 1%; default any.")
    ] = None,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="Store only the first of samples with the same content.")
    ] = False,
    extend: Annotated[
        bool, typer.Option("--extend", help="Add to the finished data set in --out what SOURCE has gained since.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print what would be done, and what it would take.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard what an earlier job left in --out.")] = False,
    allow_drift: Annotated[
        bool, typer.Option("--allow-drift", help="Go on with a job that other versions or devices began.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    work: Annotated[
        Path | None, typer.Option(help="For an address: folder for what is unfinished; default in the cache.")
    ] = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Encode a data set once into stored latents.

    The same command again resumes what was interrupted.
    """
    from datasets_prep.config import PrepareConfig
    from datasets_prep.sources import open_source
    from datasets_prep.splits import holdout as hold_out
    from walloc_cdl.codec import load_codec

    if archive:
        require_local(Path(out))
        if extend:
            raise CallError("--extend does not go with --archive: archives give back the data set as it was")
        refused = {"--codec": codec, "--limit": limit, "--holdout": holdout}
        _restore(Path(source), Path(out), refused, json_path)
        return
    if codec is None:
        raise CallError("Missing option '--codec': name one from `cdl codec list`, or a codec's folder")
    model = load_codec(codec)
    config = PrepareConfig(
        size=size,
        geometry=geometry,
        views=views,
        shard_samples=shard_samples,
        workers=workers,
        batch=batch,
        limit=limit,
        engine=engine,
        address=address,
        cpus_per_task=cpus_per_task,
        gpus_per_task=gpus_per_task,
        shards=shards,
        finish=finish,
        max_bad=None if max_bad is None else parse_share(max_bad, "--max-bad"),
        drop_duplicates=drop_duplicates,
        restart=restart,
        extend=extend,
        allow_drift=allow_drift,
        device=device,
        resize=resize,
        crop=crop,
        icc=icc,
        segment_s=segment,
        hop_s=hop,
        normalization=normalization,
    )
    if size is not None and model.spec.kind == "image":
        model.latent_shape((model.spec.source_channels, size, size))  # refuse it before walking the source
    samples = open_source(source)
    if labels is not None:
        from datasets_prep.sources.label_files import LabeledSource

        samples = LabeledSource(samples, labels)
    if holdout is not None:
        samples = hold_out(samples, holdout, seed)
    if dry_run and extend:
        raise CallError("--dry-run with --extend; --extend says how many samples are new before it encodes them")
    if dry_run:
        _forecast(samples, model, config, json_path)
        return
    manifest = _encode(samples, model, out, config, work)
    if manifest is None:  # a slice
        return
    rows = {
        "data set": str(out),
        "codec": f"{model.name} ({model.spec.reduction():g} times fewer values)",
        "latents": _latents_text(manifest.latent_shape, manifest.views),
        **_contents(manifest),
    }
    report(rows, json_path, manifest.to_json())


def _forecast(samples: Source, model: Codec, config: PrepareConfig, json_path: Path | None) -> None:
    """`--dry-run`: the plan in figures."""
    from datasets_prep.forecast import forecast

    expected = forecast(samples, model, config)
    rows: dict[str, object] = {"source": f"{expected.source} ({expected.fingerprint[:16]})"}
    rows |= {split: f"{count:,} samples" for split, count in expected.num_samples.items()}
    if expected.num_strays:
        rows["strays"] = f"{expected.num_strays:,} files that are no samples"
    rows["latents"] = _latents_text(expected.latent_shape)
    rows["shards"] = f"{expected.num_shards:,}, {size_text(expected.shard_bytes)} in all"
    rows["time"] = f"about {duration_text(expected.time_s)} with {expected.workers} workers"
    rows["measured on"] = f"{expected.num_measured} samples, {expected.num_bad} of them unusable"
    report(rows, json_path, expected.to_json())


def _encode(samples: Source, model: Codec, out: str, config: PrepareConfig, work: Path | None) -> Manifest | None:
    """Run the job with its progress shown."""
    from datasets_prep.job import prepare as run_job
    from datasets_prep.progress import Progress
    from datasets_prep.remote_output import prepare_to
    from walloc_cdl.data import is_address

    if work is not None and not is_address(out):
        raise CallError(f"--work {work} is for an --out that is an address; a folder is its own work folder")

    with interruptible(), progress("prepare", "samples", lines=False) as update:

        def on_progress(state: Progress) -> None:
            if state.note:
                say(state.note)
            if state.finished is not None and not sys.stderr.isatty():
                entry = state.finished.entry
                bad = f", {state.finished.num_quarantined:,} unusable" if state.finished.num_quarantined else ""
                say(f"{entry.name}: {entry.num_samples:,} samples{bad}; {state.done:,} of {state.total:,} done")
            bad = f"{state.quarantined:,} unusable" if state.quarantined else ""
            update(state.done, state.total, num_bytes=state.source_bytes, details=[f"{state.workers} workers", bad])

        if is_address(out):
            return prepare_to(samples, model, out, config, work=work, progress=on_progress)
        return run_job(samples, model, out, config, progress=on_progress)


def _restore(source: Path, out: Path, refused: dict[str, object], json_path: Path | None) -> None:
    """`prepare --archive`: make the shards again that archives were made from."""
    from datasets_prep.import_archives import import_archives

    for option, value in refused.items():
        if value is not None:
            raise CallError(f"{option} {value} does not go with --archive: archives give back the data set as it was")
    with progress("prepare", "samples") as update:
        manifest = import_archives(source, out, on_samples=update)
    rows = {
        "data set": str(out),
        "latents": _latents_text(manifest.latent_shape, manifest.views),
        **_contents(manifest),
    }
    report(rows, json_path, manifest.to_json())


def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.", callback=require_local)],
    form: Annotated[
        str | None, typer.Option("--to", metavar="FORM", help="hf, parquet, webdataset or npy: for other programs.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="With --to: only this split.")] = None,
    archive: Annotated[bool, typer.Option("--archive", help="Write entropy-coded archives, one a sample.")] = False,
    container: ContainerName = None,
    json_path: JsonPath = None,
) -> None:
    """Write a data set in another form.

    The same command again resumes it. As archives it takes about a third of the space, and
    `cdl prepare OUT --archive` makes the same shards again.
    """
    if archive == (form is not None):
        raise CallError("give either --to hf, parquet, webdataset or npy, or --archive for entropy-coded archives")
    if archive:
        if split is not None:
            raise CallError(f"--split {split} does not go with --archive: archives give back the data set as it was")
        _export_archives(folder, out, container, json_path)
        return
    if container is not None:
        raise CallError(f"--container {container} does not go with --to {form}; it is for --archive")
    _export_form(folder, out, form or "", split, json_path)


def _export_form(folder: Path, out: Path, form: str, split: str | None, json_path: Path | None) -> None:
    """`export --to`."""
    from datasets_prep.exports import export_latents

    with interruptible(), progress("export", "samples") as update:
        description = export_latents(folder, out, form, splits=None if split is None else [split], on_samples=update)
    counts = description.about["num_samples"]
    num_bytes = sum(entry.num_bytes for entry in description.files.values())
    rows: dict[str, object] = {"export": str(out), "form": form}
    rows |= {name: f"{count:,} samples" for name, count in counts.items()}
    rows["files"] = f"{len(description.files):,}, {size_text(num_bytes)}; README.md says how to read them"
    payload = {"form": form, "num_samples": counts, "num_files": len(description.files), "num_bytes": num_bytes}
    report(rows, json_path, payload)


def _export_archives(folder: Path, out: Path, container: str | None, json_path: Path | None) -> None:
    """`export --archive`."""
    from datasets_prep.export_archives import export_archives

    with progress("export", "samples") as update:
        description = export_archives(folder, out, container=container, on_samples=update)
    shards = sum(entry.num_bytes for entry in description.manifest.shards)
    archives = sum(path.stat().st_size for split in description.manifest.splits for path in (out / split).rglob("*.*"))
    num = sum(summary.num_samples for summary in description.manifest.splits.values())
    payload = {"num_samples": num, "container": description.container, "shard_bytes": shards, "archive_bytes": archives}
    rows = {
        "archives": str(out),
        "samples": f"{num:,}",
        "container": description.container,
        "size": f"{size_text(archives)}, as shards {size_text(shards)}",
    }
    report(rows, json_path, payload)


def inspect(folder: Folder, json_path: JsonPath = None) -> None:
    """Print what a data set holds."""
    from walloc_cdl.latents import channel_statistics, load_manifest

    manifest = load_manifest(folder)
    spec = manifest.spec
    low, high = spec.byte_range
    rows: dict[str, object] = {
        "data set": str(folder),
        "codec id": spec.codec_id[:16],
        "latents": _latents_text(manifest.latent_shape, manifest.views)
        + f", {spec.bits} bits, companding {spec.companding}",
        "source": f"{spec.source_channels} channels, stride {spec.stride}, {spec.reduction():g} times fewer values"
        + (f", {spec.sample_rate} Hz" if spec.sample_rate else ""),
        "labels": manifest.label_kind,
        "classes": ", ".join(manifest.class_names) if manifest.class_names else "none",
    }
    if manifest.target_names:
        rows["targets"] = ", ".join(manifest.target_names)
    rows |= _contents(manifest)
    split = _split_names(manifest)[0]
    histogram = manifest.histograms[split]
    if histogram.any():
        statistics = channel_statistics(histogram, spec)
        saturated = histogram[:, [low, high]].sum() / histogram.sum()
        rows[f"channel std ({split})"] = " ".join(f"{value:.3g}" for value in statistics.std)
        rows[f"codes at the limits ({split})"] = f"{saturated:.2%}"
    report(rows, json_path, manifest.to_json())


def _latents_text(shape: tuple[int | None, ...], views: list[str] | None = None) -> str:
    """As 12x32x32, of ragged geometry 12x*x*, and the views."""
    text = "x".join("*" if side is None else str(side) for side in shape)
    return f"{text}, {len(views)} views ({', '.join(views)})" if views else text


def _contents(manifest: Manifest) -> dict[str, object]:
    """Splits, quarantine and shards as lines of a report."""
    rows: dict[str, object] = {}
    names = manifest.class_names or []
    for split in _split_names(manifest):
        summary = manifest.splits[split]
        counts = [f"{name} {count:,}" for name, count in zip(names, summary.class_counts or [], strict=False)]
        rows[split] = ": ".join(filter(None, [f"{summary.num_samples:,} samples", ", ".join(counts)]))
    ledger = manifest.ledger
    if quarantined := ledger.get("num_quarantined", 0):
        rows["quarantined"] = f"{quarantined:,} unusable samples, with the reasons in ledger.parquet"
    if copies := ledger.get("num_duplicates", 0):
        left_out = ledger.get("reasons", {}).get("duplicate", 0)
        text = f"{copies:,} samples with the content of an earlier one" + (", left out" if left_out else "")
        if across := ledger.get("num_duplicates_across_splits", 0):
            text += f"; WARNING: {across:,} in another split than it"
        if other := ledger.get("num_duplicates_of_other_label", 0):
            text += f"; WARNING: {other:,} with another label"
        rows["duplicates"] = text
    rows["shards"] = f"{len(manifest.shards)}, {size_text(sum(shard.num_bytes for shard in manifest.shards))}"
    return rows


def _split_names(manifest: Manifest) -> list[str]:
    """The splits, `train` first: a manifest keeps them in the order of their names."""
    return sorted(manifest.splits, key=lambda split: (split != "train", split == "test"))


def verify(
    folder: Folder,
    full: Annotated[bool, typer.Option("--full", help="Read every byte: hashes, checksums, histograms.")] = False,
    json_path: JsonPath = None,
) -> None:
    """Check that a data set is undamaged; exit code 1 if not."""
    from walloc_cdl.latents import verify as check

    with progress("verify", "files") as update:
        result = check(folder, full=full, progress=update)
    for problem in result.problems:
        print(problem)
    extent = "every byte" if full else "manifest, sizes, copies, labels and keys; --full reads every byte"
    state = "damaged" if result.problems else "whole"
    print(f"{folder}: {state} ({result.num_files} files, {size_text(result.num_bytes)}; checked {extent})")
    write_json(json_path, {"problems": result.problems, "num_files": result.num_files, "num_bytes": result.num_bytes})
    if result.problems:
        raise typer.Exit(1)


def preview(
    folder: Folder,
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=require_parent)] = Path("preview.png"),
    source: Annotated[
        str | None, typer.Option(help="The source, to show its images beside the decoded latents.")
    ] = None,
    num: Annotated[int, typer.Option(help="How many samples.", min=1)] = 12,
    split: Annotated[str | None, typer.Option(help="Split to show; by default the first.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw source images beside their decoded latents."""
    from PIL import Image

    from datasets_prep.preview import contact_sheet
    from datasets_prep.sources import open_source

    if Image.registered_extensions().get(out.suffix.lower()) not in Image.SAVE:
        raise CallError(f"{out} does not say what kind of picture to write; end its name in .png or .jpg")
    sheet = contact_sheet(folder, source=open_source(source) if source else None, num=num, split=split, seed=seed)
    sheet.save(out)
    print(f"{out}: {sheet.width}x{sheet.height}")


COMMANDS = {"prepare": prepare, "inspect": inspect, "verify": verify, "preview": preview, "export": export}
