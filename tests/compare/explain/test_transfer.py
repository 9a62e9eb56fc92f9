"""Whose weights are whose: by name, order and shape, and by values where these leave it open."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.errors import InputError
from compare.explain.transfer import Transfer, transfer
from compare.explain.weight_maps import Use

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}


def keras_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights all of whose numbers are different."""
    draw = np.random.default_rng(0)
    return {path: draw.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}


def dense(*names: str, size: tuple[int, int] = (3, 2)) -> dict[str, tuple[int, ...]]:
    """The variables of dense layers of one size."""
    return {f"{name}/{part}": shape for name in names for part, shape in (("kernel", size), ("bias", size[1:]))}


def linear(*names: str, size: tuple[int, int] = (3, 2)) -> dict[str, tuple[int, ...]]:
    """The parameters of linear modules of one size."""
    return {f"{name}.{part}": s for name in names for part, s in (("weight", size[::-1]), ("bias", size[1:]))}


def layer_of(transferred: Transfer, name: str) -> str:
    """The Keras layer whose kernel a parameter has."""
    return transferred.maps[name].paths[0].rpartition("/")[0]


def test_names_come_before_the_order_of_use() -> None:
    """Heads get the layers that their names mean, in whatever order they are used, and nothing is left open."""
    transferred = transfer(dense("head_price", "head_volume"), linear("volume_head", "price_head"), {})
    assert layer_of(transferred, "price_head.weight") == "head_price"
    assert layer_of(transferred, "volume_head.weight") == "head_volume"
    assert not transferred.choices


def test_layers_of_one_shape_are_a_choice() -> None:
    """Where names say nothing the order of use is the first guess, every other order a choice."""
    transferred = transfer(dense("dense", "dense_1", "dense_2"), linear("a", "b", "c"), {})
    assert [layer_of(transferred, f"{name}.weight") for name in "abc"] == ["dense", "dense_1", "dense_2"]
    ((about, options),) = transferred.choices
    assert about == "a and b and c"
    orders = {tuple(option[f"{name}.weight"].paths[0] for name in "abc") for option in options}
    assert len(orders) == 5


def test_a_name_that_is_told_is_no_choice() -> None:
    """One head whose name tells leaves the other two open."""
    transferred = transfer(dense("dense", "price", "dense_1"), linear("price_head", "b", "c"), {})
    assert layer_of(transferred, "price_head.weight") == "price"
    assert [about for about, _ in transferred.choices] == ["b and c"]


@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("dims", [(6, 6, 6), (6, 5, 4)], ids=["packed", "kdim and vdim"])
def test_multi_head_attention_has_a_place(dims: tuple[int, int, int], bias: bool) -> None:
    """nn.MultiheadAttention gets Keras's projections, heads joined, packed or apart."""
    parts = dict(zip(("query", "key", "value"), dims, strict=True))
    shapes: dict[str, tuple[int, ...]] = {f"mha/{part}/kernel": (size, 2, 3) for part, size in parts.items()}
    shapes["mha/attention_output/kernel"] = (2, 3, 6)
    if bias:
        shapes |= {f"mha/{part}/bias": (2, 3) for part in parts} | {"mha/attention_output/bias": (6,)}
    same = len(set(dims)) == 1
    torch: dict[str, tuple[int, ...]] = (
        {"attn.in_proj_weight": (18, 6)}
        if same
        else {f"attn.{part[0]}_proj_weight": (6, size) for part, size in parts.items()}
    )
    torch |= {"attn.in_proj_bias": (18,)} if bias else {}
    torch |= {"attn.out_proj.weight": (6, 6)} | ({"attn.out_proj.bias": (6,)} if bias else {})
    transferred, k = transfer(shapes, torch, {}), keras_weights(shapes)
    assert set(transferred.maps) == set(torch)
    assert not transferred.unmatched
    query = k["mha/query/kernel"].reshape(dims[0], 6).T
    name = "attn.in_proj_weight" if same else "attn.q_proj_weight"
    np.testing.assert_array_equal(transferred.weight(name, k, torch[name])[:6], query)
    out = transferred.weight("attn.out_proj.weight", k, (6, 6))
    np.testing.assert_array_equal(out, k["mha/attention_output/kernel"].reshape(6, 6).T)


