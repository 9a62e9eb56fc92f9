"""What the tests of the observers of `explain` run in a process that holds a framework."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock


def own_rule_difference(side: str, name: str, options: dict[str, Any], choices: dict[str, Any]) -> float:
    """How far PyTorch's optimizer and `UpdateRule` come apart in six steps, by the distance moved."""
    import torch

    from compare.explain.torch_observer.update_rule import UpdateRule, rule_of

    torch.manual_seed(0)
    experiment = torch.randn(4, 3, dtype=torch.float64)
    gradients = [torch.randn(4, 3, dtype=torch.float64) * 10.0 ** -(step % 3) for step in range(6)]
    ends = []
    for own in (False, True):
        weight = torch.nn.Parameter(experiment.clone())
        optimizer = getattr(torch.optim, name)([weight], **options)
        assert rule_of(optimizer) is not None
        rule = UpdateRule(optimizer, choices) if own else optimizer
        for gradient in gradients:
            weight.grad = gradient.clone()
            rule.step()
        ends.append(weight.detach())
    return float((ends[0] - ends[1]).abs().max() / (ends[0] - experiment).abs().max())


def kernel_difference(side: str, kind: str, bidirectional: bool) -> float:
    """How far two layers computed timestep by timestep are from PyTorch's own call, gradients too."""
    import torch

    from compare.explain.torch_observer.recurrent_programs import layer

    torch.manual_seed(1)
    module = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=bidirectional, batch_first=True).double()
    x = torch.randn(5, 6, 3, dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(4 if bidirectional else 2, 5, 4, dtype=torch.float64)
    hx = (zeros, zeros) if kind == "LSTM" else zeros
    settings = (True, 2, 0.0, True, bidirectional, True)
    stepped = layer(kind.lower(), (x, hx, module._flat_weights, *settings), "tanh", "sigmoid", False, None)
    results = []
    for y, *states in (module(x), stepped):
        states = list(states[0]) if kind == "LSTM" and len(states) == 1 else states
        x.grad = None
        sum((value**2).sum() for value in (y, *states)).backward()
        results.append([y, *states, x.grad.clone()])
    return max(float((a - b).abs().max().detach()) for a, b in zip(*results, strict=True))


def kernel_refusal(side: str, kind: str, fault: str) -> str:
    """What is said of a fused kernel's arguments with a fault; empty where it is computed."""
    import torch

    from compare.explain.torch_observer.recorder import shape_checked

    module = getattr(torch.nn, kind)(3, 4, num_layers=2, batch_first=True)
    x = torch.randn(5, 6, 2 if fault == "features" else 3)
    shape = {"batch": (2, 6, 4), "layers": (1, 5, 4), "width": (2, 5, 3)}.get(fault, (2, 5, 4))
    hx = (torch.zeros(shape), torch.zeros(shape)) if kind == "LSTM" else torch.zeros(shape)
    function = getattr(torch, "rnn_tanh" if kind == "RNN" else kind.lower())
    try:
        shape_checked(function)(x, hx, module._flat_weights, True, 2, 0.0, True, False, True)
    except ValueError as error:
        return str(error)
    return ""


def greedy_trial(side: str, kind: str) -> tuple[Any, list[str], Any]:
    """What a trial gives that hangs, eats memory, raises or is excluded, why it is not tried, and what the next one."""
    import time

    import torch

    from compare.explain.torch_observer.trials import MOST_BYTES, Trials

    def run() -> Any:
        if kind == "hangs":
            time.sleep(30)
        if kind == "eats":
            return torch.ones(MOST_BYTES, dtype=torch.float32)
        if kind == "raises":
            raise IndexError("another shape")
        return 1

    trials = Trials(lambda doing: None, ["greedy"] if kind == "excluded" else [])
    result = trials.attempt("greedy", run, seconds=1)
    return result, list(trials.not_tried.values()), trials.attempt("next", lambda: 7)


def told_tf32(side: str) -> tuple[bool, bool, bool]:
    """Whether a framework that may take TF32 takes it: before, within and after `without`; as if there were a GPU."""
    if side == "torch":
        from compare.explain.torch_observer import tf32
    else:
        from compare.explain.keras_observer import tf32
    with _a_gpu(side):
        before = tf32.in_use()
        with tf32.without():
            within = tf32.in_use()
        return before, within, tf32.in_use()


@contextlib.contextmanager
def _a_gpu(side: str) -> Iterator[None]:
    """A framework that finds a GPU, or has been told that TF32 may be taken."""
    if side == "keras-tensorflow":
        with mock.patch("tensorflow.config.list_physical_devices", return_value=["a GPU"]):
            yield
    elif side == "keras-jax":
        with mock.patch("jax.devices", return_value=[SimpleNamespace(platform="gpu")]):
            yield
    else:
        import torch

        torch.set_float32_matmul_precision("high")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision("highest")
