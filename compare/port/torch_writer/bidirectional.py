"""Bidirectional layers: one layer of PyTorch's where both directions are alike, else one after the other."""

from collections.abc import Mapping
from typing import Any

from compare.port.graph import Call, Layer, Tensor
from compare.port.torch_writer.cells import kind_of_cell
from compare.port.torch_writer.code import Module, Refused, identifier
from compare.port.torch_writer.recurrent import (
    MODULES,
    RUN_MASKED,
    Run,
    cell_of,
    first,
    freeze,
    fused_options,
    fused_weights,
    given_states,
    is_fused,
    make,
    mask_of,
    run,
)


def bidirectional(module: Module, call: Call) -> None:
    """Bidirectional of two recurrent layers: one layer of PyTorch's where both directions are alike."""
    layer = module.layer_of(call)
    forward, backward = layer.layers["forward_layer"], layer.layers["backward_layer"]
    if "cell" not in forward.layers:
        raise Refused(call, f"a layer of kind {forward.kind} in it; recurrent layers are known")
    states = given_states(module, call)
    merge, sequences = layer.config.get("merge_mode", "concat"), bool(forward.config.get("return_sequences"))
    if forward.config.get("stateful"):
        raise Refused(call, "a stateful layer in Bidirectional; make it stateless", {"stateful": True})
    wants = any(module.is_used(Tensor(call.name, i)) for i in range(1, len(call.shapes))) and merge is not None
    wants = wants or (merge is None and any(module.is_used(Tensor(call.name, i)) for i in range(2, len(call.shapes))))
    if _alike(forward, backward, call) and states is None and not wants:
        pair = _both_at_once(module, call, layer, sequences)
    else:
        pair, last = _one_by_one(module, call, layer, sequences, states, wants)
        if wants:
            offset = 2 if merge is None else 1
            for number, text in enumerate(last):
                if module.is_used(Tensor(call.name, offset + number)):
                    module.alias(Tensor(call.name, offset + number), text)
    if merge is None:
        for number, text in enumerate(pair):
            if module.is_used(Tensor(call.name, number)):
                module.assign(call, text, number)
        return
    if len(pair) == 1:
        module.assign(call, pair[0])
        return
    texts = {
        "concat": f"torch.cat([{pair[0]}, {pair[1]}], -1)",
        "sum": f"{pair[0]} + {pair[1]}",
        "mul": f"{pair[0]} * {pair[1]}",
        "ave": f"({pair[0]} + {pair[1]}) / 2",
    }
    module.file.imports |= {"torch"} if merge == "concat" else set()
    module.assign(call, texts[merge])


def _alike(forward: Layer, backward: Layer, call: Call) -> bool:
    def told(layer: Layer) -> Mapping[str, Any]:
        cell = cell_of(layer)
        names = ("units", "activation", "recurrent_activation", "use_bias", "reset_after")
        return {"kind": cell.kind} | {name: str(cell.config.get(name)) for name in names}

    return (
        told(forward) == told(backward)
        and is_fused(forward, call)
        and not forward.config.get("go_backwards")
        and not cell_of(forward).config.get("dropout")
        and not cell_of(backward).config.get("dropout")
    )


def _both_at_once(module: Module, call: Call, layer: Layer, sequences: bool) -> list[str]:
    forward, cell = layer.layers["forward_layer"], cell_of(layer.layers["forward_layer"])
    name, features = str(call.layer), module.shape(first(call))[-1]
    if name not in module.attributes:
        attribute = module.attribute(name)
        options = f"{fused_options(cell, call)}, bidirectional=True"
        module.init.append(
            f"self.{attribute} = {MODULES[kind_of_cell(cell.kind)]}({features}, {cell.config['units']}{options})"
        )
        for role, suffix in (("forward_layer", ""), ("backward_layer", "_reverse")):
            fused_weights(module, cell_of(layer.layers[role]), f"{module.path_of(call)}{role}/cell/", attribute, suffix)
        freeze(module, cell, attribute, ("", "_reverse"))
    attribute, x, mask = f"self.{module.attributes[name]}", module.text(first(call)), mask_of(module, call)
    merge = layer.config.get("merge_mode", "concat")
    text = f"{attribute}({x})"
    if mask is not None:
        module.file.imports |= {"torch", "packing"}
        zero = ", zero_output=True" if forward.config.get("zero_output_for_mask") else ""
        text = f"{module.file.helper('run_masked', RUN_MASKED)}({attribute}, {x}, {mask}{zero})"
    if sequences:
        if merge == "concat":
            return [f"{text}[0]"]
        names = [module.temporary("forward"), module.temporary("backward")]
        module.line(f"{', '.join(names)} = {text}[0].chunk(2, -1)")
        return names
    h = module.temporary("h")
    module.line(f"_, {f'({h}, _)' if kind_of_cell(cell.kind) == 'LSTM' else h} = {text}")
    return [f"{h}[0]", f"{h}[1]"]


def _one_by_one(
    module: Module, call: Call, layer: Layer, sequences: bool, states: list[str] | None, wants: bool
) -> tuple[list[str], list[str]]:
    outputs, last = [], []
    x, mask, features = module.text(first(call)), mask_of(module, call), module.shape(first(call))[-1]
    half = None if states is None else len(states) // 2
    for number, role in enumerate(("forward_layer", "backward_layer")):
        inner = layer.layers[role]
        direction = role.removesuffix("_layer")
        attribute = make(module, call, inner, f"{module.path_of(call)}{role}/", features, f"{call.layer}_{direction}")
        own = None if states is None else states[:half] if number == 0 else states[half:]
        output, ends = run(module, call, Run(attribute, inner, x, mask, own, sequences, wants))
        name = module.temporary(direction if direction not in outputs else f"{identifier(str(call.layer))}_{direction}")
        module.line(f"{name} = {output}{'.flip(1)' if number and sequences else ''}")
        outputs.append(name)
        if ends:
            kept = [module.temporary(f"{direction}_{end.split('_')[-1]}") for end in ends]
            module.line(f"{', '.join(kept)} = {', '.join(ends)}")
            last += kept
    return outputs, last
