"""`export_run`: writes the classifier of a run as ONNX, or as an `ExportedProgram` of `torch.export`."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifiers.export.codes_graph import CodesToInput, InputToLogits, RowsToCodes
from classifiers.export.pixels_graph import pixels_to_codes
from classifiers.models.classifier import LatentClassifier
from classifiers.prediction.encode_files import FileEncoder
from classifiers.runs.load import load_classifier
from walloc_cdl.errors import CallError, JobError, one_line, unknown_name
from walloc_cdl.files import write_atomic
from walloc_cdl.planes.rows import row_bytes

FORMATS = {"onnx": ".onnx", "torch": ".pt2"}
"""The suffix of each format."""
ORIGINS = ("codes", "rows", "pixels")
DEFAULT_OPSET = 18
OPSETS = range(18, 24)
"""Versions of ONNX's operators that torch's exporter writes."""
MAX_ONNX_BYTES = 2**31 - 2**20
"""An ONNX file is a protocol buffer, which has less than 2 GiB."""
TEST_BATCH = 3
TOLERANCE = 1e-3
"""Of the outputs of the exported graph, relative to the largest one of the model; sums are taken in another order."""


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how close it is to the model."""

    format: str
    origin: str
    """What the graph takes: codes, rows or pixels."""
    input_name: str
    input_shape: tuple[int, ...]
    """Of one sample; uint8. The batch may have any size."""
    output_name: str
    num_outputs: int
    num_bytes: int
    opset: int | None
    """Version of ONNX's operators; None for torch."""
    max_difference: float | None
    """Largest difference of an output of the written file and of the model; None if it was not run. Of pixels, the
    model takes the codes that the graph's encoder computes."""

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return asdict(self)


