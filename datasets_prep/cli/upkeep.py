"""`cdl repair`, `drop`, `merge` and `split`: upkeep of finished data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from datasets_prep.cli.samples import open_samples
from walloc_cdl.cli.console import interruptible, progress, report
from walloc_cdl.cli.options import Folder, JsonPath, LocalFolder, Seed, out_option, parse_share
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from walloc_cdl.latents import Manifest


def repair(
    folder: Folder,
    source: Annotated[
        str | None, typer.Option(help="What the data set was made from, to encode damaged shards again.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="As it was given to `cdl prepare`.")] = None,
    holdout: Annotated[float | None, typer.Option(help="As it was given to `cdl prepare`.")] = None,
    limit: Annotated[int | None, typer.Option(help="As it was given to `cdl prepare`.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU.", min=0)] = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Make a damaged data set what it was.

    An interrupted edit is ended first. Files but shards come from their copies, shards from the source. Exit code 1
    if something stays damaged.
    """
    from datasets_prep.upkeep.encode_again import RepairConfig
    from datasets_prep.upkeep.repair import repair as run

    config = None
    if source is not None:
        config = RepairConfig(open_samples(source, labels, holdout, seed), limit, workers)
    with interruptible(), progress("repair", "shards checked") as update:
        result = run(folder, config, on_shard=update)
    for problem in result.problems:
        print(problem)
    rows: dict[str, object] = {"data set": str(folder)}
    if result.edit_ended:
        rows["edit"] = "an interrupted one was carried to its end"
    rows["from copies"] = ", ".join(result.restored) or "nothing"
    rows["from the source"] = ", ".join(result.encoded) or "nothing"
    rows["state"] = f"damaged ({len(result.problems)} problems)" if result.problems else "whole"
    payload = {
        "edit_ended": result.edit_ended,
        "restored": result.restored,
        "encoded": result.encoded,
        "problems": result.problems,
    }
    report(rows, json_path, payload)
    if result.problems:
        raise typer.Exit(1)


def drop(
    folder: Folder,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY", help="Keys of samples to remove.")] = None,
    keys_path: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="Text file of further keys, one a line.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only in this split; for keys that several splits have.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Remove samples from a data set for good.

    The ledger keeps a hash of each key, and nothing else. The same command again ends what was interrupted.
    """
    from datasets_prep.upkeep.drop import drop as run

    wanted = [*(keys or []), *([] if keys_path is None else _lines(keys_path))]
    with interruptible(), progress("drop", "shards") as update:
        result = run(folder, wanted, split=split, on_shard=update)
    rows: dict[str, object] = {"data set": str(folder), "dropped": f"{result.num_dropped:,} samples"}
    if result.num_already:
        rows["dropped before"] = f"{result.num_already:,}"
    if result.num_copies:
        rows["WARNING"] = f"{result.num_copies:,} samples stay that have the content of a dropped one, under other keys"
    rows |= {name: f"{summary.num_samples:,} samples" for name, summary in result.manifest.splits.items()}
    payload = {
        "num_dropped": result.num_dropped,
        "num_already": result.num_already,
        "num_copies": result.num_copies,
        "num_samples": {name: summary.num_samples for name, summary in result.manifest.splits.items()},
    }
    report(rows, json_path, payload)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise CallError(f"--keys {path}: no such file; single keys stand right after DIR, without --keys")
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
    """Make one data set of several of the same latents.

    Class names are united. The same command again resumes what was interrupted.
    """
    from datasets_prep.upkeep.merge import merge as run

    with interruptible(), progress("merge", "shards") as update:
        manifest = run(folders, out, prefix=prefix, on_shard=update)
    _report_splits(out, manifest, json_path)


def split(
    folder: Folder,
    into: Annotated[
        str | None, typer.Option(metavar="NAME=SHARE,…", help="Deal the samples out, as train=0.8,test=0.2.")
    ] = None,
    of: Annotated[str | None, typer.Option("--split", help="The split to deal out; by default the only one.")] = None,
    by: Annotated[
        str, typer.Option(help="label: stratify by class; a column of the ledger: equal values stay together.")
    ] = "label",
    seed: Seed = 0,
    only: Annotated[str | None, typer.Option(help="Make a data set of this split alone, in --out.")] = None,
    out: Annotated[Path | None, out_option("Folder of the data set to make with --only.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Deal a split out to several, or take one as a data set.

    With --into in place, with --only to a new folder. The same command again ends what was interrupted.
    """
    from datasets_prep.upkeep.split import SplitConfig, split_in_place, take_split

    if (into is None) == (only is None):
        raise CallError("say what to do: either --into train=0.8,test=0.2, or --only SPLIT with --out DIR")
    if (only is None) != (out is None):
        raise CallError("--only and --out go together: a split is taken to a new folder, --into works in place")
    with interruptible(), progress("split", "shards") as update:
        if only is not None and out is not None:
            manifest = take_split(folder, only, out, on_shard=update)
        else:
            manifest = split_in_place(folder, SplitConfig(_shares(into or ""), of, by, seed), on_shard=update)
    _report_splits(out or folder, manifest, json_path)


def _shares(text: str) -> dict[str, float]:
    """The shares in `train=0.8,test=0.2`."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.partition("=")
        if not equals or name.strip() in shares:
            raise CallError(f"--into {text!r}; expected different names with shares, as train=0.8,test=0.2")
        shares[name.strip()] = parse_share(share, "--into")
    return shares


def _report_splits(folder: Path, manifest: Manifest, json_path: Path | None) -> None:
    rows: dict[str, object] = {"data set": str(folder)}
    rows |= {name: f"{summary.num_samples:,} samples" for name, summary in manifest.splits.items()}
    if copies := manifest.ledger.get("num_duplicates_across_splits", 0):
        rows["WARNING"] = f"{copies:,} samples have the content of one in another split"
    report(rows, json_path, manifest.to_json())
