"""Learning rates, the weight average, precision, and the optimizer's groups."""

import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError
from walloc_cdl.training import LoopConfig, WeightAverage, build_optimizer, learning_rate, precision


def test_the_rate_has_a_linear_warmup_and_a_cosine_decay():
    config = LoopConfig(epochs=10, lr=0.4, warmup_epochs=2)
    rates = [learning_rate(config, step, 5) for step in range(50)]
    np.testing.assert_allclose(rates[:10], np.linspace(0.04, 0.4, 10))
    assert rates[10] == 0.4
    assert rates[30] == pytest.approx(0.2)
    assert rates[49] == pytest.approx(0.2 * (1 + math.cos(math.pi * 39 / 40)))


@given(
    epochs=st.integers(1, 30), steps=st.integers(1, 40), warmup=st.floats(0, 50), lr=st.floats(1e-6, 1)
)  # warmup may be longer than the run
def test_the_rate_is_never_above_its_peak_nor_below_zero(epochs, steps, warmup, lr):
    config = LoopConfig(epochs=epochs, lr=lr, warmup_epochs=warmup)
    rates = [learning_rate(config, step, steps) for step in range(epochs * steps)]
    assert all(0 < rate <= lr * (1 + 1e-12) for rate in rates)


def test_the_average_follows_its_definition():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(model.state_dict(), 0.9)
    expected = model[0].weight.detach().double().numpy()
    rng = np.random.default_rng(0)
    for step in range(200):
        weight = rng.normal(size=(2, 3)).astype(np.float32)
        with torch.no_grad():
            model[0].weight.copy_(torch.from_numpy(weight))
            model[1].num_batches_tracked += 1
        average.update(model.state_dict(), step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    np.testing.assert_allclose(average.weights["0.weight"].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert average.weights["1.num_batches_tracked"] == 200


def test_initial_weights_do_not_dominate_the_average_of_a_short_run():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    average = WeightAverage(model.state_dict(), 0.9999)
    nn.init.constant_(model.weight, 1.0)
    for step in range(20):
        average.update(model.state_dict(), step)
    assert average.weights["weight"].item() == pytest.approx(1.0, abs=1e-3)


def test_without_decay_the_average_equals_the_last_weights():
    model = nn.Linear(4, 4)
    average = WeightAverage(model.state_dict(), 0.0)
    nn.init.normal_(model.weight)
    average.update(model.state_dict(), 0)
    assert torch.allclose(average.weights["weight"], model.weight)


def test_norms_biases_and_position_embeddings_do_not_decay():
    model = timm.create_model("test_vit")
    decayed, undecayed = build_optimizer(model, LoopConfig(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    spared = {id(parameter) for parameter in undecayed["params"]}
    assert {id(model.pos_embed), id(model.norm.weight), id(model.head.bias)} <= spared
    assert id(model.head.weight) not in spared
    assert len(decayed["params"]) + len(undecayed["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs is 0; it must be at least 1"),
        ("lr", 0.0, "lr is 0.0; it must be above 0"),
        ("lr", math.nan, "lr is nan; it must be above 0"),
        ("ema_decay", 1.0, "ema_decay is 1.0; it must be at least 0 and below 1"),
        ("seed", -1, "seed is -1; it must not be negative"),
        ("clip_norm", 0.0, "clip_norm is 0.0; it must be above 0, or None for no limit"),
        ("precision", "fp16", "unknown precision 'fp16'; nearest: bf16.*choose one of auto, bf16, fp32"),
    ],
)
def test_settings_out_of_range_are_refused(field, value, message):
    with pytest.raises(CallError, match=message):
        LoopConfig(**{field: value})


def test_auto_is_bf16_on_gpus_that_support_it(monkeypatch):
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, found=supported: found)
        assert precision.choose_precision("auto", torch.device("cuda")) == expected
        assert (
            precision.choose_precision("auto", torch.device("cpu")) == "fp32"
        )  # bf16 gradients on CPUs are unreliable
        assert precision.choose_precision("bf16", torch.device("cpu")) == "bf16"


def test_an_absent_device_is_refused():
    with pytest.raises(CallError, match="device 'gpu' is not a torch device; use cpu, cuda or cuda:N"):
        choose_device("gpu")
