"""Recurrent layers: Keras's, and nn.RNN, nn.LSTM, nn.GRU in the styles in which people call them."""

from ports.port import Port, Slip

MODULE = {"SimpleRNN": "RNN", "LSTM": "LSTM", "GRU": "GRU"}
MERGED = {"sum": "{a} + {b}", "mul": "{a} * {b}", "ave": "({a} + {b}) / 2"}
CODE, ROWS = "forward-code", "axis-order batch-first"
STEP, SIDE, START = "last-step selection", "backward-last-state selection last-step", "initial-state"


def keras_layers(
    p: Port, cell: str, units: int, depth: int, merge: str | None, sequence: bool, rate: float = 0.0, extra: str = ""
) -> list[str]:
    """Write the layers of the Keras side; return their names."""
    names = []
    for number in range(depth):
        last = number == depth - 1
        arguments = f"{units}" + ("" if last and not sequence else ", return_sequences=True") + extra
        if merge is None:
            names.append(p.add(cell, arguments))
        else:
            mode = "" if merge == "concat" and p.chance(0.7) else f', merge_mode="{merge}"'
            names.append(p.add("Bidirectional", p.layer(cell, arguments)[1] + mode))
        if rate and not last:
            p.add("Dropout", f"{rate}")
    return names


def carry(p: Port, cell: str, attribute: str, layer: str, direction: str | None, suffix: str) -> None:
    """Write down which Keras weights the parameters of one layer and direction of nn.LSTM and its like are."""
    key = layer if direction is None else f"{layer}/{direction}"
    turned = "gates(k['{}']).T" if cell == "GRU" else "k['{}'].T"
    p.weights[f"{attribute}.weight_ih{suffix}"] = turned.format(f"{key}/kernel")
    p.weights[f"{attribute}.weight_hh{suffix}"] = turned.format(f"{key}/recurrent_kernel")
    one, two = ("gates({})[0]", "gates({})[1]") if cell == "GRU" else ("{}", "0 * {}")
    p.weights[f"{attribute}.bias_ih{suffix}"] = one.format(f"k['{key}/bias']")
    p.weights[f"{attribute}.bias_hh{suffix}"] = two.format(f"k['{key}/bias']")


def freeze(p: Port, cell: str, attribute: str, suffixes: list[str]) -> None:
    """Freeze the second bias, which Keras's LSTM and SimpleRNN lack."""
    if cell == "GRU" or any('"bias_hh" in name' in row.text for row in p.after):
        return
    also = rf"self\.{attribute}\b|optim\.|return net|nn\.{MODULE[cell]}"
    if len(suffixes) > 1 or p.chance(0.3):
        loop = 'for name, parameter in net.named_parameters():\n    if "bias_hh" in name:\n        {}'
        p.then(
            loop.format("parameter.requires_grad_(False)"), ("parameter.requires_grad_(False)→pass", "two-biases", also)
        )
    else:
        p.then(f"net.{attribute}.bias_hh{suffixes[0]}.requires_grad_(False)", (None, "two-biases", also))


def fused(
    p: Port,
    cell: str,
    units: int,
    *,
    depth: int = 1,
    merge: str | None = None,
    sequence: bool = False,
    rate: float = 0.0,
) -> None:
    """Put recurrent layers on x of both sides, the PyTorch ones as one nn.RNN, nn.LSTM or nn.GRU."""
    assert depth == 1 or merge in (None, "concat")
    p.kinds |= {cell, "stacked" if depth > 1 else "single", "bidirectional" if merge else "forward"}
    relu = cell == "SimpleRNN" and p.chance(0.25)
    names = keras_layers(p, cell, units, depth, merge, sequence, rate, ', activation="relu"' if relu else "")
    attribute = p.unique("rnn", "encoder", MODULE[cell].lower(), "recurrent")
    suffixes = []
    for number, name in enumerate(names):
        for direction, ending in ((None, ""),) if merge is None else (("forward", ""), ("backward", "_reverse")):
            suffixes.append(f"_l{number}{ending}")
            carry(p, cell, attribute, name, direction, suffixes[-1])
    major = not p.masked and p.chance(0.25)
    text = f"self.{attribute} = nn.{MODULE[cell]}("
    text += f"{p.features}, {units}" if p.chance(0.6) else f"input_size={p.features}, hidden_size={units}"
    text += f", num_layers={depth}" if depth > 1 or p.chance(0.2) else ""
    text += (', nonlinearity="relu"' if relu else "") + (", bidirectional=True" if merge else "")
    text += (f", dropout={rate}" if rate else "") + ("" if major else ", batch_first=True") + ")"
    slips: list[Slip] = [(f", dropout={rate}→", "dropout-placement dropout-rate")] if rate else []
    slips += [(', nonlinearity="relu"→', "activation")] if relu else []
    slips += [] if major else [(", batch_first=True→", "batch-first")]
    p.make(text, *slips)
    if major:
        wrong = f"x = x.reshape({p.time}, -1, {p.features})", ROWS
        p.say(p.pick("x = x.transpose(0, 1)", "x = x.permute(1, 0, 2)"), (None, ROWS), wrong)
    freeze(p, cell, attribute, suffixes)
    call = _call(p, cell, attribute, units, len(suffixes), "x.size(1)" if major else "x.size(0)")
    if sequence:
        _sequence(p, call, units, major, merge)
    else:
        _last(p, call, cell, units, len(suffixes), major, merge)
    p.features = units * (2 if merge == "concat" else 1)


