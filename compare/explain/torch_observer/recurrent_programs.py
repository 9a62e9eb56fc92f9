"""What may have been meant at a recurrent kernel: its axes, states, gates, masks and activations.

A kernel called with inputs and states of unlike batch sizes corrupts memory without an error: `torch._VF` checks
nothing, so whatever calls one here makes states that fit.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional as F

from compare.explain.torch_observer.programs import Context, Program, simple
from compare.explain.torch_observer.recorder import FUSED, Argument, Operation, Recorder, is_packed

CELLS = ("lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell")
GATES = {"lstm": 4, "gru": 3}
WHOLE = 9
PACKED = "nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False), and the last state"
LSTM_ORDERS = ((0, 2, 1, 3), (0, 1, 3, 2), (0, 2, 3, 1), (1, 0, 2, 3))
FUNCTIONS = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "linear": lambda t: t,
    "elu": F.elu,
    "selu": F.selu,
    "softsign": F.softsign,
    "hard_sigmoid": lambda t: (t / 6 + 0.5).clamp(0, 1),
    "silu": F.silu,
    "gelu": F.gelu,
    "softplus": F.softplus,
    "exponential": torch.exp,
    "leaky_relu": lambda t: F.leaky_relu(t, 0.2),
}


def propose(context: Context) -> Iterator[Program]:
    """Everything that may have been meant at a fused kernel or a cell."""
    operation = context.operation
    if operation.name in CELLS:
        yield from _gate_orders(context, 2)
        if operation.name == "gru_cell":
            yield context.put(
                "gru-reset-after",
                "keras.layers.GRU(…, reset_after=True)  # the only form that nn.GRUCell has",
                simple(_cell_reset_before),
            )
        yield from _states(context, 1)
    elif operation.name in FUSED and len(operation.arguments) == WHOLE and not is_packed(operation.arguments):
        name = operation.name.split("_")[0]
        first = bool(operation.arguments[8])
        yield context.put("batch-first", f"nn.{name.upper()}(…, batch_first={not first})", simple(_other_axes))
        yield from _gate_orders(context, None)
        yield from _transposed(context)
        yield from _loops(context, name)
        yield from _states(context, None)


def padding_programs(context: Context) -> Iterator[Program]:
    """Sequences that are padded in front and packed as if they were padded behind; other lengths than Keras's mask."""
    operation = context.operation
    yield from _lengths(context)
    if (
        not context.keras["masked"]
        or operation.name not in ("index_select", "_pack_padded_sequence")
        or len(context.tensors[0].shape) != 3
    ):
        return
    rows = context.tensors[0].shape[:2]
    for key, tensor in context.training.current.recorder.live.items():
        if isinstance(key[0], str) and key[0].startswith("x") and tuple(tensor.shape[:2]) == tuple(rows):

            def rolled(recorder: Recorder, o: Operation, args: Any, options: Any, result: Any, key: Any = key) -> Any:
                mask = _mask_of(recorder.live[key])
                order = torch.argsort((~mask).int(), dim=1, stable=True)
                moved = args[0].gather(1, order[:, :, None].expand_as(args[0]))
                return o.function(moved, *args[1:], **options)

            code = (
                "x = keras.utils.pad_sequences(x, padding='post')  # packed sequences take the padding at the end alone"
            )
            yield context.put("padding-side", code, rolled, onward=True, cost=0)


def _lengths(context: Context) -> Iterator[Program]:
    """The number of timesteps that Keras does not mask, where whole numbers for every row are made."""
    operation = context.operation
    value = operation.outputs[0]
    if not context.keras["masked"] or value.dtype.kind != "i" or value.ndim != 1:
        return
    for key, tensor in context.training.current.recorder.live.items():
        named = isinstance(key[0], str) and key[0].startswith("x")
        if not named or tensor.dim() not in (2, 3) or tensor.shape[0] != len(value):
            continue

        def counted(recorder: Recorder, o: Operation, args: Any, options: Any, result: Any, key: Any = key) -> Any:
            return _mask_of(recorder.live[key]).sum(1).to(result.dtype)

        code = "lengths = (x != 0).sum(1)  # of the tokens, as mask_zero has it"
        yield context.put("missing-mask", code, counted, onward=True, cost=0)


