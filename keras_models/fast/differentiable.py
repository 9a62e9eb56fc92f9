"""One autograd function for all kernels of this package."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]

# The smallest normal float64: half of it is 0 only where the processor flushes what is smaller to 0.
SMALLEST_NORMAL = 2.2250738585072014e-308


class Given(NamedTuple):
    """What a recurrent layer computes from; weights in Keras's layout and order of the gates.

    inputs (batch, time, features), kernel (features, gates·units), recurrent_kernel (units, gates·units), bias
    (gates·units,) or for a GRU (2, gates·units), states (batch, units) each. `keep` (time, batch, 1) is False where a
    timestep is masked, and the states are carried over it; None keeps all.
    """

    inputs: Tensor
    keep: Tensor | None
    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor
    states: Tensors


class Outcome(NamedTuple):
    """Outputs (time, batch, units) and last states (batch, units), or the loss's gradients by them, some None."""

    outputs: Any
    states: tuple[Any, ...]


class Gradients(NamedTuple):
    """The loss's gradients by what was given."""

    inputs: Tensor | None
    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor
    states: tuple[Tensor | None, ...]


class Wanted(NamedTuple):
    """Which gradients are wanted, beside those by the weights."""

    inputs: bool
    states: bool


class Kernel(Protocol):
    """A way to compute a recurrent layer and its gradients."""

    def forward(self, given: Given) -> tuple[Outcome, Tensors]:
        """Compute the layer; return also what `backward` needs beside what was given."""

    def backward(self, given: Given, kept: Tensors, slopes: Outcome, wanted: Wanted) -> Gradients:
        """Compute the gradients from those by the outcome."""

    def equations(self, given: Given) -> Outcome:
        """Compute the layer by operations that autograd can follow as often as asked."""


def compute(kernel: Kernel, given: Given, sequence: bool) -> tuple[Tensor | None, list[Tensor]]:
    """Return the outputs (batch, time, units), None unless the sequence is asked for, and the last states."""
    found = _Computation.apply(kernel, sequence, given.keep, given.inputs, *given[2:5], *given.states)
    return (found[-1], list(found[:-1])) if sequence else (None, list(found))


class _Computation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, sequence: bool, keep: Tensor | None, inputs: Tensor, *rest: Tensor
    ) -> Tensors:
        (outputs, states), kept = kernel.forward(Given(inputs, keep, *rest[:3], rest[3:]))
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.sequence = kernel, sequence
        ctx.save_for_backward(keep, inputs, *rest, *kept)
        # Copies: who is given them may change them in place; what is kept may not change.
        states = tuple(state.clone() for state in states)
        return (*states, outputs.transpose(0, 1).contiguous()) if sequence else states

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        keep, inputs, *rest = ctx.saved_tensors
        end = 3 + len(slopes) - ctx.sequence
        given = Given(inputs, keep, *rest[:3], tuple(rest[3:end]))
        by_outcome = Outcome(slopes[-1], slopes[:-1]) if ctx.sequence else Outcome(None, slopes)
        needed = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # the gradients will themselves be differentiated
            return None, None, None, *_by_autograd(ctx.kernel, given, by_outcome, needed)
        if by_outcome.outputs is not None:
            by_outcome = by_outcome._replace(outputs=by_outcome.outputs.transpose(0, 1))
        wanted = Wanted(needed[0], any(needed[4:]))
        # Gradients that vanish over many timesteps become numbers too small to be normal, and those are computed some
        # hundred times more slowly: up to four fifths of a training step on 200 timesteps.
        flushed_before = SMALLEST_NORMAL * 0.5 == 0
        torch.set_flush_denormal(True)
        try:
            gradients = ctx.kernel.backward(given, tuple(rest[end:]), by_outcome, wanted)
        finally:
            torch.set_flush_denormal(flushed_before)
        return None, None, None, *gradients[:4], *gradients.states


def _by_autograd(kernel: Kernel, given: Given, slopes: Outcome, needed: tuple[bool, ...]) -> list[Tensor | None]:
    """Compute the gradients in a way that can be differentiated again."""
    outputs, states = kernel.equations(given)
    pairs = zip((outputs.transpose(0, 1), *states), (slopes.outputs, *slopes.states), strict=True)
    reached = [(value, slope) for value, slope in pairs if slope is not None]
    arguments = zip((given.inputs, *given[2:5], *given.states), needed, strict=True)
    found = torch.autograd.grad(
        [value for value, _ in reached],
        [argument for argument, asked in arguments if asked],
        [slope for _, slope in reached],
        create_graph=True,
        allow_unused=True,
    )
    gradients = iter(found)
    return [next(gradients) if asked else None for asked in needed]
