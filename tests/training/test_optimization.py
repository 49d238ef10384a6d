"""Learning rates, the weight average, precision, and the optimizers and their groups."""

import math

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.optim import list_optimizers
from torch import nn

from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError
from walloc_cdl.training import LoopConfig, build_optimizer, build_schedule, precision, tensors_to_bytes
from walloc_cdl.training.config import SCHEDULES, UNFIT_OPTIMIZERS


def rates_of(config: LoopConfig, updates_per_epoch: int, updates=None) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    schedule = build_schedule(optimizer, config, updates_per_epoch)
    rates = []
    for update in updates or range(config.epochs * updates_per_epoch):
        schedule.step_update(update)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_the_rate_has_a_linear_warmup_and_a_cosine_decay():
    rates = rates_of(LoopConfig(epochs=10, lr=0.4, warmup_epochs=2, warmup_lr=0.0), 5)
    np.testing.assert_allclose(rates[:10], np.linspace(0, 0.36, 10))
    assert rates[10] == 0.4
    assert rates[30] == pytest.approx(0.2)
    assert rates[49] == pytest.approx(0.2 * (1 + math.cos(math.pi * 39 / 40)))


def test_steps_and_milestones_are_counted_from_the_end_of_the_warmup():
    config = LoopConfig(epochs=6, lr=0.8, warmup_epochs=1, sched="step", decay_epochs=2, decay_rate=0.5)
    np.testing.assert_allclose(rates_of(config, 2)[2:], np.repeat([0.8, 0.4, 0.2], [4, 4, 2]))
    config = LoopConfig(epochs=5, lr=0.8, warmup_epochs=0, sched="multistep", decay_milestones=(1, 3), decay_rate=0.5)
    np.testing.assert_allclose(rates_of(config, 2), np.repeat([0.8, 0.4, 0.2], [2, 4, 4]))


@pytest.mark.parametrize("sched", SCHEDULES)
def test_the_rate_follows_from_the_number_of_the_update_alone(sched):
    config = LoopConfig(epochs=5, sched=sched, decay_epochs=1, decay_milestones=(1, 3))
    order = [7, 19, 3, 0, 12]
    rates = rates_of(config, 4)
    assert rates_of(config, 4, order) == [rates[update] for update in order]
    assert max(rates) == pytest.approx(config.lr)


@given(
    epochs=st.integers(1, 30), steps=st.integers(1, 40), warmup=st.floats(0, 50), lr=st.floats(1e-6, 1)
)  # warmup may be longer than the run
def test_the_rate_is_never_above_its_peak_nor_below_zero(epochs, steps, warmup, lr):
    rates = rates_of(LoopConfig(epochs=epochs, lr=lr, warmup_epochs=warmup), steps)
    assert all(0 <= rate <= lr * (1 + 1e-12) for rate in rates)


def linear(value: float) -> nn.Linear:
    model = nn.Linear(3, 2, bias=False)
    nn.init.constant_(model.weight, value)
    return model


@pytest.mark.parametrize("name", [name for name in list_optimizers() if not name.startswith(tuple(UNFIT_OPTIMIZERS))])
def test_an_optimizer_resumes_bit_exactly(make_loop, name):
    """After two epochs, and within one."""
    if name.removeprefix("c").startswith("kron"):
        pytest.skip("refused")
    settings = {"opt": name, "epochs": 2, "lr": 1e-3, "batch_size": 4}
    whole, first, second = (make_loop(**settings) for _ in range(3))
    stored = []

    def store():
        tensors, values = first.state()
        stored.append(({name: value.clone() for name, value in tensors.items()}, values))

    whole.run_epoch()
    whole.run_epoch()
    first.run_epoch()
    first.run_epoch(store)
    torch.manual_seed(1)
    second.restore(*stored[2], origin="here")
    assert (second.epoch, second._part.updates) == (1, 3)
    second.run_epoch()
    assert tensors_to_bytes(second.weights()) == tensors_to_bytes(whole.weights())
    assert tensors_to_bytes(second.average()) == tensors_to_bytes(whole.average())
    assert second.history.losses == whole.history.losses
    assert not math.isnan(second.history.losses[-1])


@pytest.mark.parametrize(
    ("name", "reason"),
    [("adahessian", "second derivatives"), ("kronw", "random numbers of its own"), ("lookahead_sgd", "slow weights")],
)
def test_an_optimizer_that_cannot_resume_is_refused(name, reason):
    with pytest.raises(CallError, match=rf"opt is '{name}', but it .*{reason}|opt is '{name}', but its .*{reason}"):
        LoopConfig(opt=name)


def test_an_optimizer_that_timm_does_not_have_is_refused():
    with pytest.raises(CallError, match=r"opt 'adamz' cannot be used \(.*adamz.*\); choose one of timm\.optim"):
        build_optimizer(linear(1), LoopConfig(opt="adamz"))


def test_the_average_is_timms_with_its_warmup(make_loop):
    loop = make_loop(epochs=8, model_ema_decay=0.6, lr=0.01)
    expected = {name: value.clone() for name, value in loop.weights().items()}
    seen = 0

    def follow():
        nonlocal seen
        seen += 1
        decay = min(0.6, (seen - 1) / (seen + 8))
        for name, value in loop.weights().items():
            average = decay * expected[name].double() + (1 - decay) * value.double()
            expected[name] = average if value.is_floating_point() else value.clone()

    while loop.epoch < 8:
        loop.run_epoch(follow)
        follow()
    assert seen == 24
    for name, value in loop.average().items():
        torch.testing.assert_close(value.double(), expected[name].double(), rtol=1e-5, atol=1e-6)


