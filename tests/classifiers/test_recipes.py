"""Recipes: read with checks, replaced by options, and written whole."""

import pytest

from classifiers.models.settings import ModelSettings
from classifiers.runs.recipes import Recipe, augmentation, known_fields
from classifiers.runs.train_config import TrainConfig
from walloc_cdl.augment.config import PRESETS, SOUND_PRESETS, AugmentConfig
from walloc_cdl.errors import CallError
from walloc_cdl.transforms.config import LATENT_PRESETS, LatentTransformConfig

TEXT = """
model = "test_resnet"
drop = 0.1
epochs = 3
lr = 1
opt_betas = [0.8, 0.9]
clip_grad = 0
class_weights = [1, 2.5]
augment = { scale = [0.5, 1], hflip = 0.5 }
"""


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return path

    return write


def test_a_recipe_is_read_and_replaced_by_what_is_given(file):
    recipe = Recipe.build(file(TEXT), {"lr": 0.5, "grid": 64})
    assert recipe.model == ModelSettings("test_resnet", grid=64, drop=0.1)
    expected = TrainConfig(
        epochs=3,
        lr=0.5,
        opt_betas=(0.8, 0.9),
        clip_grad=None,
        class_weights=(1, 2.5),
        augment=AugmentConfig(scale=(0.5, 1), hflip=0.5),
    )
    assert recipe.config("image") == expected
    assert isinstance(Recipe.build(file(TEXT), {}).config("image").lr, float)


@pytest.mark.parametrize("text", [TEXT, 'model = "a"', 'model = "a"\npretrained = true\naugment = "timm"'])
def test_the_whole_recipe_that_is_written_means_the_same(file, text):
    recipe = Recipe.build(file(text), {"validation": 'a "quoted" \x7f name'})
    config = recipe.config("image")
    whole = recipe.to_text(config)
    again = Recipe.build(file(whole), {})
    assert again.config("image") == config
    assert (again.model, again.pretrained, again.validation) == (recipe.model, recipe.pretrained, recipe.validation)
    assert again.to_text(config) == whole
    assert "# Peak learning rate.\nlr = " in whole


def test_without_a_recipe_the_defaults_hold():
    recipe = Recipe.build(None, {})
    assert recipe.config("image") == TrainConfig(augment=PRESETS["light"])
    assert recipe.config("audio").augment == SOUND_PRESETS["light"]
    assert Recipe.build(None, {"stem": "channels"}).config("image").augment == PRESETS["none"]
    with pytest.raises(CallError, match="no model is named; give --model, such as resnet18, or a recipe that has it"):
        _ = recipe.model.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"unknown field in .*recipe\.toml: 'epoch'; nearest: epochs.*known are model, stem, .*augment"),
        ('epochs = "3"', r"recipe\.toml, epochs: found '3', expected an integer; change it"),
        ("epochs = true", r"recipe\.toml, epochs: found True, expected an integer; change it"),
        ("opt_betas = 0.9", r"recipe\.toml, opt_betas: found 0.9, expected an array or null"),
        ("pretrained = 3", r"recipe\.toml, pretrained: found 3, expected a string or true or false; change it"),
        ("augment = 3", r"recipe\.toml, augment: found 3, expected a string or a table; change it"),
        ("epochs = ", r"recipe\.toml is not TOML \(.*\); write it as NAME = VALUE, a line each"),
        ("[train]\nepochs = 3", r"unknown field in .*recipe\.toml: 'train'.*known are model"),
        ("drop = 1.0", r"drop is 1.0; it must be at least 0 and below 1"),
        ("\xff", r"recipe\.toml is not TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(CallError, match=message) as caught:
        Recipe.build(path, {})
    assert "\n" not in str(caught.value)


def test_a_missing_or_large_recipe_is_refused(tmp_path):
    with pytest.raises(CallError, match=r"absent\.toml: No such file.*; name a recipe, a TOML file"):
        Recipe.build(tmp_path / "absent.toml", {})
    path = tmp_path / "large.toml"
    path.write_bytes(b"#" * (1 << 21))
    with pytest.raises(CallError, match="has more than 1,048,576 bytes"):
        Recipe.build(path, {})


def test_augmentation_is_a_preset_a_file_or_a_table(file):
    path = file("hflip = 0.5\nrotation = 10")
    assert augmentation(str(path), "image") == AugmentConfig(hflip=0.5, rotation=10.0)
    assert augmentation("timm", "audio") == SOUND_PRESETS["timm"]
    assert augmentation("light", "image", "channels") == LATENT_PRESETS["light"]
    assert augmentation({"shift": 2}, "image", "channels") == LatentTransformConfig(shift=2)
    with pytest.raises(
        CallError, match=r"unknown augmentation 'lite'; nearest: light.*choose one of none, light, timm"
    ):
        augmentation("lite", "image")
    with pytest.raises(CallError, match=r"unknown setting of augment: 'flip'; nearest: vflip, hflip; known are scale"):
        augmentation({"flip": 0.5}, "image")


def test_every_field_of_a_configuration_is_a_field_of_a_recipe():
    assert {*TrainConfig().to_json()} <= {*known_fields()}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", PRESETS["none"]),
        ('augment = "none"', PRESETS["none"]),
        ('augment = "light"', LATENT_PRESETS["light"]),
        ("augment = { hflip = 0.5, shift = 2, crop = [8, 7] }", LatentTransformConfig(hflip=0.5, shift=2, crop=(8, 7))),
    ],
)
def test_the_channels_stem_has_transforms_of_latents(file, text, expected):
    recipe = Recipe.build(file(f'model = "a"\nstem = "channels"\n{text}'), {})
    config = recipe.config("image")
    assert config.augment == expected
    assert Recipe.build(file(recipe.to_text(config)), {}).config("image") == config
    with pytest.raises(CallError, match=r"unknown augmentation 'timm'.*choose one of none, light, or a .toml file"):
        augmentation("timm", "image", "channels")
    with pytest.raises(CallError, match="unknown setting of augment: 'scale'"):
        augmentation({"scale": [0.5, 1]}, "image", "channels")


def test_budgets_are_numbers_of_bytes():
    assert ModelSettings("a", budgets="3072, 6144").budget_sizes == (3072, 6144)
    assert ModelSettings("a").budget_sizes is None
    with pytest.raises(CallError, match="--budgets '3 kB'; expected numbers of bytes, such as 3072,6144,12288"):
        _ = ModelSettings("a", budgets="3 kB").budget_sizes
