"""What stands around recurrent layers: embeddings, convolutions, attention, normalisation, pooling, heads."""

from ports.port import Port, Slip
from ports.recurrent import CODE, STEP


def linear(p: Port, attribute: str, layer: str) -> None:
    """Write down that an nn.Linear has the weights of a Dense layer."""
    p.weights |= {f"{attribute}.weight": f"k['{layer}/kernel'].T", f"{attribute}.bias": f"k['{layer}/bias']"}


def embedding(p: Port, words: int, size: int, *, mask: bool) -> None:
    """Put an embedding on the tokens x; with a mask, `lengths` is there afterwards."""
    p.kinds |= {"embedding", *(["mask"] if mask else [])}
    frozen = p.chance(0.15)
    name = p.add("Embedding", f"{words}, {size}" + ", mask_zero=True" * mask + ", trainable=False" * frozen)
    attribute = p.unique("emb", "embedding", "embed")
    p.make(f"self.{attribute} = nn.Embedding({words}, {size}{', padding_idx=0' if mask and p.chance(0.6) else ''})")
    if frozen:
        also = rf"self\.{attribute}|optim\.|return"
        p.then(f"net.{attribute}.weight.requires_grad_(False)", (None, "frozen-parameter", also))
    p.weights[f"{attribute}.weight"] = f"k['{name}/embeddings']"
    if mask:
        wrong = f"lengths = torch.full((x.size(0),), {p.time})"
        p.say("lengths = (x != 0).sum(1)", (wrong, "missing-mask", r"pack_padded_sequence|lengths - 1"))
    p.say(f"x = self.{attribute}(x)")
    p.features, p.masked = size, mask


def convolution(p: Port, filters: int, *, same: bool) -> None:
    """Put a Conv1D on x, perhaps with a pooling behind it."""
    kind = "same" if same else p.pick("valid", "causal")
    stride = 2 if kind == "valid" and p.time > 7 and p.chance(0.3) else 1
    active, pool = p.pick("relu", "relu", "tanh"), p.pick("", "Max", "Average")
    if same or p.time // stride < 8:
        pool = ""
    p.kinds |= {f"conv {kind}", *([f"{pool} pooling"] if pool else [])}
    more = (f', padding="{kind}"' if kind != "valid" else "") + (f", strides={stride}" if stride > 1 else "")
    name = p.add("Conv1D", f'{filters}, 3{more}, activation="{active}"')
    attribute = p.unique("conv")
    more = (f", stride={stride}" if stride > 1 else "") + (", padding=1" if same else "")
    p.make(f"self.{attribute} = nn.Conv1d({p.features}, {filters}, 3{more})")
    p.weights |= {
        f"{attribute}.weight": f"k['{name}/kernel'].transpose(2, 1, 0)",
        f"{attribute}.bias": f"k['{name}/bias']",
    }
    turn = p.pick("x.permute(0, 2, 1)", "x.transpose(1, 2)")
    p.say(f"x = {turn}", (f"x = x.reshape(x.size(0), {p.features}, {p.time})", "axis-order"))
    if kind == "causal":
        causes = f"{CODE} padding-side", rf"self\.{attribute}\("
        p.say("x = nn.functional.pad(x, (2, 0))", ("(2, 0)→(0, 2)", *causes), ("(2, 0)→(1, 1)", *causes))
    other = "tanh" if active == "relu" else "relu"
    p.say(
        f"x = torch.{active}(self.{attribute}(x))",
        (f"x = self.{attribute}(x)", "activation"),
        (f"{active}→{other}", "activation"),
    )
    time = p.time if kind != "valid" else (p.time - 3) // stride + 1
    if pool:
        p.add(f"{pool}Pooling1D", "2")
        pooled = p.unique("pool")
        one, two = ("Max", "Avg") if pool == "Max" else ("Avg", "Max")
        p.make(f"self.{pooled} = nn.{one}Pool1d(2)", (f"{one}→{two}", CODE))
        p.say(f"x = self.{pooled}(x)")
        time //= 2
    p.say(f"x = {turn}", (f"x = x.reshape(x.size(0), {time}, {filters})", "axis-order"))
    p.time, p.features = time, filters


def dropout(p: Port) -> None:
    """Put a Dropout on x."""
    p.kinds.add("dropout")
    rate = p.random.choice([0.2, 0.3, 0.5])
    p.add("Dropout", f"{rate}")
    attribute = p.unique("drop")
    p.make(f"self.{attribute} = nn.Dropout({rate})", (f"{rate}→{rate / 2}", "dropout-rate"))
    p.say(f"x = self.{attribute}(x)", (None, "dropout-placement dropout-rate", rf"self\.{attribute}\b"))