def _call(p: Port, cell: str, attribute: str, units: int, states: int, rows: str) -> str:
    """Write what the call gets: packed sequences, or own states; return the call."""
    if p.masked:
        source = p.pick("lengths", "lengths", "lengths.cpu()")
        short = f"{source}→({source} - 1).clamp(min=1)", "missing-mask selection last-step padding-side"
        text = f"packed = pack_padded_sequence(x, {source}, batch_first=True, enforce_sorted=False)"
        p.say(text, ("packed = x", "missing-mask", rf"self\.{attribute}\("), short)
        return f"self.{attribute}(packed)"
    if p.chance(0.65):
        return f"self.{attribute}(x)"
    p.kinds.add("own states")
    zeros = f"torch.zeros({states}, {rows}, {units})" + p.pick("", ".to(x.device)")
    ones = "zeros→ones", START, rf"self\.{attribute}\("
    p.say(f"h0 = {zeros}", ones)
    if cell != "LSTM":
        return f"self.{attribute}(x, h0)"
    p.say(f"c0 = {zeros}", ones)
    return f"self.{attribute}(x, (h0, c0))"


def _sequence(p: Port, call: str, units: int, major: bool, merge: str | None) -> None:
    p.say(f"x, _ = {call}")
    if p.masked:
        p.say(f"x, _ = pad_packed_sequence(x, batch_first=True, total_length={p.time})")
    if merge in MERGED:
        a, b = f"x[..., :{units}]", f"x[..., {units}:]"
        other = MERGED["mul" if merge == "sum" else "sum"].format(a=a, b=b)
        form = "x = " + MERGED[merge]
        p.say(
            form.format(a=a, b=b),
            (f"x = {other}", "bidirectional-merge"),
            (form.format(a=a, b=a), "bidirectional-merge selection"),
        )
    if major:
        p.say("x = x.transpose(0, 1)", (f"x = x.reshape(-1, {p.time}, x.size(2))", ROWS))


