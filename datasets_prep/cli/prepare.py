"""`cdl prepare`: encodes sources into data sets of latents."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from datasets_prep.cli.choose_codec import OWN_CODEC, choose_codec
from datasets_prep.cli.options import SourceName
from datasets_prep.cli.prepare_options import (
    CodecName,
    DryRun,
    FromArchives,
    OutAddress,
    WorkFolder,
    prepare_config,
)
from datasets_prep.cli.samples import Holdout, LabelFile, open_samples
from datasets_prep.job.config import PrepareConfig
from walloc_cdl.cli.console import duration_text, progress, report, say, seconds_since_start, size_text
from walloc_cdl.cli.contents import contents, latents_text, rate_text, strays_text
from walloc_cdl.cli.options import JsonPath, require_local
from walloc_cdl.cli.setting_options import setting_parameters, with_parameters
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from datasets_prep.sources import Source
    from datasets_prep.sources.core.streaming_source import StreamingSource
    from walloc_cdl.codec import Codec
    from walloc_cdl.latents import Manifest


WITH_ARCHIVES = ("source", "out", "archive", "json_path")
"""Parameters of `cdl prepare` that apply with --archive; all others are refused with it."""

NOT_FOR_STREAMS = {
    "--labels": "its file names keys, which a stream does not list; omit streaming=1",
    "--holdout": "the share is drawn from all samples of a class, which a stream does not know; `cdl split` the data "
    "set that is made of it",
    OWN_CODEC: "a fit reads the train split before it is encoded; `cdl codec fit` one to files, or omit streaming=1",
    "--dry-run": "the number of samples of a stream is known at its end only; omit streaming=1",
}
"""Options, and a codec, that do not apply to a stream, with the reason and the remedy."""


@with_parameters(
    setting_parameters(PrepareConfig),
    after="archive",
    placed={"labels": "normalization", "holdout": "labels", "dry_run": "extend"},
)
def prepare(
    context: typer.Context,
    source: SourceName,
    out: OutAddress,
    codec: CodecName = None,
    archive: FromArchives = False,
    labels: LabelFile = None,
    holdout: Holdout = None,
    dry_run: DryRun = False,
    work: WorkFolder = None,
    json_path: JsonPath = None,
    **settings: Any,
) -> None:
    """Encode a data set once into stored latents.

    The same command resumes an interrupted job.
    """
    from walloc_cdl.addresses import local_path

    if archive:
        _require_alone(context)
        folder = local_path(out)
        require_local(folder)
        _restore(Path(source), folder, json_path)
        return
    config = prepare_config(settings)
    if codec is None and config.bytes is None and config.bpp is None:
        raise CallError(
            "Missing option '--codec': name one from `cdl codec list`, or a codec's folder; or give --bytes or --bpp, "
            "for a shipped one"
        )
    with _workers_ahead(config, dry_run=dry_run):
        _prepare(source, out, codec, config, labels, holdout, dry_run, work, json_path)


def _prepare(
    source: str,
    out: str,
    codec: str | None,
    config: PrepareConfig,
    labels: Path | None,
    holdout: float | None,
    dry_run: bool,
    work: Path | None,
    json_path: Path | None,
) -> None:
    from datasets_prep.prepare_remote import require_writable
    from datasets_prep.sources import names_stream
    from walloc_cdl.addresses import is_address
    from walloc_cdl.codec import load_codec

    named = None if codec in (None, OWN_CODEC) else load_codec(codec)
    if named is not None and config.size is not None and named.spec.kind == "image":
        # raises for a size that the codec cannot encode, before the source is listed
        named.latent_shape((named.spec.source_channels, config.size, config.size))
    if is_address(out):
        require_writable(out)
    if names_stream(source):
        if codec == OWN_CODEC:
            raise CallError(f"--codec {OWN_CODEC} with the stream {source}: {NOT_FOR_STREAMS[OWN_CODEC]}")
        samples = _open_stream(source, {"--labels": labels, "--holdout": holdout, "--dry-run": dry_run or None})
    else:
        samples = open_samples(source, labels, holdout, config.seed)
    model = named or choose_codec(samples, codec, out, config, work, dry_run=dry_run)
    if dry_run:
        _forecast(samples, model, out, config, json_path)
        return
    manifest = _encode(samples, model, out, config, work)
    if manifest is None:  # a slice
        return
    rows = {
        "data set": str(out),
        "codec": f"{model.name} ({rate_text(manifest.spec)})",
        "latents": latents_text(manifest.latent_shape, manifest.views),
        **contents(manifest),
    }
    report(rows, json_path, manifest.to_json())


def _workers_ahead(config: PrepareConfig, *, dry_run: bool) -> AbstractContextManager[None]:
    """Start the workers that the job will probably need, while torch is imported; a dry run measures their start."""
    from datasets_prep.decode.pool import workers_ahead
    from datasets_prep.job.config import MAX_SAMPLES_WITHOUT_WORKERS, choose_workers

    if dry_run or config.finish or config.engine != "local" or "torch" in sys.modules:
        return nullcontext()
    return workers_ahead(choose_workers(config, config.limit or MAX_SAMPLES_WITHOUT_WORKERS + 1))


def _open_stream(text: str, refused: Mapping[str, object]) -> StreamingSource:
    """Open the stream that `text` names; raises `CallError` if options in `refused` are given."""
    from datasets_prep.sources import open_stream

    for option, value in refused.items():
        if value is not None:
            raise CallError(f"{option} with the stream {text}: {NOT_FOR_STREAMS[option]}")
    return open_stream(text)


def _forecast(samples: Source, model: Codec, out: str, config: PrepareConfig, json_path: Path | None) -> None:
    """Report the forecast of a job (`--dry-run`)."""
    from datasets_prep.forecast import forecast, forecast_extension

    start_s = seconds_since_start()  # this program has imported what the job needs, and listed the source
    if config.extend:
        expected, notes = forecast_extension(samples, model, out, config, start_s=start_s)
        for note in notes:
            say(note)
    else:
        expected = forecast(samples, model, config, start_s=start_s)
        for note in expected.notes:
            say(note)
    rows: dict[str, object] = {"source": f"{expected.source} ({expected.fingerprint[:16]})"}
    rows |= {split: f"{count:,} samples" for split, count in expected.num_samples.items()}
    if expected.num_strays:
        rows["strays"] = strays_text(expected.num_strays)
    rows["latents"] = latents_text(expected.latent_shape)
    rows["shards"] = f"{expected.num_shards:,}, {size_text(expected.shard_bytes)} in all"
    rows["time"] = f"about {duration_text(expected.time_s)} with {expected.workers} workers on this machine"
    rows["measured on"] = f"{expected.num_measured} samples, {expected.num_bad} of them unusable"
    report(rows, json_path, expected.to_json())


def _encode(
    samples: Source | StreamingSource, model: Codec, out: str, config: PrepareConfig, work: Path | None
) -> Manifest | None:
    """Run the job and show its progress."""
    from datasets_prep.job.progress import Progress
    from datasets_prep.prepare_local import prepare as run_job
    from datasets_prep.prepare_remote import prepare_to
    from walloc_cdl.addresses import is_address

    if work is not None and not is_address(out):
        raise CallError(
            f"--work {work} needs an --out that is an address; omit it, since a folder needs no work folder"
        )

    with progress("prepare", "samples", lines=False) as update:

        def on_progress(state: Progress) -> None:
            if state.note:
                say(state.note)
            if state.finished is not None and not sys.stderr.isatty():
                entry = state.finished.entry
                bad = f", {state.finished.num_quarantined:,} unusable" if state.finished.num_quarantined else ""
                of_all = "" if state.total is None else f" of {state.total:,}"
                say(f"{entry.name}: {entry.num_samples:,} samples{bad}; {state.done:,}{of_all} done")
            bad = f"{state.quarantined:,} unusable" if state.quarantined else ""
            update(state.done, state.total, num_bytes=state.source_bytes, details=[state.worker_status, bad])

        if is_address(out):
            return prepare_to(samples, model, out, config, work=work, progress=on_progress)
        return run_job(samples, model, out, config, progress=on_progress)


def _require_alone(context: typer.Context) -> None:
    """Raise `CallError` for options that differ from their defaults and do not apply with --archive."""
    defaults, given = inspect.signature(prepare).parameters, []
    for parameter in context.command.params:
        value = context.params.get(parameter.name)
        if parameter.name not in WITH_ARCHIVES and value != defaults[parameter.name].default:
            given.append(parameter.opts[0] if value is True else f"{parameter.opts[0]} {value}")
    if given:
        raise CallError(
            f"--archive restores the data set as it was, and does not accept {', '.join(given)}; omit one of them"
        )


def _restore(source: Path, out: Path, json_path: Path | None) -> None:
    """Restore the shards from which archives were made (`prepare --archive`)."""
    from datasets_prep.archives.restore import import_archives

    with progress("prepare", "samples") as update:
        manifest = import_archives(source, out, on_samples=update)
    rows = {
        "data set": str(out),
        "latents": latents_text(manifest.latent_shape, manifest.views),
        **contents(manifest),
    }
    report(rows, json_path, manifest.to_json())