def dense(p: Port, units: int) -> None:
    """Put a Dense layer with an activation on x, whatever its axes."""
    p.kinds.add("dense")
    active = p.pick("relu", "tanh", "sigmoid", "elu")
    name = p.add("Dense", f'{units}, activation="{active}"')
    attribute = p.unique("fc", "hidden", "dense")
    p.make(f"self.{attribute} = nn.Linear({p.features}, {units})")
    linear(p, attribute, name)
    call = "nn.functional.elu" if active == "elu" else f"torch.{active}"
    other = "torch.tanh" if active != "tanh" else "torch.sigmoid"
    p.say(
        f"x = {call}(self.{attribute}(x))",
        (f"x = self.{attribute}(x)", "activation"),
        (f"{call}→{other}", "activation"),
    )
    p.features = units


def norm(p: Port, *, sequence: bool) -> None:
    """Put a LayerNormalization or a BatchNormalization on x."""
    eps = p.pick("1e-3", "1e-5")
    epsilon: Slip = (f"{eps}→{'1e-5' if eps == '1e-3' else '1e-3'}", "normalization-epsilon")
    layer = p.chance(0.6)
    attribute = p.unique("norm" if layer else "bn")
    forgotten: Slip = (None, f"{CODE} normalization-epsilon", rf"self\.{attribute}\b")
    if layer:
        p.kinds.add("layer norm")
        name = p.add("LayerNormalization", "" if eps == "1e-3" and p.chance(0.7) else f"epsilon={eps}")
        p.make(f"self.{attribute} = nn.LayerNorm({p.features}, eps={eps})", epsilon)
        p.say(f"x = self.{attribute}(x)", forgotten)
    else:
        p.kinds.add("batch norm")
        keeps = p.random.choice([0.9, 0.99])
        name = p.add("BatchNormalization", ("momentum=0.9, " if keeps == 0.9 else "") + f"epsilon={eps}")
        momentum = "" if keeps == 0.9 else ", momentum=0.01"
        slip: Slip = (f"{momentum})→)" if momentum else ")→, momentum=0.9)", "normalization-momentum")
        p.make(f"self.{attribute} = nn.BatchNorm1d({p.features}, eps={eps}{momentum})", epsilon, slip)
        if not sequence:
            p.say(f"x = self.{attribute}(x)", forgotten)
        elif p.chance(0.4):
            p.say(f"x = self.{attribute}(x.reshape(-1, {p.features})).reshape(x.size(0), -1, {p.features})")
        else:
            p.say(f"x = self.{attribute}(x.transpose(1, 2)).transpose(1, 2)")
    p.weights |= {f"{attribute}.weight": f"k['{name}/gamma']", f"{attribute}.bias": f"k['{name}/beta']"}


def attention(p: Port) -> None:
    """Put self-attention on the sequence x: dot products by hand, or MultiHeadAttention."""
    size = p.features
    if size % 2 or p.chance(0.5):
        p.kinds.add("dot attention")
        p.keras_line(f"x = {p.layer('Attention')[1]}([x, x])")
        scaled = f"scores = torch.bmm(x, x.transpose(1, 2)) / {size}**0.5", CODE, "softmax"
        p.say(p.pick("scores = torch.bmm(x, x.transpose(1, 2))", "scores = x @ x.transpose(1, 2)"), scaled)
        slips = ("dim=-1→dim=1", "reduction-axis"), ("weights = torch.sigmoid(scores)", f"activation {CODE}")
        p.say("weights = torch.softmax(scores, dim=-1)", *slips)
        p.say("x = torch.bmm(weights, x)", ("weights→weights.transpose(1, 2)", f"axis-order {CODE}"))
        return
    p.kinds.add("multi-head attention")
    bias = p.chance(0.7)
    name, text = p.layer("MultiHeadAttention", f"2, {size // 2}" + ", use_bias=False" * (not bias))
    p.keras_line(f"x = {text}(x, x)")
    attribute = p.unique("attention")
    slips = (", batch_first=True→", "batch-first"), (f"{size}, 2→{size}, 1", CODE)
    more = ", bias=False" * (not bias)
    p.make(f"self.{attribute} = nn.MultiheadAttention({size}, 2{more}, batch_first=True)", *slips)
    p.say(f"x, _ = self.{attribute}(x, x, x)")
    kernels = ", ".join(f"k['{name}/{part}/kernel'].reshape({size}, -1).T" for part in ("query", "key", "value"))
    biases = ", ".join(f"k['{name}/{part}/bias'].reshape(-1)" for part in ("query", "key", "value"))
    p.weights |= {
        f"{attribute}.in_proj_weight": f"np.concatenate([{kernels}])",
        f"{attribute}.out_proj.weight": f"k['{name}/attention_output/kernel'].reshape(-1, {size}).T",
    }
    if bias:
        p.weights |= {
            f"{attribute}.in_proj_bias": f"np.concatenate([{biases}])",
            f"{attribute}.out_proj.bias": f"k['{name}/attention_output/bias']",
        }


