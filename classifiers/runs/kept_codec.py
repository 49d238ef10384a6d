"""The codec that a run keeps in its folder, so that photos can be classified without the data set.

With it, and with the preprocessing in the run's configuration, a file is prepared and encoded as the data set was. It
is small: the shipped codecs have 10 to 850 kB, and only published ones with a network as their decoder have more.
"""

from __future__ import annotations

from walloc_cdl.codec import Codec
from walloc_cdl.codec.codec_files import FILE_NAMES
from walloc_cdl.codec.io.folder import codec_from_files
from walloc_cdl.data import LatentDataset
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import make_folder, write_atomic
from walloc_cdl.spec import LatentSpec
from walloc_cdl.training import RunFolder
from walloc_cdl.training.checkpoint import REMEDY


def keep_codec(run: RunFolder, dataset: LatentDataset) -> None:
    """Copy the codec of the data set to the folder of the run; does nothing for a data set without one."""
    files = dataset.codec_files()
    if files is None:
        return
    make_folder(run.codec_path)
    for name, content in files.items():
        write_atomic(run.codec_path / name, content)


def load_kept_codec(run: RunFolder, spec: LatentSpec) -> Codec:
    """Load the codec of a run, with as many bit planes as latents of `spec` have.

    Raises `CallError` for a run without one, `DamagedError` if a file of it is missing or broken, or if it is not the
    codec of `spec`.
    """
    if not run.codec_path.is_dir():
        raise CallError(
            f"the run in {run.path} has no codec, since its data set had none, so it cannot classify files; give a "
            "data set of latents, or train on a data set that `cdl prepare` wrote"
        )
    for name in FILE_NAMES:
        if not (run.codec_path / name).is_file():
            raise DamagedError(f"{run.codec_path / name} is missing; {REMEDY}")
    files = {name: (run.codec_path / name).read_bytes() for name in FILE_NAMES}
    codec = codec_from_files(files, origin=str(run.codec_path))
    if (found := codec.encoder_id()) != spec.codec_id:
        raise DamagedError(
            f"{run.codec_path}: codec id is {found[:12]}…, but the classifier was trained on latents of "
            f"{spec.codec_id[:12]}…; {REMEDY}"
        )
    return codec.for_latents(spec)