def recurrent(kind: str, features: int, units: int, rows: bool) -> dict[str, tuple[int, ...]]:
    """The variables of a recurrent layer."""
    width = GATES[kind] * units
    bias: tuple[int, ...] = (2, width) if rows else (width,)
    shapes: dict[str, tuple[int, ...]] = {"kernel": (features, width), "recurrent_kernel": (units, width), "bias": bias}
    return {f"{kind}/{kind}_cell/{name}": shape for name, shape in shapes.items()}


def pieces(kind: str, features: int, units: int, style: str, order: tuple[int, ...], inward: bool) -> dict[str, Any]:
    """The parameters of a hand-written cell as functions of Keras's kernel, recurrent kernel and bias."""
    count, h = GATES[kind], units

    def columns(a: np.ndarray, gate: int) -> np.ndarray:
        return a[..., gate * h : (gate + 1) * h]

    def turned(a: np.ndarray) -> np.ndarray:
        return a if inward else a.T

    if style == "joined":
        both = lambda k, u, b: np.concatenate([columns(np.concatenate([k, u]), g) for g in order], 1)  # noqa: E731
        made = {"cell.gates.weight": lambda k, u, b: turned(both(k, u, b))}
        return made | {"cell.gates.bias": lambda k, u, b: np.concatenate([columns(b, g) for g in order])}
    if style == "two":
        return {
            "cell.i2h.weight": lambda k, u, b: turned(np.concatenate([columns(k, g) for g in order], 1)),
            "cell.i2h.bias": lambda k, u, b: np.concatenate([columns(b.reshape(-1, count * h)[0], g) for g in order]),
            "cell.h2h.weight": lambda k, u, b: turned(np.concatenate([columns(u, g) for g in order], 1)),
            "cell.h2h.bias": lambda k, u, b: (
                np.concatenate([columns(b[1], g) for g in order]) if b.ndim == 2 else np.zeros(count * h)
            ),
        }
    letters = {1: "h", 3: "zrn", 4: "ifgo"}[count]
    made = {}
    for gate in order:
        for name, which in (("W", 0), ("U", 1)):
            made[f"cell.{name}_{letters[gate]}"] = lambda k, u, b, g=gate, w=which: turned(columns((k, u)[w], g))
        made[f"cell.b_{letters[gate]}"] = lambda k, u, b, g=gate: columns(b.reshape(-1, count * h).sum(0), g)
    return made


@given(
    st.sampled_from(sorted(GATES)), st.integers(2, 5), st.integers(2, 5), st.sampled_from(["joined", "two", "each"]),
    st.booleans(), st.randoms(use_true_random=False),
)  # fmt: skip
def test_a_written_cell_has_a_place(
    kind: str, features: int, units: int, style: str, inward: bool, random: Any
) -> None:
    """A cell of one matrix, two or two a gate, in either orientation and any order of gates, is among the options.

    A matrix that could take the input or the state is known by what it is fed with.
    """
    rows = kind == "gru" and style == "two"
    order = tuple(random.sample(range(GATES[kind]), GATES[kind]))
    shapes = recurrent(kind, features, units, rows)
    made = pieces(kind, features, units, style, order, inward)
    k = keras_weights(shapes)
    wanted = {name: function(*k.values()) for name, function in made.items()}
    uses = {
        name: Use(9, inward, fed=not ("h2h" in name or ".U_" in name), state_first=False)
        for name in wanted
        if wanted[name].ndim == 2
    }
    transferred = transfer(
        shapes | dense("out", size=(units, units)),
        {name: value.shape for name, value in wanted.items()} | linear("fc", size=(units, units)),
        {},
        uses,
    )
    assert layer_of(transferred, "fc.weight") == "out"
    options = [transferred.maps, *(option for _, options in transferred.choices for option in options)]

    def obtained(maps: Any, name: str) -> np.ndarray:
        return Transfer({**transferred.maps, **maps}).weight(name, k, wanted[name].shape)

    assert any(
        all(np.allclose(obtained(maps, name), value, atol=1e-6) for name, value in wanted.items()) for maps in options
    )


