"""SimpleRNN, LSTM and GRU as a loop over the timesteps, with backpropagation through time written out.

Followed by autograd, a timestep is some thirty small operations, the weights' gradients of every timestep among them.
Here the loop forwards keeps the gates; from them the slopes of all timesteps are computed at once, the loop backwards
does only what depends on the timestep after it, and the weights' gradients are one matrix product each.

A gate's sum is what its activation is applied to; `factors` are the slopes of h, or of c, by the sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from keras_models.fast.activations import Activation
from keras_models.fast.differentiable import Arguments, Gradients, Needed, Outcome, Tensors


@dataclass(frozen=True)
class SimpleRNNLoop:
    """h = activation(x @ kernel + h @ recurrent_kernel + bias)."""

    activation: Activation

    def forward(self, arguments: Arguments) -> tuple[Outcome, Tensors]:
        hidden = _starting_with(arguments.states[0], arguments)
        torch.addmm(arguments.bias, _rows(arguments.inputs), arguments.kernel, out=hidden[1:].flatten(0, 1))
        for step, (old, new) in enumerate(pairwise(hidden.unbind())):
            self.activation.in_place(new.addmm_(old, arguments.recurrent_kernel))
            if arguments.keep is not None:
                torch.where(arguments.keep[step], new, old, out=new)
        return Outcome(hidden[1:], (hidden[-1],)), (hidden,)

    def backward(self, arguments: Arguments, saved: Tensors, slopes: Outcome, needed: Needed) -> Gradients:
        (hidden,) = saved
        factors = self.activation.slope(hidden[1:])
        if arguments.keep is not None:
            factors.mul_(arguments.keep)
        state = _Backwards(arguments, slopes, needed, _passed_on(arguments))
        for step, factor in _from_last(factors):
            state.go_back(step, factor.mul_(state.slope))
        by_sums = factors
        return Gradients(
            _by_inputs(arguments, by_sums, needed),
            _product(_rows(arguments.inputs), by_sums),
            _product(hidden[:-1], by_sums),
            by_sums.sum((0, 1)),
            (state.by_first,),
        )

    def equations(self, arguments: Arguments) -> Outcome:
        (h,) = arguments.states
        outputs = []
        for step, x in enumerate(arguments.inputs.unbind(1)):
            new_h = self.activation.function(x @ arguments.kernel + h @ arguments.recurrent_kernel + arguments.bias)
            h = _where_kept(arguments, step, new_h, h)
            outputs.append(h)
        return Outcome(torch.stack(outputs), (h,))


@dataclass(frozen=True)
class LSTMLoop:
    """c = forget·c + input·candidate; h = output·activation(c); gates in the order input, forget, candidate, output."""

    activation: Activation
    recurrent_activation: Activation

    def forward(self, arguments: Arguments) -> tuple[Outcome, Tensors]:
        activate, activate_gate = self.activation.in_place, self.recurrent_activation.in_place
        units = arguments.recurrent_kernel.shape[0]
        hidden, carry = (_starting_with(state, arguments) for state in arguments.states)
        gates = _inputs_sums(arguments, arguments.bias)
        activated = torch.empty_like(carry[1:])
        parts = zip(
            pairwise(hidden.unbind()),
            pairwise(carry.unbind()),
            gates.unbind(),
            gates[..., : 2 * units].unbind(),
            *(gate.unbind() for gate in gates.chunk(4, -1)),
            activated.unbind(),
            strict=True,
        )
        for step, ((h, new_h), (c, new_c), sums, input_and_forget, i, f, candidate, o, active) in enumerate(parts):
            sums.addmm_(h, arguments.recurrent_kernel)
            activate_gate(input_and_forget)
            activate(candidate)
            activate_gate(o)
            torch.mul(f, c, out=new_c).addcmul_(i, candidate)
            torch.mul(o, activate(active.copy_(new_c)), out=new_h)
            if arguments.keep is not None:
                torch.where(arguments.keep[step], new_c, c, out=new_c)
                torch.where(arguments.keep[step], new_h, h, out=new_h)
        return Outcome(hidden[1:], (hidden[-1], carry[-1])), (hidden, carry, gates, activated)

    def backward(self, arguments: Arguments, saved: Tensors, slopes: Outcome, needed: Needed) -> Gradients:
        hidden, carry, gates, activated = saved
        gates = gates.unflatten(-1, (4, -1))
        i, f, candidate, o = gates.unbind(2)
        factors = self.recurrent_activation.slope(gates)
        factors[:, :, 0].mul_(candidate)
        factors[:, :, 1].mul_(carry[:-1])
        torch.mul(self.activation.slope(candidate), i, out=factors[:, :, 2])
        factors[:, :, 3].mul_(activated)
        h_by_c = self.activation.slope(activated).mul_(o)
        if arguments.keep is not None:
            factors.mul_(arguments.keep.unsqueeze(-1))
            h_by_c.mul_(arguments.keep)
            f = torch.where(arguments.keep, f, 1)

        state = _Backwards(arguments, slopes, needed, _passed_on(arguments))
        by_c = _clone(slopes.states[1], arguments.states[1])
        by_c_of_gates = by_c.unsqueeze(1)
        by_sums = factors.flatten(2)
        parts = (factors[:, :, :3], factors[:, :, 3], by_sums, h_by_c, f)
        for step, through_c, through_output, by_sum, share, forget in _from_last(*parts):
            by_c.addcmul_(state.slope, share)
            through_c.mul_(by_c_of_gates)
            through_output.mul_(state.slope)
            by_c.mul_(forget)
            state.go_back(step, by_sum)
        return Gradients(
            _by_inputs(arguments, by_sums, needed),
            _product(_rows(arguments.inputs), by_sums),
            _product(hidden[:-1], by_sums),
            by_sums.sum((0, 1)),
            (state.by_first, by_c),
        )

    def equations(self, arguments: Arguments) -> Outcome:
        activate, activate_gate = self.activation.function, self.recurrent_activation.function
        h, c = arguments.states
        outputs = []
        for step, x in enumerate(arguments.inputs.unbind(1)):
            sums = x @ arguments.kernel + h @ arguments.recurrent_kernel + arguments.bias
            i, f, candidate, o = sums.chunk(4, -1)
            new_c = activate_gate(f) * c + activate_gate(i) * activate(candidate)
            h = _where_kept(arguments, step, activate_gate(o) * activate(new_c), h)
            c = _where_kept(arguments, step, new_c, c)
            outputs.append(h)
        return Outcome(torch.stack(outputs), (h, c))


@dataclass(frozen=True)
class GRULoop:
    """h = update·h + (1 − update)·candidate, reset after the product; gates in the order update, reset, candidate."""

    activation: Activation
    recurrent_activation: Activation

    def forward(self, arguments: Arguments) -> tuple[Outcome, Tensors]:
        activate, activate_gate = self.activation.in_place, self.recurrent_activation.in_place
        units = arguments.recurrent_kernel.shape[0]
        to_both, to_candidate = arguments.recurrent_kernel.split((2 * units, units), 1)
        # Only the candidate's two biases have to be added in two places.
        bias, recurrent_bias = arguments.bias.unbind()
        bias = torch.cat((bias[: 2 * units] + recurrent_bias[: 2 * units], bias[2 * units :]))
        hidden = _starting_with(arguments.states[0], arguments)
        gates = _inputs_sums(arguments, bias)
        recurrent = recurrent_bias[2 * units :].expand_as(hidden[1:]).clone()
        parts = zip(
            pairwise(hidden.unbind()),
            gates[..., : 2 * units].unbind(),
            *(gate.unbind() for gate in gates.chunk(3, -1)),
            recurrent.unbind(),
            strict=True,
        )
        for step, ((h, new_h), both, update, reset, candidate, to_reset) in enumerate(parts):
            activate_gate(both.addmm_(h, to_both))
            activate(candidate.addcmul_(reset, to_reset.addmm_(h, to_candidate)))
            if arguments.keep is not None:
                update.masked_fill_(~arguments.keep[step], 1)
            torch.lerp(candidate, h, update, out=new_h)
        return Outcome(hidden[1:], (hidden[-1],)), (hidden, gates, recurrent)

    def backward(self, arguments: Arguments, saved: Tensors, slopes: Outcome, needed: Needed) -> Gradients:
        hidden, gates, recurrent = saved
        gates = gates.unflatten(-1, (3, -1))
        update, reset, candidate = gates.unbind(2)
        h_by_candidate = self.activation.slope(candidate)
        h_by_candidate.addcmul_(h_by_candidate, update, value=-1)
        factors = self.recurrent_activation.slope(gates)
        factors[:, :, 0].mul_(hidden[:-1] - candidate)
        factors[:, :, 1].mul_(h_by_candidate).mul_(recurrent)
        torch.mul(h_by_candidate, reset, out=factors[:, :, 2])
        if arguments.keep is not None:
            factors.mul_(arguments.keep.unsqueeze(-1))

        state = _Backwards(arguments, slopes, needed, update)
        by_sums = factors.flatten(2)
        for step, factor, by_sum in _from_last(factors, by_sums):
            factor.mul_(state.slope.unsqueeze(1))
            state.go_back(step, by_sum)
        by_recurrent_kernel, by_recurrent_bias = _product(hidden[:-1], by_sums), by_sums.sum((0, 1))
        # Of the candidate's sum, what comes from the state is multiplied by reset, what comes from the inputs is not.
        torch.mul(state.slopes, h_by_candidate, out=factors[:, :, 2])
        return Gradients(
            _by_inputs(arguments, by_sums, needed),
            _product(_rows(arguments.inputs), by_sums),
            by_recurrent_kernel,
            torch.stack((by_sums.sum((0, 1)), by_recurrent_bias)),
            (state.by_first,),
        )

    def equations(self, arguments: Arguments) -> Outcome:
        (h,) = arguments.states
        outputs = []
        for step, x in enumerate(arguments.inputs.unbind(1)):
            from_inputs = (x @ arguments.kernel + arguments.bias[0]).chunk(3, -1)
            from_state = (h @ arguments.recurrent_kernel + arguments.bias[1]).chunk(3, -1)
            update, reset = (self.recurrent_activation.function(from_inputs[n] + from_state[n]) for n in (0, 1))
            candidate = self.activation.function(from_inputs[2] + reset * from_state[2])
            h = _where_kept(arguments, step, update * h + (1 - update) * candidate, h)
            outputs.append(h)
        return Outcome(torch.stack(outputs), (h,))


class _Backwards:
    """The loss's gradient by h, taken back one timestep at a time from the last.

    `direct` (time, batch, units or 1) is the share of it that reaches the h before without passing through a sum.
    """

    def __init__(self, arguments: Arguments, slopes: Outcome, needed: Needed, direct: Tensor | None) -> None:
        (first, *_), (by_last, *_) = arguments.states, slopes.states
        self.back = arguments.recurrent_kernel.t()
        self.direct = None if direct is None else direct.unbind()
        self.slopes = first.new_empty(arguments.inputs.shape[1], *first.shape)
        self.steps = self.slopes.unbind()
        self.by_first = torch.empty_like(first) if needed.states else None
        self.nothing = torch.zeros_like(first)
        self.of_outputs = None if slopes.outputs is None else slopes.outputs.unbind()
        self.slope = self.steps[-1].copy_(self.nothing if by_last is None else by_last)
        if self.of_outputs is not None:
            self.slope.add_(self.of_outputs[-1])

    def go_back(self, step: int, by_sum: Tensor) -> None:
        """Go from h after a timestep to h before it, given the gradient by the timestep's sums."""
        before = self.steps[step - 1] if step else self.by_first
        if before is None:
            return
        base = self.of_outputs[step - 1] if step and self.of_outputs is not None else self.nothing
        if self.direct is not None:
            self.slope = torch.addcmul(base, self.slope, self.direct[step], out=before).addmm_(by_sum, self.back)
        else:
            self.slope = torch.addmm(base, by_sum, self.back, out=before)


