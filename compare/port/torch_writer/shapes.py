"""Layers that change a shape, and those that make one tensor of several."""

from collections.abc import Callable

from compare.port.graph import Call
from compare.port.torch_writer.code import Module, Refused, only


def reshape(module: Module, call: Call) -> None:
    """Reshape and Flatten."""
    x = module.text(only(call))
    if call.kind == "Flatten":
        module.assign(call, f"{x}.flatten(1)" if len(module.shape(only(call))) > 1 else f"{x}[:, None]")
        return
    target = module.layer_of(call).config["target_shape"]
    module.assign(call, f"{x}.reshape(len({x}), {', '.join(map(str, target))})")


def permute(module: Module, call: Call) -> None:
    """Permute."""
    dims = module.layer_of(call).config["dims"]
    module.assign(call, f"{module.text(only(call))}.permute(0, {', '.join(map(str, dims))})")


def repeat_vector(module: Module, call: Call) -> None:
    """RepeatVector."""
    count = module.layer_of(call).config["n"]
    module.assign(call, f"{module.text(only(call))}[:, None].expand(-1, {count}, -1)")


def padded(module: Module, call: Call) -> None:
    """ZeroPadding1D, Cropping1D and UpSampling1D."""
    config, x = module.layer_of(call).config, module.text(only(call))
    if call.kind == "UpSampling1D":
        module.assign(call, f"{x}.repeat_interleave({config['size']}, 1)")
        return
    key = "padding" if call.kind == "ZeroPadding1D" else "cropping"
    left, right = config[key] if isinstance(config[key], list) else [config[key]] * 2
    if call.kind == "ZeroPadding1D":
        module.file.imports.add("F")
        module.assign(call, f"F.pad({x}, (0, 0, {left}, {right}))")
    else:
        module.assign(call, f"{x}[:, {left}:{-right if right else ''}]")


def merge(module: Module, call: Call) -> None:
    """Add, Subtract, Multiply, Average, Maximum, Minimum: of the inputs, broadcast."""
    parts = [module.text(part) for part in only(call)]
    if call.keywords.get("mask"):
        _masked_merge(module, call, parts)
        return
    ranks = {len(module.shape(part)) for part in only(call)}
    if len(ranks) > 1:
        raise Refused(call, "inputs of different ranks")
    sign = {"Add": " + ", "Subtract": " - ", "Multiply": " * ", "Average": " + "}.get(call.kind)
    if sign is not None:
        text = sign.join(parts)
        module.assign(call, f"({text}) / {len(parts)}" if call.kind == "Average" else text)
        return
    module.file.imports.add("torch")
    text = parts[0]
    for part in parts[1:]:
        text = f"torch.{call.kind.lower()}({text}, {part})"
    module.assign(call, text)


def _masked_merge(module: Module, call: Call, parts: list[str]) -> None:
    """A product, or the largest or smallest: what is masked in one input is left out of it, as Keras does."""
    masks = [None if mask is None else f"{module.text(mask)}[..., None]" for mask in call.keywords["mask"]]
    module.file.imports.add("torch")
    if call.kind == "Multiply":
        kept = [x if mask is None else f"torch.where({mask}, {x}, 1.0)" for x, mask in zip(parts, masks, strict=True)]
        text = " * ".join(kept)
        given = [mask for mask in masks if mask is not None]
        whole = f"torch.where({' | '.join(given)}, {text}, 0.0)" if len(given) == len(parts) else text
        module.assign(call, whole)
        return
    if len(parts) != 2:
        raise Refused(call, "masks of more than two inputs")
    (a, b), (left, right) = parts, masks
    other = b if right is None else f"torch.where({right}, {b}, {a})"
    name = module.temporary("other")
    module.line(f"{name} = {other}")
    first = a if left is None else f"torch.where({left}, {a}, {name})"
    module.assign(call, f"torch.{call.kind.lower()}({first}, {name})")


def concatenate(module: Module, call: Call) -> None:
    """Concatenate."""
    axis = module.layer_of(call).config.get("axis", -1)
    module.file.imports.add("torch")
    module.assign(call, f"torch.cat([{', '.join(module.text(part) for part in only(call))}], {axis})")


def dot(module: Module, call: Call) -> None:
    """Dot of two tensors along an axis of each."""
    config, (left, right) = module.layer_of(call).config, only(call)
    axes = config["axes"]
    ranks = [len(module.shape(part)) for part in (left, right)]
    pair = axes if isinstance(axes, list) else [axes, axes]
    pair = [axis % rank for axis, rank in zip(pair, ranks, strict=True)]
    if config.get("normalize") or ranks not in ([2, 2], [3, 3]):
        raise Refused(call, "Dot that is normalized, or of ranks other than 2 and 3", {"normalize": True})
    texts = [module.text(part) for part in (left, right)]
    if ranks == [2, 2]:
        module.assign(call, f"({texts[0]} * {texts[1]}).sum(-1, keepdim=True)")
        return
    a = texts[0] if pair[0] == 2 else f"{texts[0]}.transpose(1, 2)"
    b = texts[1] if pair[1] == 1 else f"{texts[1]}.transpose(1, 2)"
    module.assign(call, f"{a} @ {b}")


HANDLERS: dict[str, Callable[[Module, Call], None]] = {
    "Reshape": reshape,
    "Flatten": reshape,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "ZeroPadding1D": padded,
    "Cropping1D": padded,
    "UpSampling1D": padded,
    "Concatenate": concatenate,
    "Dot": dot,
    **dict.fromkeys(("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"), merge),
}