@pytest.mark.parametrize("state_first", [False, True], ids=["input first", "state first"])
def test_what_is_joined_in_which_order_is_seen(state_first: bool) -> None:
    """A matrix for input and state has its rows in the order in which the program joins them."""
    shapes = recurrent("simple_rnn", 3, 2, rows=False)
    uses = {"cell.weight": Use(9, False, None, state_first)}
    transferred, k = transfer(shapes, {"cell.weight": (2, 5), "cell.bias": (2,)}, {}, uses), keras_weights(shapes)
    kernel, recurrent_kernel, _ = k.values()
    parts = [recurrent_kernel, kernel] if state_first else [kernel, recurrent_kernel]
    np.testing.assert_array_equal(transferred.weight("cell.weight", k, (2, 5)), np.concatenate(parts).T)


def test_orders_of_gates_are_choices() -> None:
    """One matrix for four gates may have them in any order; of matrices that are named after gates nothing is open."""
    shapes = recurrent("lstm", 3, 2, rows=False)
    transferred = transfer(shapes, {"cell.weight": (8, 5), "cell.bias": (8,)}, {})
    ((_, options),) = transferred.choices
    assert len(options) + 1 == len(list(permutations(range(4))))
    each = {f"cell.{gate}_gate.{part}": s for gate in ("forget", "input", "cell", "output")
            for part, s in (("weight", (2, 5)), ("bias", (2,)))}  # fmt: skip
    transferred, k = transfer(shapes, each, {}), keras_weights(shapes)
    assert not transferred.choices
    kernel, recurrent_kernel, _ = k.values()
    wanted = np.concatenate([kernel, recurrent_kernel])[:, 2:4].T
    np.testing.assert_array_equal(transferred.weight("cell.forget_gate.weight", k, (2, 5)), wanted)


def test_a_packed_tensor_goes_with_the_layer_that_the_user_names() -> None:
    """Of two recurrent layers of one shape a module gets the one that `parameter_map` says."""
    shapes = {f"{name}/cell/{part}": s for name in ("lstm", "lstm_1")
              for part, s in (("kernel", (3, 8)), ("recurrent_kernel", (2, 8)), ("bias", (8,)))}  # fmt: skip
    torch = {f"{name}.{part}_l0": s for name in ("a", "b") for part, s in
             (("weight_ih", (8, 3)), ("weight_hh", (8, 2)), ("bias_ih", (8,)), ("bias_hh", (8,)))}  # fmt: skip
    transferred = transfer(shapes, torch, {"a.weight_ih_l0": "lstm_1/cell/kernel"})
    assert layer_of(transferred, "a.weight_hh_l0") == "lstm_1/cell"
    assert layer_of(transferred, "b.weight_hh_l0") == "lstm/cell"


@pytest.mark.parametrize("shape", [(4, 5), (6, 3)], ids=["features", "units"])
def test_what_does_not_fit_is_told_with_shapes(shape: tuple[int, int]) -> None:
    """A parameter of another size is refused, with its name and shape and what Keras has."""
    with pytest.raises(InputError, match=rf"cell.weight \({shape[0]}, {shape[1]}\).*simple_rnn_cell/kernel \(3, 2\)"):
        transfer(recurrent("simple_rnn", 3, 2, rows=False), {"cell.weight": shape}, {})