def _starting_with(state: Tensor, arguments: Arguments) -> Tensor:
    """Make room for a state at every timestep (1 + time, batch, units), with the first in its place."""
    states = state.new_empty(1 + arguments.inputs.shape[1], *state.shape)
    states[0] = state
    return states


def _rows(inputs: Tensor) -> Tensor:
    """Put (batch, time, features) into rows (time·batch, features)."""
    return inputs.transpose(0, 1).flatten(0, 1)


def _inputs_sums(arguments: Arguments, bias: Tensor) -> Tensor:
    """What the inputs contribute to the gates' sums (time, batch, gates·units)."""
    batch, steps, _ = arguments.inputs.shape
    return torch.addmm(bias, _rows(arguments.inputs), arguments.kernel).view(steps, batch, -1)


def _product(left: Tensor, by_sums: Tensor) -> Tensor:
    """The gradient by a weight that `left`, of one row for each timestep of each sequence, is multiplied by."""
    rows = by_sums.flatten(0, 1).flatten(1)
    return left.reshape(len(rows), -1).t() @ rows


def _by_inputs(arguments: Arguments, by_sums: Tensor, needed: Needed) -> Tensor | None:
    return (by_sums @ arguments.kernel.t()).transpose(0, 1) if needed.inputs else None


def _clone(slope: Tensor | None, state: Tensor) -> Tensor:
    return torch.zeros_like(state) if slope is None else slope.clone()


def _passed_on(arguments: Arguments) -> Tensor | None:
    """1 where a state passes over a masked timestep, else 0."""
    return None if arguments.keep is None else (~arguments.keep).to(arguments.inputs.dtype)


def _where_kept(arguments: Arguments, step: int, new: Tensor, old: Tensor) -> Tensor:
    return new if arguments.keep is None else torch.where(arguments.keep[step], new, old)


def _from_last(*sequences: Tensor) -> Iterator[tuple[int, *Tensors]]:
    """Go through tensors along their first axis from the end; yields (step, tensor at the step, …)."""
    parts = [sequence.unbind() for sequence in sequences]
    return zip(range(len(parts[0]) - 1, -1, -1), *map(reversed, parts), strict=True)