def state_programs(context: Context) -> Iterator[Program]:
    """States that are drawn, or made of ones, where Keras's are zero."""
    operation = context.operation
    if operation.name in (
        "randn",
        "rand",
        "ones",
        "randn_like",
        "rand_like",
        "ones_like",
        "normal",
        "full",
        "empty",
        "randint",
        "xavier_normal_",
        "normal_",
        "uniform_",
    ):
        alike = [o for o in context.operations if o.name == operation.name]
        patches = {o.place: simple(lambda o, a, k, r: torch.zeros_like(r)) for o in alike}
        yield Program(
            "initial-state",
            "torch.zeros(…)  # in the place of every such state",
            patches,
            0,
            operation=operation,
            trivial=True,
        )


def _fresh(state: torch.Tensor, batch: int) -> torch.Tensor:
    """A state for another batch size, of the same kind: its rows taken in turn."""
    if state.shape[1] == batch:
        return state
    return state.index_select(1, torch.arange(batch) % state.shape[1]).contiguous()


def _of_states(hx: Any, function: Any) -> Any:
    return function(hx) if torch.is_tensor(hx) else tuple(function(h) for h in hx)


def _other_axes(operation: Operation, args: Any, options: Any, result: Any) -> Any:
    """The same call with batch and time exchanged, with states of the other batch's size."""
    x, hx, first = args[0], args[1], args[8]
    batch = x.shape[1] if first else x.shape[0]
    return operation.function(x, _of_states(hx, lambda h: _fresh(h, batch)), *args[2:8], not first)


def _gate_orders(context: Context, weights: int | None) -> Iterator[Program]:
    operation = context.operation
    orders: dict[tuple[int, ...], tuple[str, str]]
    if "gru" in operation.name:
        orders = {
            (1, 0, 2): (
                "gru-gate-order",
                "z, r, n = np.split(kernel, 3, axis=1); weight = np.concatenate([r, z, n], axis=1).T",
            )
        }
    elif "lstm" in operation.name:
        code = "i, f, c, o = np.split(kernel, 4, axis=1); weight = kernel.T  # the same order"
        orders = dict.fromkeys(LSTM_ORDERS, ("lstm-gate-order", code))
    else:
        return

    def turned(weight: torch.Tensor, turn: Any) -> torch.Tensor:
        parts = weight.chunk(len(turn), 0)
        return torch.cat([parts[i] for i in turn], 0)

    for turn, (cause, code) in orders.items():

        def run(o: Operation, args: Any, options: Any, result: Any, turn: Any = turn) -> Any:
            if weights is not None:
                return o.function(*args[:weights], *[None if w is None else turned(w, turn) for w in args[weights:]])
            return o.function(args[0], args[1], [turned(w, turn) for w in args[2]], *args[3:])

        yield context.put(cause, code, simple(run))


def _transposed(context: Context) -> Iterator[Program]:
    """Recurrent weights that were copied without being transposed."""

    def turned(weight: torch.Tensor) -> torch.Tensor:
        if weight.dim() != 2 or weight.shape[0] % weight.shape[1]:
            return weight
        return torch.cat([part.T for part in weight.split(weight.shape[1], 0)], 0)

    def run(o: Operation, args: Any, options: Any, result: Any) -> Any:
        each = 4 if args[3] else 2
        return o.function(
            args[0], args[1], [turned(w) if i % each == 1 else w for i, w in enumerate(args[2])], *args[3:]
        )

    yield context.put("transposed-kernel", "weight_hh = recurrent_kernel.T", simple(run))


def _cell_reset_before(operation: Operation, args: Any, options: Any, result: Any) -> Any:
    x, h, inward, onward, bias, second = (*args, None, None)[:6]
    return _step("gru", x, h, [inward, onward, bias, second], "tanh", "sigmoid", True)


