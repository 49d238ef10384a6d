"""Settings of a job: each is one field, from which the command's option, the check and the error are derived."""

from __future__ import annotations

import json

import numpy as np
import pytest

from datasets_prep import PrepareConfig, open_source
from datasets_prep.decode.audio import AudioPreparation
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.views import ViewedImagePreparation
from datasets_prep.job.choose_preparation import stored_preparation
from tests.support.pictures import encoded, picture
from walloc_cdl.cli.command_tree import build_command_tree
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CallError
from walloc_cdl.settings import settings_of


def test_each_field_is_a_setting_and_an_option_of_the_command():
    options = {each.name: each for each in build_command_tree(pytest.fail).commands["prepare"].params}
    settings = settings_of(PrepareConfig)
    assert settings.keys() == vars(PrepareConfig()).keys()
    for name, setting in settings.items():
        option = options[setting.option or name]
        assert option.help == setting.help
        assert option.default == getattr(PrepareConfig(), name)


def test_each_setting_for_one_kind_of_signal_has_a_remedy():
    for setting in settings_of(PrepareConfig).values():
        assert (setting.signal is None) == (setting.remedy == "")


@pytest.mark.parametrize(
    "preparation",
    [
        ImagePreparation(1),
        ImagePreparation(3, 64, "box", "pad", "srgb", "pil-scaled"),
        ViewedImagePreparation(3, 64, "bicubic", view_names=("center", "flip", "crop-1")),
        AudioPreparation(2, 44100, 44032, 22016, "clip"),
        AudioPreparation(1, 44100, 44032, 44032, rest="pad"),
    ],
    ids=lambda preparation: type(preparation).__name__,
)
def test_a_preparation_round_trips_through_json(preparation):
    assert type(preparation).from_json(json.loads(json.dumps(preparation.to_json()))) == preparation


@pytest.mark.parametrize(
    "values", [{"resize": "sinc"}, {"resize": ["box"]}, {"size": "large"}, {"size": 0}, {"views": 3}]
)
def test_an_invalid_preprocessing_is_refused(values, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.png").write_bytes(encoded(picture(1)))
    source, codec = open_source(str(tmp_path)), ResizeCodec(ResizeConfig(channels=3, factor=4))
    known = ImagePreparation(3, 64).to_json()
    assert stored_preparation(source, codec, {**known, "shard_samples": 9}) == ImagePreparation(3, 64)
    with pytest.raises(CallError, match=r"preprocessing is not one of this version .*; prepare the source again"):
        stored_preparation(source, codec, {**known, **values})


def test_the_source_determines_the_preparation_of_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 16, 16), np.uint8))
    source, codec = open_source(f"npy:{tmp_path}/a.npy"), ResizeCodec(ResizeConfig(channels=3, factor=4))
    assert stored_preparation(source, codec, {}) == source.root.preparation(multiple=codec.spec.stride)
