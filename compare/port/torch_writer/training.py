"""Writes the file that trains a written module as the Keras model was compiled to train."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compare.errors import InputError
from compare.port.graph import Graph, Tensor, leaves
from compare.port.torch_writer.module import Written, access
from compare.port.torch_writer.optimizers import is_stock, number, optimizer_text, schedule_text

NORMS = ("clipnorm", "global_clipnorm", "clipvalue")

# The value of every example, or timestep, before a mask or a sum: by Keras's function of the loss.
VALUES = {
    "mean_squared_error": "({o} - {t}).square().mean(-1)",
    "mean_absolute_error": "({o} - {t}).abs().mean(-1)",
    "huber": 'F.huber_loss({o}, {t}, reduction="none", delta={delta}).mean(-1)',
    "log_cosh": "(F.softplus(2 * ({o} - {t})) - ({o} - {t}) - math.log(2)).mean(-1)",
    "mean_absolute_percentage_error": "100 * (({t} - {o}) / {t}.abs().clamp(min=1e-7)).abs().mean(-1)",
    "mean_squared_logarithmic_error": "(({o}.clamp(min=1e-7) + 1).log() - ({t}.clamp(min=1e-7) + 1).log())"
    ".square().mean(-1)",
    "poisson": "({o} - {t} * ({o} + 1e-7).log()).mean(-1)",
    "kl_divergence": "({t}.clamp(1e-7, 1) * ({t}.clamp(1e-7, 1) / {o}.clamp(1e-7, 1)).log()).sum(-1)",
}
# The same where nothing is masked, which PyTorch has ready.
MEANS = {
    "mean_squared_error": "F.mse_loss({o}, {t})",
    "mean_absolute_error": "F.l1_loss({o}, {t})",
    "huber": "F.huber_loss({o}, {t}, delta={delta})",
}


def write_training(graph: Graph, written: Written, training: Mapping[str, Any], saved: bool) -> str:
    """The text of train.py; `saved`: there is a file of what the optimizer has gathered. Raises InputError."""
    if training["refused"]:
        raise InputError(f"its training cannot be written in PyTorch: {'; '.join(training['refused'])}")
    optimizer = training["optimizer"]
    schedule = optimizer["schedule"]
    parts = [] if is_stock(optimizer) else [optimizer_text(optimizer)]
    parts += [schedule_text(schedule)] if schedule is not None else []
    parts += [_loss_function(graph, written, training), _build(written, optimizer, saved)]
    parts += [_step(written, graph, optimizer, schedule is not None)]
    body = "\n\n\n".join(parts)
    imports = [f"import {name}" for name in ("math",) if re.search(rf"\b{name}\.", body)]
    imports += ["from pathlib import Path", "", "import torch", f"from model import {written.class_name}"]
    imports += ["from safetensors.torch import load_file"]
    imports += ["from torch.nn import functional as F"] if re.search(r"\bF\.", body) else []
    names = ", ".join(dict.fromkeys(loss["name"] for loss in training["losses"]))
    metrics = f"; its metrics were {', '.join(training['metrics'])}" if training["metrics"] else ""
    title = f'"""Trains {written.class_name} as Keras trained it: {optimizer["class"]}, {names}{metrics}."""'
    return "\n".join([title, "", *imports, "", "FOLDER = Path(__file__).parent", "", "", body, ""])


# The loss


def _loss_function(graph: Graph, written: Written, training: Mapping[str, Any]) -> str:
    losses, several = training["losses"], not isinstance(graph.outputs, Tensor)
    keys = list(_keys(graph.outputs)) if several else [""]
    lines, terms = [], []
    for position, loss in enumerate(losses):
        key = keys[loss["output"]]
        o, t = f"outputs{key}", f"targets{key}"
        masked = bool(graph.masks) and graph.masks[loss["output"]] is not None
        mask = f"module.output_masks[{loss['output']}]" if masked else None
        before, term = _term(loss, o, t, mask, _shape(graph, loss["output"]), position)
        lines += before
        weight = loss["weight"]
        if weight is None or weight == 1:
            terms.append(term)
        else:
            factor = f"({term})" if re.search(r" [+/-] ", term) else term
            terms.append(f"{number(weight)} * {factor}")
    terms += _penalties(written, training["penalties"])
    uses_module = "module" if "module." in " ".join([*lines, *terms]) else "_module"
    assert uses_module
    text = ["def loss_function(module, outputs, targets):", f'    """{_about(losses, graph, training)}"""']
    if len(terms) == 1:
        return "\n".join([*text, *(f"    {line}" for line in lines), f"    return {terms[0]}"])
    text += [f"    {line}" for line in lines] + [f"    loss = {terms[0]}"]
    return "\n".join([*text, *(f"    loss = loss + {term}" for term in terms[1:]), "    return loss"])


def _about(losses: Sequence[Mapping[str, Any]], graph: Graph, training: Mapping[str, Any]) -> str:
    told = "The loss"
    if any(mask is not None for mask in graph.masks):
        told += " of what is not masked"
    return f"{told}, with what is added for large weights." if training["penalties"] else f"{told}."


def _keys(tree: Any, path: str = "") -> list[str]:
    if isinstance(tree, Mapping):
        ordered = sorted(tree)
        return [key for name in ordered for key in _keys(tree[name], f'{path}["{name}"]')]
    if isinstance(tree, list | tuple):
        return [key for i, part in enumerate(tree) for key in _keys(part, f"{path}[{i}]")]
    return [path]


def _shape(graph: Graph, number_: int) -> tuple[int | None, ...]:
    tensor = ordered_outputs(graph)[number_]
    return graph.call(tensor.call).shapes[tensor.number]


def ordered_outputs(graph: Graph) -> list[Tensor]:
    """The outputs as Keras flattens them: those of a dict by their sorted keys."""

    def flat(tree: Any) -> list[Tensor]:
        if isinstance(tree, Mapping):
            return [part for key in sorted(tree) for part in flat(tree[key])]
        return [leaf for leaf in leaves(tree) if isinstance(leaf, Tensor)]

    return flat(graph.outputs)


def _term(
    loss: Mapping[str, Any], o: str, t: str, mask: str | None, shape: Sequence[int | None], position: int
) -> tuple[list[str], str]:
    name, config = loss["name"], loss["config"]
    if loss["own"]:
        raise InputError(
            f"the loss {name} is a function of your own: write it into train.py, and port without compile()"
        )
    reduction = loss["reduction"]
    if reduction in (None, "none"):
        raise InputError(f"the loss {name} has reduction={reduction!r}, of which Keras trains nothing")
    plain = mask is None and reduction != "sum"
    if "crossentropy" in name:
        lines, values, mean = _crossentropy(name, config, o, t, shape, plain)
        if plain and mean:
            return lines, mean
    elif name in VALUES:
        lines, t = [], f"{t}.view_as({o})"
        delta = number(config.get("delta", 1.0))
        if plain and name in MEANS:
            return lines, MEANS[name].format(o=o, t=t, delta=delta)
        values = VALUES[name].format(o=o, t=t, delta=delta)
    else:
        known = sorted([*VALUES, "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"])
        raise InputError(f"the loss {name} is not known; known are {', '.join(known)}")
    if mask is None:
        return lines, f"{values}.{'sum' if reduction == 'sum' else 'mean'}()"
    kept = "values" if position == 0 else f"values_{position + 1}"
    shown = "mask" if position == 0 else f"mask_{position + 1}"
    lines += [f"{kept}, {shown} = {values}, {mask}"]
    total = f"torch.where({shown}, {kept}, 0.0).sum()"
    return lines, total if reduction == "sum" else f"{total} / {shown}.sum().clamp(min=1)"


def _crossentropy(
    name: str, config: Mapping[str, Any], o: str, t: str, shape: Sequence[int | None], plain: bool
) -> tuple[list[str], str, str]:
    """Lines, the values of the examples, and their mean where PyTorch has it ready."""
    logits, smoothing = bool(config.get("from_logits")), float(config.get("label_smoothing") or 0.0)
    if config.get("ignore_class") is not None or config.get("axis", -1) != -1:
        raise InputError(f"the loss {name} with ignore_class or another axis than the last is not known")
    if name == "binary_crossentropy":
        t = f"{t}.view_as({o}).to({o})"
        t = f"({t} * {number(1 - smoothing)} + {number(smoothing / 2)})" if smoothing else t
        function = "F.binary_cross_entropy" + ("_with_logits" if logits else "")
        o = o if logits else f"{o}.clamp(1e-7, 1 - 1e-7)"
        return [], f'{function}({o}, {t}, reduction="none").mean(-1)', f"{function}({o}, {t})"
    logs = f"F.log_softmax({o}, -1)" if logits else f"({o} / {o}.sum(-1, keepdim=True)).clamp(1e-7, 1 - 1e-7).log()"
    if name == "sparse_categorical_crossentropy":
        if len(shape) == 2:
            t = f"{t}.flatten().long()"
            if logits:
                return [], f'F.cross_entropy({o}, {t}, reduction="none")', f"F.cross_entropy({o}, {t})"
            return [], f'F.nll_loss({logs}, {t}, reduction="none")', f"F.nll_loss({logs}, {t})"
        target = f"{t}.long().view({o}.shape[:-1])"
        return [], f"-{logs}.gather(-1, {target}[..., None])[..., 0]", ""
    if name == "categorical_crossentropy":
        if smoothing:
            t = f"({t} * {number(1 - smoothing)} + {number(smoothing)} / {o}.shape[-1])"
        return [], f"-({t} * {logs}).sum(-1)", ""
    raise InputError(f"the loss {name} is not known")


def _penalties(written: Written, penalties: Mapping[str, Mapping[str, float]]) -> list[str]:
    return [
        f"{number(factor)} * {access(name, 'module')}.{'abs' if kind == 'l1' else 'square'}().sum()"
        for path, penalty in penalties.items()
        for name in written.weights.indices
        if path in written.weights.paths(name)
        for kind, factor in penalty.items()
    ]


# The module, the optimizer, and a step


def _build(written: Written, optimizer: Mapping[str, Any], saved: bool) -> str:
    config = optimizer["config"]
    rate = "learning_rate(0)" if optimizer["schedule"] is not None else number(config["learning_rate"])
    made = (
        f"torch.optim.SGD(module.parameters(), lr={rate})"
        if is_stock(optimizer)
        else (f"Keras{optimizer['class']}(module.parameters(), lr={rate})")
    )
    lines = [
        "def build():",
        f'    """The module and its optimizer{", both as they were saved" if saved else ""}."""',
        f"    module = {written.class_name}()",
        '    module.load_state_dict(load_file(FOLDER / "weights.safetensors"))',
    ]
    if not saved:
        return "\n".join([*lines, f"    return module, {made}"])
    lines += [
        f"    optimizer = {made}",
        "    parameters = dict(module.named_parameters())",
        '    for name, value in load_file(FOLDER / "optimizer.safetensors").items():',
        '        owner, _, slot = name.rpartition("/")',
        "        if owner:",
        "            optimizer.state[parameters[owner]][slot] = value",
        "        else:",
        "            optimizer.param_groups[0][slot] = value.item()",
        "    return module, optimizer",
    ]
    return "\n".join(lines)


def _step(written: Written, graph: Graph, optimizer: Mapping[str, Any], scheduled: bool) -> str:
    several = len([leaf for leaf in leaves(graph.inputs) if isinstance(leaf, Tensor)]) > 1
    call = "module(*inputs)" if several else "module(inputs)"
    lines = [
        "def train_step(module, optimizer, inputs, targets):",
        f'    """One step on a batch{"; inputs is a list" if several else ""}; returns the loss before it."""',
        "    module.train()",
        "    optimizer.zero_grad()",
        f"    loss = loss_function(module, {call}, targets)",
        "    loss.backward()",
        *(f"    {line}" for line in _clipping(written, optimizer["config"])),
    ]
    if scheduled:
        lines += [
            "    for group in optimizer.param_groups:",
            '        group["lr"] = learning_rate(group["iterations"])',
        ]
    return "\n".join([*lines, "    optimizer.step()", "    return loss.item()"])


def _clipping(written: Written, config: Mapping[str, Any]) -> list[str]:
    kind = next((name for name in NORMS if config.get(name) is not None), None)
    if kind is None:
        return []
    limit = number(config[kind])
    gradients = "gradients = [p.grad for p in module.parameters() if p.grad is not None]"
    if kind == "clipvalue":
        return [gradients, "for gradient in gradients:", f"    gradient.clamp_(-{limit}, {limit})"]
    if kind == "global_clipnorm":
        return [
            gradients,
            "norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()",
            "for gradient in gradients:",
            f"    gradient.mul_({limit} / norm.clamp(min={limit}))",
        ]
    pairs = _one_weight(written)
    if pairs:
        lines = [f"together = {[list(pair) for pair in pairs]!r}  # one weight in Keras".replace("'", '"')]
        lines += ["named = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}"]
        lines += ["single = [[name] for name in named if not any(name in names for names in together)]"]
        lines += ["for names in [*together, *single]:"]
        lines += ["    norm = torch.stack([named[name].square().sum() for name in names]).sum().sqrt()"]
        lines += ["    for name in names:", f"        named[name].mul_({limit} / norm.clamp(min={limit}))"]
        return lines
    return [gradients, "for gradient in gradients:", f"    gradient.mul_({limit} / gradient.norm().clamp(min={limit}))"]


def _one_weight(written: Written) -> list[tuple[str, ...]]:
    """Tensors that are one weight in Keras: both biases of a GRU."""
    names_of: dict[str, list[str]] = {}
    for name in written.weights.indices:
        for path in written.weights.paths(name):
            names_of.setdefault(path, []).append(name)
    return [tuple(names) for names in names_of.values() if len(names) > 1]


def optimizer_state(written: Written, optimizer: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What an optimizer has gathered, by "tensor/slot", with the number of steps; empty where it has done none."""
    if not optimizer["iterations"] or is_stock(optimizer):
        return {}
    state: dict[str, np.ndarray] = {"iterations": np.array(optimizer["iterations"], np.int64)}
    if optimizer["u_product"] is not None:
        state["u_product"] = np.array(optimizer["u_product"], np.float32)
    for slot, values in optimizer["slots"].items():
        whole = {path: values.get(path, np.zeros(shape, np.float32)) for path, shape in written.weights.shapes.items()}
        for name, tensor in written.weights.of(whole).items():
            if set(written.weights.paths(name)) & set(values):
                state[f"{name}/{slot}"] = tensor
    return state