def pooled_attention(p: Port) -> None:
    """Sum the sequence x with weights that a small network gives each timestep."""
    p.kinds.add("additive attention")
    one, two = p.layer("Dense", '6, activation="tanh"'), p.layer("Dense", "1")
    p.keras_line(f"hidden = {one[1]}(x)")
    p.keras_line(f"scores = {two[1]}(hidden)")
    p.keras_line("weights = layers.Softmax(axis=1)(scores)")
    p.keras_line("x = keras.ops.sum(weights * x, axis=1)")
    p.make(f"self.project = nn.Linear({p.features}, 6)")
    p.make("self.score = nn.Linear(6, 1)")
    linear(p, "project", one[0])
    linear(p, "score", two[0])
    p.say(
        "scores = self.score(torch.tanh(self.project(x)))", ("tanh→relu", "activation"), ("torch.tanh→", "activation")
    )
    p.say(
        "weights = torch.softmax(scores, dim=1)", ("dim=1→dim=0", "reduction-axis"), ("dim=1→dim=-1", "reduction-axis")
    )
    p.say("x = (weights * x).sum(1)", ("sum→mean", f"{CODE} reduction-axis"), ("weights * x→x", CODE))


def pooling(p: Port) -> None:
    """Take the mean or the maximum of the sequence x over time, or both."""
    kind = p.pick("mean", "max", "both")
    p.kinds.add(f"pooling over time: {kind}")
    mean = p.pick("x.mean(1)", "x.mean(dim=1)")
    top = p.pick("x.max(1)[0]", "x.max(dim=1).values", "x.amax(1)")
    if kind == "both":
        a, b = p.layer("GlobalAveragePooling1D")[1], p.layer("GlobalMaxPooling1D")[1]
        p.keras_line(f"x = layers.concatenate([{a}(x), {b}(x)])")
        slips = (f"{mean}, {top}→{top}, {mean}", "join-order"), (f"{top}→{mean}", f"{CODE} selection")
        p.say(f"x = torch.cat([{mean}, {top}], 1)", *slips)
        p.features *= 2
        return
    p.add("GlobalAveragePooling1D" if kind == "mean" else "GlobalMaxPooling1D")
    right, wrong = (mean, top) if kind == "mean" else (top, mean)
    summed: list[Slip] = [("mean→sum", f"{CODE} reduction-axis")] if kind == "mean" else []
    p.say(
        f"x = {right}", (f"x = {wrong}", f"{CODE} reduction-axis {STEP}"), ("x = x[:, -1]", f"{STEP} {CODE}"), *summed
    )


def head(p: Port, outputs: int, *, sequence: bool, more: str = "", variable: str = "x") -> str:
    """Put the last Dense layer on x; return the attribute."""
    key, text = p.layer("Dense", f"{outputs}{more}")
    if sequence and p.chance(0.5):
        key, text = p.layer("TimeDistributed", text)
    p.keras.append(("layer", text) if variable == "x" else ("line", f"{variable} = {text}(x)"))
    attribute = p.unique("fc", "out", "head", "linear")
    p.make(f"self.{attribute} = nn.Linear({p.features}, {outputs})")
    linear(p, attribute, key)
    if sequence and p.chance(0.35):
        p.kinds.add("flattened head")
        rows = p.pick("-1", f"x.size(0) * {p.time}")
        turned = "x.reshape→x.transpose(0, 1).reshape", "axis-order", r"flat\.view"
        p.say(f"flat = self.{attribute}(x.reshape({rows}, {p.features}))", turned)
        wrong = f"{variable} = flat.view({p.time}, -1, {outputs}).transpose(0, 1)"
        p.say(f"{variable} = flat.view(-1, {p.time}, {outputs})", (wrong, "axis-order"))
    else:
        p.say(f"{variable} = self.{attribute}(x)")
    return attribute
