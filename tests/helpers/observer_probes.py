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


def layer_by_layer_difference(side: str, kind: str, packed: bool, own_loop: bool) -> float:
    """How far a bidirectional layer of two layers computed one by one is from PyTorch's own call, gradients too."""
    import torch
    from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

    from compare.explain.torch_observer.changes import Changes, LayerChanges
    from compare.explain.torch_observer.layers import Layers
    from compare.explain.torch_observer.observed import Observed
    from compare.explain.torch_observer.parts import parts_of
    from compare.explain.torch_observer.recurrent_run import run

    torch.manual_seed(1)
    module = getattr(torch.nn, kind)(3, 4, num_layers=2, bidirectional=True, batch_first=True).double()
    x = torch.randn(5, 6, 3, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([6, 2, 4, 1, 5])
    sequence = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False) if packed else x
    changes, observed = LayerChanges(step_by_step=own_loop), Observed()
    observed.parts = {part.key: part for part in parts_of("rnn", module)}
    layers = Layers(observed, Changes("off"))
    results = []
    for compute in (module, lambda sequence: run(module, layers, "rnn", changes, sequence)):
        observed.begin(x, None, 0)
        x.grad = None
        y, states = compute(sequence)
        states = states if isinstance(states, tuple) else (states,)
        values = [y.data if isinstance(y, PackedSequence) else y, *states]
        sum((value**2).sum() for value in values).backward(retain_graph=True)
        results.append([*values, x.grad])
    return max(float((a - b).abs().max().detach()) for a, b in zip(*results, strict=True))


def noise_of_rates(side: str, choices: dict[str, Any]) -> float:
    """By how much of its rounding noise a session moves the learning rate of an Adam with PyTorch's betas."""
    import torch

    from compare.explain.torch_observer.counterfactuals import apply
    from compare.explain.torch_observer.session import Session

    def make() -> Any:
        module = torch.nn.Linear(2, 1)
        return module, torch.nn.MSELoss(), torch.optim.Adam(module.parameters(), betas=(0.9, 0.5))

    session = Session(make, {})
    session.updates.rate_noise = 1.0
    apply(session, [{"change": "update_rule", **choices}] if choices else [])
    return session.updates.noise()


def factor_of_rule(side: str, rates: list[float]) -> float:
    """How many times as far `UpdateRule` moves a weight where its learning rate is doubled."""
    import torch

    from compare.explain.torch_observer.update_rule import UpdateRule

    moved = []
    for factor in (1.0, 2.0):
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        weight.grad = torch.ones_like(weight)
        UpdateRule(torch.optim.SGD([weight], lr=0.1), {"learning_rates": rates} if rates else {}).step(factor)
        moved.append(float(weight.detach()))
    return moved[1] / moved[0]


def row_order(side: str, batch: list[Any], seen: Any) -> list[int] | None:
    """The order in which a session finds the rows of a batch."""
    import numpy as np

    from compare.explain.torch_observer.recording import row_order as order_of

    order = order_of(np.array(batch, np.float32), np.array(seen, np.float32))
    return None if order is None else order.tolist()


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