def test_without_decay_the_average_equals_the_last_weights(make_loop):
    loop = make_loop(model_ema_decay=0.0)
    loop.run_epoch()
    for name, value in loop.average().items():
        torch.testing.assert_close(value, loop.weights()[name])


def test_norms_biases_and_position_embeddings_do_not_decay():
    model = timm.create_model("test_vit")
    undecayed, decayed = build_optimizer(model, LoopConfig(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)
    spared = {id(parameter) for parameter in undecayed["params"]}
    assert {id(model.pos_embed), id(model.norm.weight), id(model.head.bias)} <= spared
    assert id(model.head.weight) not in spared
    assert len(decayed["params"]) + len(undecayed["params"]) == len(list(model.parameters()))


def test_the_rate_falls_from_layer_to_layer():
    model = timm.create_model("test_vit")
    config = LoopConfig(layer_decay=0.5, lr=0.1, warmup_epochs=0)
    optimizer = build_optimizer(model, config)
    build_schedule(optimizer, config, 4).step_update(0)
    rates = {id(each): group["lr"] for group in optimizer.param_groups for each in group["params"]}
    assert rates[id(model.head.weight)] == 0.1
    depth = len(model.blocks)
    for number, block in enumerate(model.blocks):
        assert rates[id(block.attn.qkv.weight)] == pytest.approx(0.1 * 0.5 ** (depth - number))
    assert rates[id(model.pos_embed)] == pytest.approx(0.1 * 0.5 ** (depth + 1))


def test_frozen_parameters_are_in_the_optimizer():
    model = nn.Sequential(linear(1), linear(2))
    model[0].requires_grad_(False)
    optimizer = build_optimizer(model, LoopConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert [each.requires_grad for each in model.parameters()] == [False, True]


@pytest.mark.parametrize(
    ("settings", "largest"), [({}, 1.0), ({"clip_mode": "value", "clip_grad": 0.5}, None), ({"clip_grad": None}, None)]
)
def test_gradients_are_clipped(make_loop, settings, largest):
    loop = make_loop(lambda model, codes, *_: 1e3 * model(codes.float()).square().mean(), **settings)
    loop.run_epoch()
    gradients = [parameter.grad for parameter in loop.model.parameters()]
    norm = float(torch.stack([each.norm() for each in gradients]).norm())
    if largest:
        assert norm <= largest * 1.001
    elif "clip_mode" in settings:
        assert max(float(each.abs().max()) for each in gradients) == pytest.approx(0.5)
    else:
        assert norm > 100


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"lr": 0.0}, "lr is 0.0; it must be above 0"),
        ({"lr": math.nan}, "lr is nan; it must be above 0"),
        ({"model_ema_decay": 1.0}, "model_ema_decay is 1.0; it must be at least 0 and below 1"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": 2**64}, r"seed is \d+; it must be below 2\^64"),
        ({"clip_grad": 0.0}, "clip_grad is 0.0; it must be above 0"),
        ({"grad_accum_steps": 0}, "grad_accum_steps is 0; it must be at least 1"),
        ({"precision": "fp8"}, "unknown precision 'fp8'; nearest: fp.*choose one of auto, bf16, fp16, fp32"),
        ({"sched": "cosin"}, "unknown sched 'cosin'; nearest: cosine"),
        ({"sched": "step"}, "the schedule step needs decay_epochs"),
        ({"sched": "multistep"}, "the schedule multistep needs decay_milestones"),
        ({"decay_milestones": (3, 2)}, r"decay_milestones is \[3, 2\]; expected ascending numbers of epochs"),
        ({"opt_betas": (0.9, 1.0)}, r"opt_betas is \[0.9, 1.0\]; expected numbers from 0 to below 1"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5; it must be above 0 and at most 1"),
        ({"val_interval": 0, "patience": 2}, "val_interval is 0, so that no epoch is evaluated"),
        ({"keep": "best", "val_interval": 0}, "val_interval is 0, so that no epoch is evaluated"),
        ({"patience": 0}, "patience is 0; it must be at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(fields, message):
    with pytest.raises(CallError, match=message):
        LoopConfig(**fields)


def test_a_decay_longer_than_the_run_is_refused():
    with pytest.raises(CallError, match=r"the schedule wsd does not fit 2 epochs: .*decay"):
        rates_of(LoopConfig(epochs=2, sched="wsd", decay_epochs=5), 3)


def test_auto_is_bf16_on_gpus_that_support_it(monkeypatch):
    for supported, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, found=supported: found)
        assert precision.choose_precision("auto", torch.device("cuda")) == expected
        assert (
            precision.choose_precision("auto", torch.device("cpu")) == "fp32"
        )  # bf16 gradients on CPUs are unreliable
        assert precision.choose_precision("bf16", torch.device("cpu")) == "bf16"


def test_auto_is_what_accelerate_was_launched_with(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert precision.choose_precision("auto", torch.device("cpu")) == "bf16"
    assert precision.choose_precision("fp32", torch.device("cpu")) == "fp32"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(CallError, match=r"unknown precision 'fp8'.*launch with --mixed_precision no, bf16 or fp16"):
        precision.choose_precision("auto", torch.device("cpu"))


def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(CallError, match="precision fp16 needs a GPU, but the device is cpu; choose bf16 or fp32"):
        precision.choose_precision("fp16", torch.device("cpu"))


def test_an_absent_device_is_refused():
    with pytest.raises(CallError, match="device 'gpu' is not a torch device; use cpu, cuda or cuda:N"):
        choose_device("gpu")
