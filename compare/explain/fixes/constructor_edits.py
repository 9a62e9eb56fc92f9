"""Edits of the call that makes a layer, on the side that the fix names, and of how weights are mapped."""

import ast
import re
from collections.abc import Iterator

from compare.explain.fixes.expression_edits import expression_edits
from compare.explain.fixes.pair_source import Change, Edit, called
from compare.explain.fixes.request import Request

RECURRENT = ("LSTM", "GRU", "RNN")

GATES = '''def _for_pytorch(name, entry):
    """An entry of parameter_map with {what}."""

    def taken(keras):
        weight = np.asarray(entry(keras)){body}

    return taken if {chosen} and callable(entry) else entry


parameter_map = {{name: _for_pytorch(name, entry) for name, entry in parameter_map.items()}}
'''


def option_edits(request: Request) -> Iterator[Edit | None]:
    """`nn.X(…, option=value)` or `keras.layers.X(…, option=value)`: the option of the call that made the layer."""
    source = request.source
    found = re.fullmatch(r"([\w.]+)\((?:…, )?(.*)\)", request.code)
    if found is None:
        yield from expression_edits(request)
        return
    try:
        wanted = ast.parse(f"f({found[2]})", mode="eval").body
    except SyntaxError:
        yield from expression_edits(request)
        return
    assert isinstance(wanted, ast.Call)
    options = {keyword.arg or "": ast.unparse(keyword.value) for keyword in wanted.keywords}
    name = found[1].rpartition(".")[2]
    if found[1].startswith("keras."):
        calls = source.calls((name,), ("keras_side",))
        where = "in keras_side(): "
    else:
        calls, where = _made(request, name), ""
    if "…" in request.code and options:
        for call in calls:
            changes = [c for key, value in options.items() for c in source.with_keyword(call, key, value)]
            told = ", ".join(f"{key}={value}" for key, value in options.items())
            yield request.edit(f"{where}{called(call)}(…, {told})", *changes)
            yield from _without_state(request, changes, told)
        if len(calls) > 1:
            changes = [c for call in calls for k, v in options.items() for c in source.with_keyword(call, k, v)]
            yield request.edit(f"{where}every {name}(…, {', '.join(f'{k}={v}' for k, v in options.items())})", *changes)
    yield from expression_edits(request)


def _without_state(request: Request, changes: list[Change], told: str) -> Iterator[Edit]:
    """Another batch_first with no initial state: zeros of the old batch's size do not fit the new."""
    source = request.source
    for node in source.at(request.line, request.expression):
        if "batch_first" in told and isinstance(node, ast.Call) and len(node.args) == 2:
            gap = (source.span(node.args[0])[1], source.span(node.args[1])[1], "")
            yield request.edit(f"{told}, and no initial state, which is zeros", *changes, gap)


def _made(request: Request, name: str) -> list[ast.Call]:
    """The calls that may have made the layer: that of the expression's own first."""
    source = request.source
    found: list[ast.Call] = []
    for node in source.at(request.line, request.expression):
        made = source.constructor(node)
        found += [made] if made is not None else []
        found += [node] if isinstance(node, ast.Call) and called(node) == name else []
    return found or source.calls((name,), ("torch_side",))


def map_edits(request: Request) -> Iterator[Edit | None]:
    """Weights in PyTorch's order of gates, or transposed; else transferred by name and shape."""
    source = request.source
    if "parameter_map" not in source.text:
        return
    if request.cause.name == "gru-gate-order":
        body = "\n        z, r, n = np.split(weight, 3)\n        return np.concatenate([r, z, n])"
        chosen = '("weight_" in name or "bias_" in name)'
        text = GATES.format(what="reset before update gate, as PyTorch has them", body=body, chosen=chosen)
        yield request.edit("parameter_map with the reset gate before the update gate", source.appended(text))
    elif request.cause.name == "transposed-kernel":
        text = GATES.format(
            what="the recurrent kernel transposed", body="\n        return weight.T", chosen='"weight_hh" in name'
        )
        yield request.edit("parameter_map with the recurrent kernel transposed", source.appended(text))
    else:
        text = GATES.format(
            what="Keras's gates as they are: i, f, c, o on both sides",
            body="\n        a, b, c, d = np.split(weight, 4)\n        return np.concatenate([a, c, b, d])",
            chosen='("weight_" in name or "bias_" in name)',
        )
        yield request.edit("parameter_map with the gates in Keras's order, which is PyTorch's", source.appended(text))
    statement = next(
        (
            node
            for node in source.tree.body
            if isinstance(node, ast.Assign) and any(source.plain(target) == "parameter_map" for target in node.targets)
        ),
        None,
    )
    if statement is not None:
        told = "no parameter_map: the weights are transferred by name, order and shape"
        yield request.edit(told, source.removed(statement))