class ClassifierGraph(nn.Module):
    """A classifier from codes, rows or pixels to its outputs, of operations that can be exported."""

    def __init__(self, model: LatentClassifier, front: nn.Module | None) -> None:
        super().__init__()
        self.front = front
        self.lookup = CodesToInput(model.input.table, len(model.config.latent_shape) - 1)
        self.rest = InputToLogits(model)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the outputs (B, num_classes)."""
        return self.rest(self.lookup(x if self.front is None else self.front(x)))


def export_run(
    run: Path | str, out: Path | str, form: str, *, origin: str = "codes", opset: int | None = None
) -> ExportReport:
    """Write the classifier of a finished run to the file `out`, and run the file to compare it with the model.

    `form` is `onnx` or `torch`; `origin` says what the graph takes, uint8, with a batch of any size: `codes`
    (B, K, h, w), stored `rows` (B, R) of latents with bit planes, or prepared `pixels` (B, C, S, S), for which it has
    the encoder of the run's codec. An ONNX file has the names of the classes and the preprocessing as metadata, an
    `ExportedProgram` as the extra file `walloc_cdl.json`. ONNX needs onnx and onnxscript; it is compared if onnxruntime
    is installed.

    Raises `CallError` for an unknown format or origin, another suffix of `out`, an opset that cannot be written, and
    codecs that cannot be exported; `JobError` if the model cannot be exported or the file does not equal the model.
    """
    out = Path(out)
    _check_call(out, form, origin, opset)
    model = load_classifier(run)
    graph, example = _build(model, run, origin)
    description = _describe(model, run, origin)
    with torch.no_grad():
        codes = graph.front(example).to(torch.uint8) if origin == "pixels" and graph.front is not None else example
        expected = model(codes).numpy()
    try:
        with _quiet():
            data = _onnx(graph, example, opset or DEFAULT_OPSET, description) if form == "onnx" else None
            data = data if data is not None else _program(graph, example, description)
    except (CallError, JobError):
        raise
    except Exception as error:  # the exporters raise exceptions of many types of their own
        raise JobError(
            f"{model.config.name} cannot be exported to {form}: {one_line(error, with_class=True)}; export it to "
            f"{'torch' if form == 'onnx' else 'onnx'}, or train another model"
        ) from error
    found = _run_onnx(data, example) if form == "onnx" else _run_program(data, example)
    difference = None if found is None else float(np.abs(found - expected).max())
    if difference is not None and not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise JobError(
            f"the exported {form} graph of {model.config.name} differs from the model by {difference:g}, expected at "
            f"most {TOLERANCE:g} of its outputs; nothing was written: report it, with the versions of torch and {form}"
        )
    write_atomic(out, data)
    return ExportReport(
        format=form,
        origin=origin,
        input_name=origin,
        input_shape=tuple(example.shape[1:]),
        output_name=_output_name(model),
        num_outputs=expected.shape[1],
        num_bytes=len(data),
        opset=(opset or DEFAULT_OPSET) if form == "onnx" else None,
        max_difference=difference,
    )


def _check_call(out: Path, form: str, origin: str, opset: int | None) -> None:
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS, f"choose {' or '.join(FORMATS)}")
    if origin not in ORIGINS:
        raise unknown_name("input", origin, ORIGINS, f"choose from {', '.join(ORIGINS)}")
    if out.suffix != FORMATS[form]:
        raise CallError(f"{out} for {form}; name a file that ends in {FORMATS[form]}")
    if opset is not None and form != "onnx":
        raise CallError(f"opset {opset} is for onnx; omit it")
    if opset is not None and opset not in OPSETS:
        raise CallError(f"opset {opset}; expected {OPSETS[0]} to {OPSETS[-1]}")
    if form == "onnx":
        try:
            import onnx  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise CallError(
                f"the package {error.name} is not installed; `pip install 'walloc-cdl[onnx]'`, or export to torch"
            ) from error


def _build(model: LatentClassifier, run: Path | str, origin: str) -> tuple[ClassifierGraph, Tensor]:
    """Return the graph, in eval mode, and inputs for it."""
    spec, shape = model.config.spec, model.config.latent_shape
    rng = np.random.default_rng(0)
    if origin == "rows":
        if spec.planes is None:
            raise CallError(f"{run} was trained on codes that are stored as bytes and have no rows; export from codes")
        front: nn.Module | None = RowsToCodes(spec.planes, shape[1:])
        inputs = rng.integers(0, 256, (TEST_BATCH, row_bytes(spec, shape[1:])), np.uint8)
    elif origin == "pixels":
        encoder = FileEncoder(run, model.config)
        front = pixels_to_codes(encoder.codec, encoder.preparation.shape[1:])
        inputs = rng.integers(0, 256, (TEST_BATCH, *encoder.preparation.shape), np.uint8)
    else:
        front = None
        inputs = rng.integers(*_code_bounds(model), (TEST_BATCH, *shape), np.uint8)
    return ClassifierGraph(model, front).eval(), torch.from_numpy(inputs)


def _code_bounds(model: LatentClassifier) -> tuple[int, int]:
    low, high = model.config.spec.byte_range
    return low, high + 1


def _describe(model: LatentClassifier, run: Path | str, origin: str) -> dict[str, str]:
    """Return what a user of the file must know, as text by name."""
    from walloc_cdl.training import RunFolder

    config = model.config
    names = config.target_names if config.label_kind == "regression" else config.class_names
    data = RunFolder(run).load_config().get("data")
    preprocessing = data.get("preprocessing", {}) if isinstance(data, dict) else {}
    return {
        "model": config.name,
        "input": origin,
        "label_kind": config.label_kind,
        "names": json.dumps(None if names is None else list(names)),
        "codec_id": config.spec.codec_id,
        "spec": json.dumps(config.spec.to_json()),
        "preprocessing": json.dumps(preprocessing),
    }


def _output_name(model: LatentClassifier) -> str:
    return "targets" if model.config.label_kind == "regression" else "logits"


def _program_of(graph: ClassifierGraph, example: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))


def _onnx(graph: ClassifierGraph, example: Tensor, opset: int, description: dict[str, str]) -> bytes:
    import onnx

    program = torch.onnx.export(
        graph,
        (example,),
        dynamo=True,
        opset_version=opset,
        input_names=[description["input"]],
        output_names=["targets" if description["label_kind"] == "regression" else "logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        verbose=False,
    )
    proto = program.model_proto
    if (size := proto.ByteSize()) > MAX_ONNX_BYTES:
        raise CallError(f"the ONNX file would have {size:,} bytes, more than {MAX_ONNX_BYTES:,}; export to torch")
    found = next(each.version for each in proto.opset_import if each.domain in ("", "ai.onnx"))
    if found != opset:
        raise CallError(f"the model cannot be written with opset {opset}, only with {found}; give that one")
    for name, text in description.items():
        proto.metadata_props.add(key=f"walloc_cdl.{name}", value=text)
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _program(graph: ClassifierGraph, example: Tensor, description: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    torch.export.save(_program_of(graph, example), stream, extra_files={"walloc_cdl.json": json.dumps(description)})
    return stream.getvalue()


def _run_onnx(data: bytes, example: Tensor) -> np.ndarray | None:
    """Return the outputs of the file, computed sample by sample and all together; None without onnxruntime."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    first = session.run(None, {name: example[:1].numpy()})[0]
    return np.concatenate([first, session.run(None, {name: example.numpy()})[0][1:]])


def _run_program(data: bytes, example: Tensor) -> np.ndarray:
    module = torch.export.load(io.BytesIO(data)).module()
    with torch.no_grad():
        return torch.cat([module(example[:1]), module(example)[1:]]).numpy()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' reports of their own progress from standard output and error."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
