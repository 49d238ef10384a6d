"""`cdl repair`, `drop`, `merge` and `split`: upkeep of finished data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import JsonPath, Seed, interruptible, progress, report
from walloc_cdl.cli.dataset import Folder
from walloc_cdl.errors import CallError


def repair(
    folder: Folder,
    source: Annotated[
        str | None, typer.Option(help="What the data set was made from, to encode damaged shards again.")
    ] = None,
    holdout: Annotated[float | None, typer.Option(help="As it was given to `cdl prepare`.")] = None,
    limit: Annotated[int | None, typer.Option(help="As it was given to `cdl prepare`.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU.", min=0)] = None,
    seed: Seed = 0,
    json_path: JsonPath = None,
) -> None:
    """Make a damaged data set what it was; ends an interrupted edit first.

    Files but shards come from their copies, shards from the source. Exit code 1 if something stays damaged.
    """
    from datasets_prep.sources import open_source
    from datasets_prep.splits import holdout as hold_out
    from datasets_prep.upkeep.encode_again import RepairConfig
    from datasets_prep.upkeep.repair import repair as run

    config = None
    if source is not None:
        samples = open_source(source)
        config = RepairConfig(samples if holdout is None else hold_out(samples, holdout, seed), limit, workers)
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
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", help="Keys of samples to remove.")] = None,
    keys_path: Annotated[
        Path | None, typer.Option("--keys", metavar="FILE", help="Text file of further keys, one a line.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only in this split; for keys that several splits have.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Remove samples from a data set, as somebody's deletion request asks.

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


COMMANDS = {"repair": repair, "drop": drop}