def _step(name: str, x: Any, state: Any, weights: Any, activation: str, recurrent: str, before: bool) -> Any:
    """One timestep of a cell with any activations; `before` resets a GRU's state before the product, as the paper."""
    f, s = FUNCTIONS[activation], FUNCTIONS[recurrent]
    inward, onward, bias, second = weights
    a = F.linear(x, inward, bias)
    if name == "lstm":
        h, c = state
        i, j, g, o = (a + F.linear(h, onward, second)).chunk(4, 1)
        c = s(j) * c + s(i) * f(g)
        return s(o) * f(c), c
    if name == "gru":
        u = state.shape[1]
        b = F.linear(state, onward, second)
        r, z = s(a[:, :u] + b[:, :u]), s(a[:, u : 2 * u] + b[:, u : 2 * u])
        if before:
            last = None if second is None else second[2 * u :]
            n = f(a[:, 2 * u :] + F.linear(r * state, onward[2 * u :], last))
        else:
            n = f(a[:, 2 * u :] + r * b[:, 2 * u :])
        return (1 - z) * n + z * state
    return f(a + F.linear(state, onward, second))


def rounded_kernel(name: str, args: Any, rounded: Any) -> Any:
    """A fused kernel computed timestep by timestep, every state rounded at random."""
    return layer(name.split("_")[0], args, "relu" if name == "rnn_relu" else "tanh", "sigmoid", False, None, rounded)


def layer(
    name: str, args: Any, activation: str, recurrent: str, before: bool, mask: torch.Tensor | None, rounded: Any = None
) -> Any:
    """A whole recurrent kernel's call, timestep by timestep; masked steps hold state and output, as Keras does."""
    x, hx, weights, biased, layers, _, _, both, first = args
    x = x if first else x.transpose(0, 1)
    directions, each = 2 if both else 1, 4 if biased else 2
    finals = []
    for number in range(layers):
        outputs = []
        for direction in range(directions):
            index = number * directions + direction
            packed = [*weights[index * each : (index + 1) * each], *([] if biased else [None, None])]
            state = tuple(h[index] for h in hx) if name == "lstm" else hx[index]
            output, steps = torch.zeros_like(state[0] if name == "lstm" else state), []
            times = range(x.shape[1])[:: -1 if direction else 1]
            for t in times:
                new = _step(name, x[:, t], state, packed, activation, recurrent, before)
                if rounded is not None:
                    new = tuple(map(rounded, new)) if name == "lstm" else rounded(new)
                told = new[0] if name == "lstm" else new
                if mask is not None:
                    on = mask[:, t, None]
                    told = torch.where(on, told, output)
                    new = (
                        tuple(torch.where(on, n, s) for n, s in zip(new, state, strict=True))
                        if name == "lstm"
                        else torch.where(on, new, state)
                    )
                state, output = new, told
                steps.append(told)
            outputs.append(torch.stack(steps[:: -1 if direction else 1], 1))
            finals.append(state)
        x = torch.cat(outputs, -1)
    out = x if first else x.transpose(0, 1)
    if name == "lstm":
        return out, torch.stack([f[0] for f in finals]), torch.stack([f[1] for f in finals])
    return out, torch.stack(finals)


