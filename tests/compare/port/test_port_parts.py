"""What a port is made of, without a framework: places of weights, expressions, sources."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare.errors import InputError
from compare.explain.nested import packed, unpacked
from compare.port.graph import Call, Graph, Layer, Tensor, Weight, as_tree, graph_of
from compare.port.source import framework_of, read_source
from compare.port.torch_writer.code import identifier, is_infix, without_double_parentheses, without_parentheses
from compare.port.torch_writer.weights import WeightMap, parameter_map

SHAPES = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_weights_there_and_back_are_the_same(
    tmp_path_factory: object, shapes: list[tuple[int, ...]], seed: int
) -> None:
    """Whatever is transposed, cut or joined comes back bit by bit, and a pair file's functions do the same."""
    draw = np.random.default_rng(seed)
    arrays = {f"layer{i}/kernel": draw.normal(size=shape).astype(np.float32) for i, shape in enumerate(shapes)}
    places = WeightMap(arrays)
    for path, value in arrays.items():
        if draw.random() < 0.4:
            places.add(path.replace("/", "."), lambda v: v.T, [path])
        elif draw.random() < 0.5:
            cut = int(draw.integers(1, len(value) + 1))
            places.add(f"{path}.first".replace("/", "."), lambda v, cut=cut: v[:cut], [path])
            places.add(f"{path}.rest".replace("/", "."), lambda v, cut=cut: v[cut:], [path])
        else:
            places.add(path.replace("/", "."), lambda v: np.flip(v, -1), [path])
    places.add_zeros("second.bias", 3)
    tensors = places.of(arrays)
    back = places.back(tensors)
    assert all(back[path].tobytes() == value.tobytes() for path, value in arrays.items())
    assert not tensors["second.bias"].any()
    file = tmp_path_factory.mktemp("places") / "places.npz"  # type: ignore[attr-defined]
    places.save(file)
    for name, function in parameter_map(str(file)).items():
        assert np.array_equal(function(arrays), tensors[name]), name


def test_a_weight_without_a_place_is_told() -> None:
    """A part of a weight that no tensor holds is no silent loss."""
    places = WeightMap({"dense/kernel": np.ones((2, 3), np.float32)})
    places.add("dense.weight", lambda v: v.T[:2], ["dense/kernel"])
    with pytest.raises(InputError, match="dense/kernel has no place"):
        places.back({"dense.weight": np.ones((2, 2), np.float32)})


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "b", "c"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner),
    max_leaves=6,
)


def text_of(tree: object) -> str:
    """An expression as the writer makes it of its parts."""
    if isinstance(tree, str):
        return tree
    left, sign, right = tree  # type: ignore[misc]
    parts = [text if not is_infix(text) else f"({text})" for text in (text_of(left), text_of(right))]
    loose = sign in "+-"
    first = without_parentheses(parts[0], "*/@+-" if loose else "*" if sign == "*" else "")
    return f"{first} {sign} {without_parentheses(parts[1], '*/@' if loose else '')}"


def value_of(tree: object, names: dict[str, float]) -> float:
    """What an expression comes to."""
    if isinstance(tree, str):
        return names[tree]
    left, sign, right = tree  # type: ignore[misc]
    a, b = value_of(left, names), value_of(right, names)
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else 0.0}[sign]


@given(EXPRESSIONS)
def test_expressions_keep_their_value_with_fewer_parentheses(tree: object) -> None:
    """Parentheses are left out only where nothing is computed otherwise, bit by bit."""
    names = {"a": 1.1, "b": 2.7, "c": -0.3}
    text = without_double_parentheses(f"x = f({text_of(tree)})")
    try:
        found = eval(text.removeprefix("x = "), {"f": lambda x: x, **names})  # noqa: S307 - made above
    except ZeroDivisionError:
        return
    expected = value_of(tree, names)
    assert found == expected or (np.isnan(found) and np.isnan(expected)) or "/" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lstm", "lstm"), ("dense-1", "dense_1"), ("1st", "_1st"), ("class", "class_"), ("train", "train_"), ("", "_")],
)
def test_names_of_layers_are_names_in_python(name: str, expected: str) -> None:
    """A layer's name is kept as far as Python and nn.Module allow."""
    assert identifier(name) == expected


def test_a_graph_is_the_same_after_it_was_sent() -> None:
    """Tensors, weights, slices and arrays are what they were in another process."""
    inner = Graph(
        "cell", [Tensor("x")], Tensor("x"), [Call("x", "InputLayer", shapes=((None, 3),), dtypes=("float32",))]
    )
    layer = Layer(
        "own", "Own", {"units": 2}, {"w": np.ones((2, 2), np.float32)}, ("w",), {"cell": Layer("c", "C")}, inner
    )
    key = [slice(None), slice(1, None, 2), ..., -1]
    keywords = {"by": Weight("own", "w")}
    call = Call("cut", "ops.get_item", (Tensor("x"), key), keywords, "own", ((None, 2),), ("float32",))
    graph = Graph("all", {"x": Tensor("x")}, [Tensor("cut", 1)], [call], {"own": layer}, [None, Tensor("cut")])
    facts, arrays = packed(as_tree(graph))
    sent = graph_of(unpacked(facts, arrays))
    assert sent.calls[0].arguments == (Tensor("x"), [slice(None), slice(1, None, 2), ..., -1])
    assert sent.calls[0].keywords == {"by": Weight("own", "w")}
    assert as_tree(sent).keys() == as_tree(graph).keys()
    assert sent.outputs == graph.outputs
    assert sent.masks == graph.masks
    assert dict(sent.all_weights())["own/w"].tobytes() == layer.weights["w"].tobytes()
    assert sent.layers["own"].graph is not None
    assert sent.layers["own"].graph.calls == inner.calls


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("weights.pkl", "is a pickle"),
        ("model.pt", "is a pickle"),
        ("model.weights.h5", "holds weights alone"),
        ("model.onnx", "give a .keras or .h5 file"),
        ("none.keras", "cannot be read"),
        ("none.py:build", "cannot be read"),
        ("file.py", "name the function"),
        ("file.py:other", "defines no 'other'; it defines build"),
        ("broken.py:build", "broken.py:1"),
    ],
)
def test_what_is_no_source_is_refused(tmp_path: Path, source: str, message: str) -> None:
    """A source that cannot be ported is refused before anything runs, with what would do."""
    (tmp_path / "file.py").write_text("import keras\ndef build():\n    raise SystemExit\n", "utf-8")
    (tmp_path / "broken.py").write_text("def build(:\n", "utf-8")
    with pytest.raises(InputError) as refused:
        read_source(str(tmp_path / source))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import keras\ndef build(): ...", "keras"),
        ("from torch import nn\ndef build(): ...", "torch"),
        ("import torch\nimport keras\ndef build():\n    import tensorflow as tf", "keras"),
    ],
    ids=["keras", "torch", "inside"],
)
def test_the_framework_is_seen_in_what_is_imported(tmp_path: Path, text: str, expected: str) -> None:
    """What a factory makes is told by what its file, or it itself, imports."""
    (tmp_path / "file.py").write_text(text, "utf-8")
    assert framework_of(read_source(f"{tmp_path}/file.py:build")) == expected


def test_a_framework_that_is_not_clear_is_asked_for(tmp_path: Path) -> None:
    """Both frameworks at the top of a file leave it open."""
    (tmp_path / "file.py").write_text("import torch, keras\ndef build(): ...", "utf-8")
    with pytest.raises(InputError, match="imports both"):
        framework_of(read_source(f"{tmp_path}/file.py:build"))