def bias_edits(request: Request) -> Iterator[Edit | None]:
    """A bias where the other side has one."""
    source = request.source
    if request.code.startswith("bias=True"):
        for call in source.calls((*RECURRENT, "Linear", "LSTMCell", "GRUCell", "RNNCell", "Conv1d"), ("torch_side",)):
            if any(keyword.arg == "bias" for keyword in call.keywords):
                yield request.edit(f"{called(call)}(…, bias=True)", *source.with_keyword(call, "bias", "True"))
        return
    for name in request.code.partition(": ")[2].split(", "):
        module = name.rpartition(".")[0].rpartition(".")[2]
        for call in _assigned(request, module):
            yield request.edit(f"{called(call)}(…, bias=False)", *source.with_keyword(call, "bias", "False"))


def _assigned(request: Request, attribute: str) -> list[ast.Call]:
    return [
        node.value
        for node in ast.walk(request.source.tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and any(isinstance(target, ast.Attribute) and target.attr == attribute for target in node.targets)
    ]


def rate_edits(request: Request) -> Iterator[Edit | None]:
    """Another rate of a dropout."""
    source = request.source
    rate = re.search(r"\(([\d.e-]+)\)", request.code)
    if rate is None:
        return
    calls = [made for node in source.at(request.line, request.expression) if (made := source.constructor(node))]
    for call in calls or source.calls(("Dropout", "dropout"), ("torch_side",)):
        if called(call) in ("Dropout", "Dropout1d"):
            yield request.edit(f"{called(call)}({rate[1]})", *source.with_keyword(call, "p", rate[1], 0))
        elif called(call) == "dropout":
            yield request.edit(f"dropout(…, {rate[1]})", *source.with_keyword(call, "p", rate[1], 1))
        elif called(call) in RECURRENT:
            yield request.edit(f"{called(call)}(…, dropout={rate[1]})", *source.with_keyword(call, "dropout", rate[1]))


def dropout_edits(request: Request) -> Iterator[Edit | None]:
    """Dropout where it stands in Keras: of whole features, of a layer's inputs, or none."""
    source, code = request.source, request.code
    found = re.match(r"F\.dropout1d|torch\.nn\.functional\.dropout1d", code)
    rate = re.search(r"2\), ([\d.e-]+),", code)
    inward = "dropout=" in (request.cause.fix or "")
    extra: list[tuple[int, int, str]] = []
    if "recurrent_dropout" in (request.cause.fix or ""):
        for call in source.calls(RECURRENT, ("keras_side",)):
            extra += source.without_keyword(call, "recurrent_dropout")
    if found and rate and inward:
        for call in source.calls(RECURRENT, ("torch_side",)):
            yield from _of_inputs(request, call, rate[1], extra)
    elif found and rate:
        for node in source.at(request.line, request.expression):
            if isinstance(node, ast.Call) and node.args:
                x = source.text_of(node.args[0])
                new = f"torch.nn.functional.dropout1d({x}.transpose(1, 2), {rate[1]}, self.training).transpose(1, 2)"
                yield request.edit(f"line {node.lineno}: {new}", source.replaced(node, new))
    elif code.startswith("no dropout there"):
        for call in source.calls(("Dropout", "dropout"), ("torch_side",)):
            yield request.edit(
                f"no {called(call)}", *source.with_keyword(call, "p", "0.0", int(called(call) == "dropout"))
            )
        for call in source.calls(RECURRENT, ("torch_side",)):
            if changes := source.without_keyword(call, "dropout"):
                yield request.edit(f"{called(call)} without dropout", *changes)
    elif extra:
        yield request.edit("in keras_side(): no recurrent_dropout, which no kernel of PyTorch's has", *extra)


def _of_inputs(request: Request, made: ast.Call, rate: str, extra: list[tuple[int, int, str]]) -> Iterator[Edit]:
    """One mask for all timesteps of what a recurrent layer is given; other dropout of the module taken out."""
    source = request.source
    if any(keyword.arg == "bidirectional" for keyword in made.keywords):
        return  # Keras draws a mask for each direction, and nn.LSTM has one input for both
    first = any(k.arg == "batch_first" and getattr(k.value, "value", None) is True for k in made.keywords)
    turn, back = ("transpose(1, 2)", "transpose(1, 2)") if first else ("permute(1, 2, 0)", "permute(2, 0, 1)")
    for call in (n for n in ast.walk(source.tree) if isinstance(n, ast.Call) and n.args):
        if source.constructor(call) is made:
            x = source.text_of(call.args[0])
            new = f"torch.nn.functional.dropout1d({x}.{turn}, {rate}, self.training).{back}"
            change = source.replaced(call.args[0], new)
            new += "; in keras_side(): no recurrent_dropout" if extra else ""
            yield request.edit(f"line {call.lineno}: {new}", change, *extra)
            others = [
                c for d in source.calls(("Dropout",), ("torch_side",)) for c in source.with_keyword(d, "p", "0.0", 0)
            ]
            if others:
                yield request.edit(f"line {call.lineno}: {new}, and no other dropout", change, *extra, *others)
