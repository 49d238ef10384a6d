"""A contract that all timm models keep: at their own sizes, with each stem that they have, and divided for freezing.

The weights are random: building a model and one sample through it show whether sizes and layers fit.
"""

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg

from classifiers import create_model
from classifiers.models import backbones
from classifiers.models.adapt import first_convolution
from classifiers.models.classifier import rebuild_model
from classifiers.models.split import HEAD, divide

SMALL = {
    "ByoBNet": ["test_byobnet"],
    "ConvNeXt": ["test_convnext", "test_convnext2"],
    "EfficientNet": ["test_efficientnet", "test_efficientnet_ln", "tf_efficientnet_lite0", "tinynet_e", "lcnet_035"],
    "MobileNetV3": ["mobilenetv3_small_050"],
    "MambaOut": ["test_mambaout"],
    "NFNet": ["test_nfnet"],
    "ResNet": ["test_resnet", "resnet18"],
    "ViT": ["test_vit", "test_vit2"],
    "RegNet": ["regnetx_002"],
    "MobileViT": ["mobilevit_xxs"],
    "LeViT": ["levit_128s"],
    "GhostNet": ["ghostnet_050"],
    "EdgeNeXt": ["edgenext_xx_small"],
    "PiT": ["pit_ti_224"],
}
LARGE = {
    "ConvNeXt": ["convnext_atto"],
    "CrossViT": ["crossvit_tiny_240"],
    "DenseNet": ["densenet121"],
    "DLA": ["dla46_c"],
    "EVA": ["eva02_tiny_patch14_224"],
    "EfficientNet": ["efficientnet_b1"],
    "FastViT": ["fastvit_t8"],
    "Inception": ["inception_v3"],
    "MLP-Mixer": ["mixer_s32_224"],
    "MaxViT": ["maxvit_rmlp_pico_rw_256"],
    "PoolFormer": ["poolformer_s12"],
    "RepVGG": ["repvgg_a0"],
    "ResNetV2": ["resnetv2_18"],
    "Swin": ["swin_tiny_patch4_window7_224"],
    "ViT": ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"],
    "XCiT": ["xcit_nano_12_p16_224"],
}
UNDIVIDED = {"deit_tiny_distilled_patch16_224", "levit_128s", "crossvit_tiny_240"}
"""Models whose logits are not those of one layer alone, so features for it cannot be kept."""


def cases():
    for families, marks in ((SMALL, ()), (LARGE, (pytest.mark.slow,))):
        for family, names in families.items():
            for name in names:
                yield pytest.param(name, id=f"{family}-{name}", marks=marks)


def test_the_contract_is_about_many_families():
    assert len(SMALL.keys() | LARGE.keys()) >= 12
    assert sum(map(len, [*SMALL.values(), *LARGE.values()])) >= 30


@pytest.fixture(autouse=True)
def random_weights(monkeypatch):
    def without_weights(name, pretrained, arguments):
        return timm.create_model(name, **arguments)

    monkeypatch.setattr(backbones, "load_pretrained", without_weights)


@torch.no_grad()
@pytest.mark.parametrize("name", cases())
def test_a_model_runs_at_its_own_size(rgb16, name):
    torch.manual_seed(0)
    size = get_pretrained_cfg(name).input_size[1:]
    codes = rgb16.gather([0])[0]
    model = create_model(name, rgb16, pretrained=True).eval()
    config = model.config
    assert config.input_size == size
    assert config.grid % 32 == 0
    assert (config.fit is None) == (size[0] % 32 == 0 and size[0] <= 256)
    pixels = model.pixels(codes)
    assert pixels.shape == (1, 3, *size)
    logits = model.backbone(pixels)
    assert logits.shape == (1, 2)
    twin = rebuild_model(config).eval()
    twin.load_state_dict(model.saved_weights())
    assert (divide(model.backbone, HEAD, pixels) is None) == (name in UNDIVIDED)
    if first_convolution(model.backbone) is None:
        return
    channels = create_model(name, rgb16, stem="channels", pretrained=True).eval()
    assert channels.config.is_composed
    assert channels(codes).shape == (1, 2)