def _loops(context: Context, name: str) -> Iterator[Program]:
    """Activations and forms that the kernel has not, and masks."""
    layers = [
        entry
        for entry in context.keras["layers"]
        if "recurrent_activation" in entry or entry["class"].startswith(("SimpleRNN", "LSTM", "GRU", "RNN"))
    ]
    mine = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}[name]
    default = "relu" if context.operation.name == "rnn_relu" else "tanh"
    forms = {
        (
            entry.get("activation", default),
            entry.get("recurrent_activation", "sigmoid"),
            not entry.get("reset_after", True),
        )
        for entry in layers
        if entry["class"] in (mine, f"{mine}Cell")
    }
    masks: list[str | None] = [None, *_masks(context)]
    for activation, recurrent, before in sorted(forms | {(default, "sigmoid", False)}):
        if activation not in FUNCTIONS or recurrent not in FUNCTIONS:
            continue
        for leaf in masks:
            if leaf is None and (activation, recurrent, before) == (default, "sigmoid", False):
                continue
            if leaf is not None:
                cause, code = "missing-mask", PACKED
            elif before and name == "gru":
                cause = "gru-reset-after"
                code = "keras.layers.GRU(…, reset_after=True)  # the only form that nn.GRU has"
            elif activation == default:
                cause, code = "recurrent-activation", f"keras.layers.{mine}(…, recurrent_activation='sigmoid')"
            elif mine == "SimpleRNN" and activation in ("tanh", "relu"):
                cause, code = "activation", f"nn.RNN(…, nonlinearity={activation!r})"
            else:
                cause = "activation"
                code = f"keras.layers.{mine}(…, activation={default!r})  # what PyTorch's layer computes"

            def run(
                recorder: Recorder,
                o: Operation,
                args: Any,
                options: Any,
                result: Any,
                form: Any = (activation, recurrent, before),
                leaf: Any = leaf,
            ) -> Any:
                mask = None if leaf is None else _mask_of(recorder.live[leaf, 0])
                activation, recurrent, before = form
                return layer(name, args, activation, recurrent, before, mask)

            yield context.put(cause, code, run, cost=2 if leaf is None else 3)


def _masks(context: Context) -> list[str]:
    """The inputs whose zeros may be padding of this call's timesteps."""
    if not context.keras["masked"]:
        return []
    value = context.operation.arguments[0]
    assert isinstance(value, Argument)
    rows = value.shape[:2] if context.operation.arguments[8] else value.shape[1::-1]
    return [
        key[0]
        for key, tensor in context.training.current.recorder.live.items()
        if isinstance(key[0], str)
        and key[0].startswith("x")
        and tuple(tensor.shape[:2]) == tuple(rows)
        and tensor.dim() in (2, 3)
    ]


def _mask_of(x: torch.Tensor) -> torch.Tensor:
    return (x != 0).any(-1) if x.dim() == 3 else x != 0


class KeptState:
    """Goes on from the states of the step before; restarted with every training."""

    def __init__(self, place: int) -> None:
        self.place = place
        self.states: dict[int, Any] = {}

    def restart(self) -> None:
        """Forget the states."""
        self.states.clear()

    def __call__(self, recorder: Recorder, operation: Operation, args: Any, options: Any, result: Any) -> Any:
        earlier = self.states.get(operation.number)
        if earlier is not None:
            result = operation.function(*args[: self.place], earlier, *args[self.place + 1 :])
        states = tuple(r.detach() for r in result[1:])
        self.states[operation.number] = states if operation.name == "lstm" else states[0]
        return result


def _states(context: Context, cell: int | None) -> Iterator[Program]:
    operation = context.operation
    if cell is None and context.step > 0:
        yield context.put(
            "stateful-reset",
            "self.state = tuple(s.detach() for s in state)  # kept in forward(), given to the next batch's call",
            KeptState(1),
            cost=0,
        )
    hx = operation.arguments[1] if len(operation.arguments) > 1 else None
    states = [state for state in (hx if isinstance(hx, list | tuple) else [hx]) if isinstance(state, Argument)]
    if not states:
        return
    keys = [state.key for state in states]
    if any(not isinstance(key[0], int) or context.operations[key[0]].outputs[key[1]].any() for key in keys):
        zero = simple(lambda o, a, k, r: o.function(a[0], _of_states(a[1], torch.zeros_like), *a[2:], **k))
        cause = "stateful-reset" if context.step > 0 else "initial-state"
        yield context.put(
            cause,
            "self.hidden = None  # at the start of every batch" if context.step else "no initial state: zeros",
            zero,
            cost=1,
        )
    if operation.name in ("lstm", "lstm_cell") and isinstance(hx, list | tuple):
        for word, order in (("(c, h)", (1, 0)), ("(h, h)", (0, 0)), ("(c, c)", (1, 1))):
            swapped = simple(lambda o, a, k, r, t=order: o.function(a[0], tuple(a[1][i] for i in t), *a[2:], **k))
            yield context.put(
                "state-choice" if order == (1, 0) else "initial-state",
                f"{word} for (h, c) as the initial state",
                swapped,
            )
