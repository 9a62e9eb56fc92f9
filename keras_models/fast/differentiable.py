"""One autograd function for all kernels of this package."""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

Tensors = tuple[Tensor, ...]

# The smallest normal float64: half of it is 0 only where the processor flushes what is smaller to 0.
SMALLEST_NORMAL = 2.2250738585072014e-308


class Arguments(NamedTuple):
    """What a recurrent layer computes from; weights in Keras's layout and order of the gates.

    inputs (batch, time, features), kernel (features, gates·units), recurrent_kernel (units, gates·units), bias
    (gates·units,) or for a GRU (2, gates·units), states (batch, units) each. `keep` (time, batch, 1) is False where a
    timestep is masked, and the states pass over it; None keeps all.
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
    """The loss's gradients by the arguments."""

    inputs: Tensor | None
    kernel: Tensor
    recurrent_kernel: Tensor
    bias: Tensor
    states: tuple[Tensor | None, ...]


class Needed(NamedTuple):
    """Which gradients are needed, beside those by the weights."""

    inputs: bool
    states: bool


class Kernel(Protocol):
    """A way to compute a recurrent layer and its gradients."""

    def forward(self, arguments: Arguments) -> tuple[Outcome, Tensors]:
        """Compute the layer; return also what `backward` needs beside the arguments."""

    def backward(self, arguments: Arguments, saved: Tensors, slopes: Outcome, needed: Needed) -> Gradients:
        """Compute the gradients from those by the outcome."""

    def equations(self, arguments: Arguments) -> Outcome:
        """Compute the layer by operations that autograd can follow as often as asked."""


def compute(kernel: Kernel, arguments: Arguments, sequence: bool) -> tuple[Tensor | None, list[Tensor]]:
    """Return the outputs (batch, time, units), None unless the sequence is asked for, and the last states."""
    tensors = _Computation.apply(kernel, sequence, arguments.keep, arguments.inputs, *arguments[2:5], *arguments.states)
    return (tensors[-1], list(tensors[:-1])) if sequence else (None, list(tensors))


class _Computation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, sequence: bool, keep: Tensor | None, inputs: Tensor, *rest: Tensor
    ) -> Tensors:
        (outputs, states), saved = kernel.forward(Arguments(inputs, keep, *rest[:3], rest[3:]))
        ctx.set_materialize_grads(False)
        ctx.kernel, ctx.sequence = kernel, sequence
        ctx.save_for_backward(keep, inputs, *rest, *saved)
        # Copies: the caller may change them in place; what is saved may not change.
        states = tuple(state.clone() for state in states)
        return (*states, outputs.transpose(0, 1).contiguous()) if sequence else states

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        keep, inputs, *rest = ctx.saved_tensors
        end = 3 + len(slopes) - ctx.sequence
        arguments = Arguments(inputs, keep, *rest[:3], tuple(rest[3:end]))
        by_outcome = Outcome(slopes[-1], slopes[:-1]) if ctx.sequence else Outcome(None, slopes)
        asked = ctx.needs_input_grad[3:]
        if torch.is_grad_enabled():  # the gradients will themselves be differentiated
            return None, None, None, *_by_autograd(ctx.kernel, arguments, by_outcome, asked)
        if by_outcome.outputs is not None:
            by_outcome = by_outcome._replace(outputs=by_outcome.outputs.transpose(0, 1))
        needed = Needed(asked[0], any(asked[4:]))
        # Gradients that vanish over many timesteps become numbers too small to be normal, and those are computed some
        # hundred times more slowly: up to four fifths of a training step on 200 timesteps.
        flushed_before = SMALLEST_NORMAL * 0.5 == 0
        torch.set_flush_denormal(True)
        try:
            gradients = ctx.kernel.backward(arguments, tuple(rest[end:]), by_outcome, needed)
        finally:
            torch.set_flush_denormal(flushed_before)
        return None, None, None, *gradients[:4], *gradients.states


def _by_autograd(kernel: Kernel, arguments: Arguments, slopes: Outcome, asked: tuple[bool, ...]) -> list[Tensor | None]:
    """Compute the gradients in a way that can be differentiated again."""
    outputs, states = kernel.equations(arguments)
    pairs = zip((outputs.transpose(0, 1), *states), (slopes.outputs, *slopes.states), strict=True)
    reached = [(value, slope) for value, slope in pairs if slope is not None]
    leaves = zip((arguments.inputs, *arguments[2:5], *arguments.states), asked, strict=True)
    computed = torch.autograd.grad(
        [value for value, _ in reached],
        [leaf for leaf, is_asked in leaves if is_asked],
        [slope for _, slope in reached],
        create_graph=True,
        allow_unused=True,
    )
    gradients = iter(computed)
    return [next(gradients) if is_asked else None for is_asked in asked]
