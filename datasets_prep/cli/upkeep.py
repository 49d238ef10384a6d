"""`cdl repair`, `drop`, `merge` and `split`: maintenance of finished data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets_prep.cli.samples import open_samples
from walloc_cdl.cli.console import progress, report, say, show
from walloc_cdl.cli.contents import latents_text, rate_text
from walloc_cdl.cli.options import Folder, JsonPath, LocalFolder, Seed, out_option, parse_share
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from walloc_cdl.latents import Manifest


def repair(
    folder: Folder,
    source: Annotated[
        str | None, typer.Option(help="The source of the data set, to encode damaged shards again.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="As given to `cdl prepare`.")] = None,
    holdout: Annotated[float | None, typer.Option(help="As given to `cdl prepare`.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU.", min=0)] = None,
    finish_edit: Annotated[
        bool,
        typer.Option("--finish-edit", help="Complete an interrupted edit that another user or machine began."),
    ] = False,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Repair a damaged data set.

    An interrupted edit is completed first. Shards are encoded again from the source, all other files are restored
    from their copies. Quarantined samples are tried again if there is a source. The exit code is 1 if something stays
    damaged.
    """
    from datasets_prep.upkeep.encode_again import RepairConfig
    from datasets_prep.upkeep.repair import repair as run

    config = None
    if source is not None:
        config = RepairConfig(open_samples(source, labels, holdout, seed), workers)
    with progress("repair", "shards checked") as update:
        result = run(folder, config, finish_edit=finish_edit, on_shard=update)
    for problem in result.problems:
        show(problem)
    rows: dict[str, object] = {"data set": str(folder)}
    if result.edit_ended:
        rows["edit"] = "an interrupted edit was completed"
    rows["from copies"] = ", ".join(result.restored) or "nothing"
    rows["from the source"] = ", ".join(result.encoded) or "nothing"
    tried = result.tried_again
    if tried.num_tried or tried.hindrance:
        added = f"{tried.num_added:,} of {tried.num_tried:,} can be used now, and were added"
        rows["quarantined"] = tried.hindrance or added
    rows["state"] = f"damaged ({len(result.problems)} problems)" if result.problems else "intact"
    payload = {
        "edit_ended": result.edit_ended,
        "restored": result.restored,
        "encoded": result.encoded,
        "num_tried_again": tried.num_tried,
        "num_added": tried.num_added,
        "problems": result.problems,
    }
    report(rows, json_path, payload)
    if result.problems:
        raise typer.Exit(1)


def drop(
    folder: Folder,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="Keys of samples to remove.")] = None,
    keys_path: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="Text file of further keys, one per line.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Drop only from this split; for keys that several splits have.")
    ] = None,
    json_path: JsonPath = None,
) -> None:
    """Remove samples from a data set for good.

    The ledger keeps a hash of each key and nothing else. Running the same command again resumes an interrupted one.
    """
    from datasets_prep.upkeep.drop import drop as run

    all_keys = [*(keys or []), *([] if keys_path is None else _read_keys(keys_path))]
    with progress("drop", "shards") as update:
        result = run(folder, all_keys, split=split, on_shard=update)
    rows: dict[str, object] = {"data set": str(folder), "dropped": f"{result.num_dropped:,} samples"}
    if result.num_already:
        rows["dropped before"] = f"{result.num_already:,}"
    if result.num_copies:
        rows["WARNING"] = f"{result.num_copies:,} samples with the content of a dropped one remain under other keys"
    rows |= {name: f"{summary.num_samples:,} samples" for name, summary in result.manifest.splits.items()}
    payload = {
        "num_dropped": result.num_dropped,
        "num_already": result.num_already,
        "num_copies": result.num_copies,
        "num_samples": {name: summary.num_samples for name, summary in result.manifest.splits.items()},
    }
    report(rows, json_path, payload)


