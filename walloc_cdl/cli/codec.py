"""`cdl codec list`, `info` and `import`: commands on the codecs themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from walloc_cdl.cli.console import report, write_json
from walloc_cdl.cli.contents import rate_text
from walloc_cdl.cli.options import CodecName, JsonPath, LocalFolder
from walloc_cdl.cli.planes import codec_plane_table, curve_text, plane_texts


def list_codecs(json_path: JsonPath = None) -> None:
    """List the codecs that ship with the package.

    For codecs with bit planes, the expected PSNR at some rates is shown.
    """
    from walloc_cdl.codec import load_codec, zoo_names

    rows = []
    for name in zoo_names():
        codec = load_codec(name)
        spec = codec.spec
        row = {"name": name, "reduction": spec.reduction(), **spec.to_json()}
        print(
            f"{name:<10}  {spec.source_channels} channels to {spec.latent_channels} at stride {spec.stride}, "
            f"{rate_text(spec)}"
        )
        if spec.planes is not None:
            row["prefixes"], _ = codec_plane_table(spec, codec.config.fit)
            point = "pixel" if spec.kind == "image" else "time step"
            if curve := curve_text(row["prefixes"]):
                print(f"{'':<10}  expected: {curve} bits a {point}")
        rows.append(row)
    print("resize-gray-Nx, resize-rgb-Nx: resolution reduction to a 1/N of the values, N = 4, 9, 16, 64, …")
    print("resize-mono-Nx, resize-stereo-Nx: audio at a 1/N of its sample rate, N = 2, 3, 4, …")
    write_json(json_path, rows)


def info(codec: CodecName, json_path: JsonPath = None) -> None:
    """Print the properties of a codec and how it was fitted.

    Of a codec with bit planes, bits and expected PSNR of some prefixes of its planes are shown.
    """
    from walloc_cdl.codec import load_codec

    model = load_codec(codec)
    fit_info = dict(getattr(model.config, "fit", {}))
    payload = {"name": model.name, **model.spec.to_json(), **{f"fit.{key}": value for key, value in fit_info.items()}}
    if model.spec.planes is None:
        report(payload, json_path)
        return
    table, of = codec_plane_table(model.spec, fit_info)
    shown = {key: value for key, value in payload.items() if key not in ("planes", "fit.psnr_db")}
    shown |= {"planes": model.spec.num_planes, **plane_texts(model.spec, table, of=of)}
    report(shown, json_path, {**payload, "prefixes": table})


def import_published(
    checkpoint: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A published checkpoint.")],
    out: LocalFolder,
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE.json]", help="Its configuration; by default the one in the same folder."),
    ] = None,
    sample_rate: Annotated[int | None, typer.Option(help="Audio: in Hz; published files do not record it.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Convert a published checkpoint to safetensors and JSON.

    No code in the checkpoint is executed.
    """
    from walloc_cdl.codec.codec_files import require_codec_folder
    from walloc_cdl.codec.io.published import load_published

    require_codec_folder(out)
    codec = load_published(checkpoint, config, sample_rate=sample_rate)
    codec.save_pretrained(out)
    size = sum(path.stat().st_size for path in out.iterdir())
    report({"codec": str(out), "name": codec.name, **codec.spec.to_json(), "bytes": size}, json_path)
