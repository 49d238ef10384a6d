"""`cdl train`: trains a classifier on a data set of latents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classifiers.cli.learning import DataSet, metric_rows, output_names, splits_with_labels
from classifiers.cli.options import Augment, Pretrained, pretrained_weights
from classifiers.models.settings import ModelSettings
from classifiers.runs.train_config import TrainConfig
from walloc_cdl.cli.console import progress, report, say
from walloc_cdl.cli.options import JsonPath, LocalFolder, Threads
from walloc_cdl.cli.setting_options import given_settings, setting_parameters, with_parameters
from walloc_cdl.errors import CallError
from walloc_cdl.machine import is_main_process, wait_without_spinning_if_busy

if TYPE_CHECKING:
    from classifiers import TrainProgress
    from classifiers.runs.recipes import Recipe

RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", metavar="FILE", help="TOML file of these settings; options replace them.")
]
Minutes = Annotated[
    float, typer.Option("--checkpoint-minutes", help="Minutes from checkpoint to checkpoint within an epoch.")
]
Updates = Annotated[
    int | None, typer.Option("--recovery-interval", help="Updates from checkpoint to checkpoint within an epoch.")
]
Tracker = Annotated[
    list[str] | None, typer.Option("--tracker", help="Log to tensorboard, wandb or another tracker; repeatable.")
]


@with_parameters(
    [*setting_parameters(ModelSettings, optional=True), *setting_parameters(TrainConfig, optional=True)],
    after="recipe",
)
def train(
    folder: DataSet,
    out: LocalFolder,
    recipe: RecipeFile = None,
    augment: Augment = None,
    freeze: Annotated[bool, typer.Option("--freeze", help="As --freeze-until head.")] = False,
    pretrained: Pretrained = None,
    validation: Annotated[
        str | None, typer.Option(help="Split to evaluate on; default validation or test.", show_default=False)
    ] = None,
    tracker: Tracker = None,
    minutes: Minutes = 10.0,
    updates: Updates = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default the GPU if there is one.")] = None,
    threads: Threads = None,
    restart: Annotated[bool, typer.Option("--restart", help="Discard an earlier run in --out.")] = False,
    json_path: JsonPath = None,
    **settings: Any,
) -> None:
    """Train a timm classifier on stored latents.

    Running the same command again resumes an interrupted run. Several processes, started by torchrun or accelerate
    launch, share each batch.
    """
    wait_without_spinning_if_busy()
    import classifiers
    from classifiers.runs.recipes import Recipe
    from classifiers.runs.train import SaveInterval
    from walloc_cdl.data import open_latents

    given = {**given_settings(ModelSettings, settings), **given_settings(TrainConfig, settings)}
    further: dict[str, Any] = {"augment": augment, "pretrained": pretrained, "validation": validation}
    if pretrained is not None:
        further["pretrained"] = pretrained or True
    given |= {name: value for name, value in further.items() if value is not None}
    if freeze:
        given["freeze_until"] = _head_only(given.get("freeze_until"))
    chosen = Recipe.build(recipe, given)
    name, num_bytes = chosen.model.name, chosen.model.bytes
    train_set = open_latents(folder, "train", bytes=num_bytes)
    split = chosen.validation or next(iter(splits_with_labels(train_set.manifest.splits)), None)
    validation_set = open_latents(folder, split, bytes=num_bytes) if split else None
    config = chosen.config(train_set.spec.kind)
    _require_selection_apart(config, chosen, split)
    if config.freeze_until is not None and not chosen.pretrained:
        raise CallError(
            f"layers before {config.freeze_until} are frozen, but without --pretrained their weights are random; give "
            "pretrained weights, or train all layers"
        )
    weights = pretrained_weights("" if chosen.pretrained is True else chosen.pretrained or None)
    trained = kept = False
    with progress("train", "samples") as update:

        def on_progress(state: TrainProgress) -> None:
            nonlocal trained
            if not trained:
                say(f"{state.threads} of torch's threads for this run")
                if config.freeze_until is not None and not kept:
                    say("frozen layers compute in every step; --augment none or --augment-variants 4 keeps features")
            trained = True
            update(state.samples_done, state.samples_total, details=_details(state))

        def on_features(done: int, total: int) -> None:
            nonlocal kept
            if not kept:
                say(f"features of the frozen layers are computed once, of {total:,} samples")
            kept = True

        record = classifiers.train(
            lambda: classifiers.create_model(
                name,
                train_set,
                stem=chosen.model.stem,
                grid=chosen.model.grid,
                crop=chosen.model.crop_sides,
                crop_pct=chosen.model.crop_pct,
                budgets=chosen.model.budget_sizes,
                pretrained=weights,
                drop_rate=chosen.model.drop,
                drop_path_rate=chosen.model.drop_path,
            ),
            train_set,
            validation_set,
            config,
            out,
            resume=not restart,
            device=device,
            threads=threads,
            progress=on_progress,
            on_features=on_features,
            save=SaveInterval(minutes, updates),
            trackers=tracker or (),
            recipe=chosen.to_text(config),
        )
    if not is_main_process():
        return
    if not trained:
        say(f"{out} is trained already; nothing to do")
    rows: dict[str, object] = {
        "run": str(out),
        "model": f"{name}, stem {chosen.model.stem}",
        "epochs": _epochs_text(record, config.epochs),
        "threads": record.environment["threads"],
        "training images/s": record.images_per_s,
        "loss, last epoch": record.losses[-1],
    }
    if record.metrics:
        rows |= metric_rows(record.metrics, split or "", output_names(train_set), out / "classes.csv")
    report(rows, json_path, record.to_json())


def _details(state: TrainProgress) -> list[str]:
    """Return the texts beside a run's progress."""
    loss = state.loss if state.running_loss is None else state.running_loss
    metric = next(iter((state.metrics or {}).items()), None)
    return [
        f"epoch {state.epoch + 1} of {state.num_epochs}",
        "" if loss is None else f"loss {loss:.4g}",
        "" if metric is None else f"{metric[0]} {metric[1]:.4g}",
    ]


def _epochs_text(record: Any, num_epochs: int) -> str:
    """Return how many epochs were trained, and which one was kept."""
    trained = len(record.history)
    stopped = f" of {num_epochs}, then none was better" if trained < num_epochs else ""
    return f"{trained}{stopped}" + (f"; kept the one after epoch {record.epoch}" if record.epoch < trained else "")


def _head_only(until: object) -> str:
    """Return the value of `--freeze-until` that `--freeze` means; raise `CallError` for another one beside it."""
    if until not in (None, "head"):
        raise CallError(f"--freeze trains the last layer only, --freeze-until {until} more; omit one of them")
    return "head"


def _require_selection_apart(config: TrainConfig, chosen: Recipe, split: str | None) -> None:
    """Raise `CallError` if an epoch would be chosen on the split `test`, and nobody said so."""
    if split == "test" and chosen.validation is None and (config.patience is not None or config.keep == "best"):
        raise CallError(
            "the best epoch would be chosen on the split test, so that its figures would be too good; split off a "
            "validation split (cdl split), or give --validation test"
        )