def _read_keys(path: Path) -> list[str]:
    if not path.is_file():
        raise CallError(f"--keys {path}: no such file; give single keys after DIR, without --keys")
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    return [line for line in (line.removesuffix("\r") for line in text.split("\n")) if line]


def merge(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folders of the data sets.")],
    out: LocalFolder,
    prefix: Annotated[
        bool, typer.Option("--prefix", help="Put each folder's name and a slash before its keys.")
    ] = False,
    json_path: JsonPath = None,
) -> None:
    """Merge data sets with the same latents into one.

    Its classes are the union of theirs. Running the same command again resumes an interrupted merge.
    """
    from datasets_prep.upkeep.merge import merge as run

    with progress("merge", "shards") as update:
        manifest = run(folders, out, prefix=prefix, on_shard=update)
    _report_splits(out, manifest, json_path)


def cut(
    folder: Folder,
    out: LocalFolder,
    num_bytes: Annotated[
        int | None, typer.Option("--bytes", help="Bytes of a stored sample, rounded down to whole bit planes.", min=1)
    ] = None,
    bpp: Annotated[float | None, typer.Option(help="The same in bits a pixel, or a time step of audio.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Make a smaller data set of the first bit planes of every sample.

    Its rows are those of the data set that `cdl prepare` makes with this budget. Running the same command again resumes
    an interrupted one.
    """
    from datasets_prep.upkeep.cut import cut as run

    with progress("cut", "shards") as update:
        manifest = run(folder, out, num_bytes=num_bytes, bpp=bpp, on_shard=update)
    say(f"{out}: {latents_text(manifest.latent_shape, manifest.views)}, {rate_text(manifest.spec)}")
    _report_splits(out, manifest, json_path)


def split(
    folder: Folder,
    into: Annotated[
        str | None,
        typer.Option(metavar="NAME=SHARE,…", help="Names and fractions of the new splits: train=0.8,test=0.2."),
    ] = None,
    of: Annotated[str | None, typer.Option("--split", help="The split to divide; by default the only one.")] = None,
    by: Annotated[
        str,
        typer.Option(help="label: stratify by class; a column of the ledger: samples with equal values stay together."),
    ] = "label",
    seed: Seed = 0,
    only: Annotated[str | None, typer.Option(help="Write a data set of this split alone to --out.")] = None,
    out: Annotated[Path | None, out_option("Folder of the data set that --only writes.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Divide a split into several, or copy one to a new data set.

    --into works in place, --only writes a new folder. Running the same command again resumes an interrupted one.
    """
    from datasets_prep.upkeep.split import SplitConfig, split_in_place, take_split

    if (into is None) == (only is None):
        raise CallError("give either --into, such as train=0.8,test=0.2, or --only SPLIT with --out DIR")
    if (only is None) != (out is None):
        raise CallError("--only and --out belong together: --only writes a new folder, --into works in place")
    with progress("split", "shards") as update:
        if only is not None and out is not None:
            manifest = take_split(folder, only, out, on_shard=update)
        else:
            manifest = split_in_place(folder, SplitConfig(_parse_fractions(into or ""), of, by, seed), on_shard=update)
    _report_splits(out or folder, manifest, json_path)


def _parse_fractions(text: str) -> dict[str, float]:
    """Parse fractions such as `train=0.8,test=0.2`."""
    fractions: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.partition("=")
        if not equals or name.strip() in fractions:
            raise CallError(f"--into {text!r}; expected different names with fractions, such as train=0.8,test=0.2")
        fractions[name.strip()] = parse_share(share, "--into")
    return fractions


def _report_splits(folder: Path, manifest: Manifest, json_path: Path | None) -> None:
    rows: dict[str, object] = {"data set": str(folder)}
    rows |= {name: f"{summary.num_samples:,} samples" for name, summary in manifest.splits.items()}
    if copies := manifest.ledger.get("num_duplicates_across_splits", 0):
        rows["WARNING"] = f"{copies:,} samples have the same content as one in another split"
    report(rows, json_path, manifest.to_json())
