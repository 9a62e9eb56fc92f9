"""Attention layers: written out, with Keras's masks."""

from collections.abc import Callable
from typing import Any

from compare.port.graph import Call, Tensor, Weight
from compare.port.torch_writer.code import Module, Refused, literal

MULTI_HEAD = '''
class MultiHeadAttention(nn.Module):
    """Attention of several heads; the mask is True where a query may look at a key."""

    def __init__(self, features, value_features, heads, key_size, value_size, out_features, dropout=0.0, bias=True):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(features, heads * key_size, bias)
        self.key = nn.Linear(value_features, heads * key_size, bias)
        self.value = nn.Linear(value_features, heads * value_size, bias)
        self.output = nn.Linear(heads * value_size, out_features, bias)

    def forward(self, query, value, key=None, mask=None):
        key = value if key is None else key
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -3e38)
        weights = F.dropout(torch.softmax(scores, -1), self.dropout, self.training)
        return self.output((weights @ v).transpose(1, 2).flatten(2))
'''


def attention(module: Module, call: Call) -> None:
    """Attention (Luong's) and AdditiveAttention (Bahdanau's)."""
    layer, inputs = module.layer_of(call), call.arguments[0]
    config = layer.config
    query, value, *rest = inputs
    key = rest[0] if rest else value
    q, v, k = (module.text(part) for part in (query, value, key))
    module.file.imports.add("torch")
    scores, weights = module.temporary("scores"), module.temporary("weights")
    module.line(f"{scores} = {_scores(module, call, q, k)}")
    masks = call.keywords.get("mask") or [None, None]
    allowed = None if masks[1] is None else f"{module.text(masks[1])}[:, None]"
    if call.keywords.get("use_causal_mask"):
        causal = f"torch.ones_like({scores}[0], dtype=torch.bool).tril()"
        allowed = causal if allowed is None else f"{allowed} & {causal}"
    if allowed is not None:
        module.line(f"{scores} = torch.where({allowed}, {scores}, {scores} - 1e9)")
    rate = float(config.get("dropout") or 0.0)
    if rate:
        module.file.imports.add("F")
    text = f"torch.softmax({scores}, -1)"
    module.line(f"{weights} = {f'F.dropout({text}, {literal(rate)}, self.training)' if rate else text}")
    result = f"{weights} @ {v}"
    if masks[0] is not None:
        result = f"torch.where({module.text(masks[0])}[..., None], {result}, 0.0)"
    if len(call.shapes) > 1 and module.is_used(Tensor(call.name, 1)):
        module.alias(Tensor(call.name, 1), weights)
    module.assign(call, result)


def _scores(module: Module, call: Call, q: str, k: str) -> str:
    config, weights = module.layer_of(call).config, module.layer_of(call).weights
    scale = f"self.{module.parameter(Weight(str(call.layer), 'scale'))}" if "scale" in weights else ""
    pairs = f"{q}[:, :, None] + {k}[:, None]"
    if call.kind == "AdditiveAttention":
        product = f"{scale} * torch.tanh({pairs})" if scale else f"torch.tanh({pairs})"
        return f"({product}).sum(-1)"
    if config.get("score_mode", "dot") == "concat":
        concat = f"self.{module.parameter(Weight(str(call.layer), 'concat_score_weight'))}"
        inner = f"{scale} * ({pairs})" if scale else pairs
        return f"{concat} * torch.tanh({inner}).sum(-1)"
    product = f"{q} @ {k}.transpose(1, 2)"
    return f"{product} * {scale}" if scale else product


def multi_head(module: Module, call: Call) -> None:
    """MultiHeadAttention."""
    layer, config = module.layer_of(call), module.layer_of(call).config
    names = ("query", "value", "key")
    given: dict[str, Any] = dict(zip(names, call.arguments, strict=False)) | {
        name: call.keywords[name] for name in names if call.keywords.get(name) is not None
    }
    for name in ("return_attention_scores",):
        if call.keywords.get(name):
            raise Refused(call, "its scores as an output", {name: True})
    if list(config.get("attention_axes") or [1]) != [1] or len(module.shape(given["query"])) != 3:
        raise Refused(call, "attention over other axes than time", {"attention_axes": config.get("attention_axes")})
    if config.get("use_gate") or config.get("sliding_window"):
        raise Refused(call, "a gate or a sliding window")
    key_shape = module.shape(given.get("key", given["value"]))
    if key_shape[-1] != module.shape(given["value"])[-1]:
        raise Refused(call, "keys and values of different sizes")
    module.file.imports |= {"torch", "F", "math"}
    own = module.file.helper("MultiHeadAttention", MULTI_HEAD)
    attribute = module.submodule(str(call.layer), lambda: _made(module, call, own, given, layer.config))
    arguments = [module.text(given["query"]), module.text(given["value"])]
    arguments += [module.text(given["key"])] if "key" in given else []
    mask = _allowed(module, call, given)
    module.assign(call, f"{attribute}({', '.join([*arguments, *([f'mask={mask}'] if mask else [])])})")


def _made(module: Module, call: Call, own: str, given: dict[str, Any], config: Any) -> str:
    heads, key_size = int(config["num_heads"]), int(config["key_dim"])
    value_size = int(config.get("value_dim") or key_size)
    features, value_features = (module.shape(given[name])[-1] for name in ("query", "value"))
    path, attribute = module.path_of(call), module.attribute(str(call.layer))
    bias, rate = bool(config.get("use_bias", True)), float(config.get("dropout") or 0.0)
    for role in ("query", "key", "value"):
        module.weight(f"{attribute}.{role}.weight", f"{path}{role}/kernel", lambda v: v.reshape(len(v), -1).T)
    module.weight(f"{attribute}.output.weight", f"{path}output/kernel", lambda v: v.reshape(-1, v.shape[-1]).T)
    if bias:
        for role in ("query", "key", "value", "output"):
            module.weight(f"{attribute}.{role}.bias", f"{path}{role}/bias", lambda v: v.ravel())
    options = (f", dropout={literal(rate)}" if rate else "") + ("" if bias else ", bias=False")
    width = call.shapes[0][-1]
    return f"{own}({features}, {value_features}, {heads}, {key_size}, {value_size}, {width}{options})"


def _allowed(module: Module, call: Call, given: dict[str, Any]) -> str | None:
    parts = []
    masks = {name: call.keywords.get(f"{name}_mask") for name in ("query", "value", "key", "attention")}
    if masks["query"] is not None:
        parts.append(f"{module.text(masks['query'])}[:, :, None]")
    for name in ("value", "key"):
        if masks[name] is not None:
            parts.append(f"{module.text(masks[name])}[:, None]")
    if call.keywords.get("use_causal_mask"):
        lengths = [f"{module.text(given[name])}.shape[1]" for name in ("query", "value")]
        parts.append(f"torch.ones({lengths[0]}, {lengths[1]}, dtype=torch.bool).tril()[None]")
    if masks["attention"] is not None:
        parts.append(f"{module.text(masks['attention'])}.bool()")
    return " & ".join(dict.fromkeys(parts)) or None


HANDLERS: dict[str, Callable[[Module, Call], None]] = {
    "Attention": attention,
    "AdditiveAttention": attention,
    "MultiHeadAttention": multi_head,
}