def _last(p: Port, call: str, cell: str, units: int, states: int, major: bool, merge: str | None) -> None:
    """Take the last output, in one of the ways in which people write it."""
    style = p.pick("h", "out") if merge else p.pick("h", "out", "out", "long", "keep", "squeeze")
    if style == "squeeze" and states > 1:
        style = "h"
    if p.masked:
        style = "h" if merge or p.chance(0.5) else "rows"
    p.kinds.add(f"last by {style}")
    if style in ("h", "squeeze"):
        left = p.pick("h, c", "h, c", "h, _") if cell == "LSTM" else ""
        p.say(f"_, ({left}) = {call}" if left else f"_, h = {call}")
        _state(p, style, units, states, merge, left == "h, c")
        return
    p.say(f"out, _ = {call}")
    if style == "rows":
        p.say(f"out, _ = pad_packed_sequence(out, batch_first=True, total_length={p.time})")
        short = "lengths - 1→(lengths - 2).clamp(min=0)", STEP
        p.say("x = out[torch.arange(x.size(0)), lengths - 1]", ("x = out[:, -1]", STEP), short)
    elif merge:
        head = "out[-1, :, " if major else "out[:, -1, "
        a, b = f"{head}:{units}]", f"{head.replace('-1', '0')}{units}:]"
        form = "x = " + MERGED.get(merge, p.pick("torch.cat([{a}, {b}], 1)", "torch.cat(({a}, {b}), dim=1)"))
        slips = [(form.format(a=a, b=f"{head}{units}:]"), SIDE)]
        if merge == "concat":
            slips += [
                ("x = out[-1]" if major else "x = out[:, -1]", SIDE),
                (form.format(a=b, b=a), "join-order selection"),
            ]
        p.say(form.format(a=a, b=b), *slips)
    elif style == "keep" and not major:
        p.say("x = out[:, -1:, :].squeeze(1)", ("-1:→:1", STEP), ("x = out.mean(1)", f"{STEP} {CODE}"))
    else:
        at = "x = out[-1]" if major else "x = out[:, -1]" if style == "out" else "x = out[:, -1, :]"
        p.say(at, ("-1→0", STEP), ("-1→-2", STEP), (f"x = out.mean({0 if major else 1})", f"{STEP} {CODE}"))


def _state(p: Port, style: str, units: int, states: int, merge: str | None, memory: bool) -> None:
    """Take the last output from the states h and, if there is a name for it, not from c."""
    if not merge:
        slips: list[Slip] = [("h→c", "state-choice")] if memory else []
        slips += [("-1→0", "selection layer-order last-step")] if states > 1 else []
        p.say("x = h[-1]" if style == "h" else "x = h.squeeze(0)", *slips)
        return
    form = "x = " + MERGED.get(merge, p.pick("torch.cat([{a}, {b}], 1)", "torch.cat(({a}, {b}), dim=1)"))
    a, b = "h[-2]", "h[-1]"
    if p.chance(0.3):
        layers = f"h = h.view({states // 2}, 2, -1, {units})[-1]"
        p.say(layers, *([("[-1]→[0]", "selection layer-order")] if states > 2 else []))
        a, b = "h[0]", "h[1]"
    slips = [(form.format(a=a, b=a), "selection backward-last-state bidirectional-merge")]
    slips += [(form.format(a=a, b="c[-1]"), "state-choice")] if memory else []
    if merge == "concat":
        slips.append((form.format(a=b, b=a), "join-order selection backward-last-state"))
        slips += [(f"x = h[-2:].reshape(-1, {2 * units})", "axis-order")] if a == "h[-2]" else []
    p.say(form.format(a=a, b=b), *slips)


def two_modules(p: Port, cell: str, units: int, *, sequence: bool) -> None:
    """Put a bidirectional Keras layer on x, its PyTorch side two modules of which one sees the series turned around."""
    p.kinds |= {cell, "bidirectional of two modules"}
    (name,) = keras_layers(p, cell, units, 1, "concat", sequence)
    one, two = p.unique("fwd", "left", "forward_rnn"), p.unique("bwd", "right", "backward_rnn")
    for attribute, direction in ((one, "forward"), (two, "backward")):
        carry(p, cell, attribute, name, direction, "_l0")
        text = f"self.{attribute} = nn.{MODULE[cell]}({p.features}, {units}, batch_first=True)"
        p.make(text, (", batch_first=True→", "batch-first"))
    freeze(p, cell, one, ["_l0", "_l0"])
    p.say(f"a, _ = self.{one}(x)", ("(x)→(x.flip(1))", CODE))
    p.say(
        f"b, _ = self.{two}(x.flip(1))",
        (".flip(1)→", f"{CODE} backward-last-state"),
        ("flip(1)→flip(2)", f"{CODE} reduction-axis axis-order"),
    )
    if sequence:
        p.say(p.pick("b = b.flip(1)", "b = torch.flip(b, [1])"), (None, f"{CODE} backward-last-state", r"torch\.cat"))
        p.say("x = torch.cat([a, b], -1)", ("a, b→b, a", "join-order"))
    else:
        wrong = "x = torch.cat([b[:, -1], a[:, -1]], 1)", "join-order"
        p.say("x = torch.cat([a[:, -1], b[:, -1]], 1)", wrong, ("b[:, -1]→b[:, 0]", SIDE))
    p.features = 2 * units
