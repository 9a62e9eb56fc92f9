"""Normalisation: PyTorch's layers where they compute the same, and batch normalisation as Keras has it."""

from collections.abc import Callable

from compare.port.graph import Call
from compare.port.torch_writer.code import Module, Refused, only, size

BATCH_NORM = '''
class BatchNorm(nn.Module):
    """Batch normalisation of the last axis, as Keras has it: the running variance is the biased one."""

    def __init__(self, width, momentum, eps, affine=True):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        rows = x.flatten(0, -2)
        if not self.training:
            rows = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
            return rows.view_as(x)
        with torch.no_grad():
            variance, mean = torch.var_mean(rows, 0, correction=0)
            self.running_mean.lerp_(mean, 1 - self.momentum)
            self.running_var.lerp_(variance, 1 - self.momentum)
        return F.batch_norm(rows, None, None, self.weight, self.bias, True, 0.0, self.eps).view_as(x)
'''
BATCH_NORM_FIXED = '''
class FixedBatchNorm(nn.Module):
    """Batch normalisation that is not trained: it uses its running figures in training too, as in Keras."""

    def __init__(self, width, momentum, eps, affine=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        rows = x.flatten(0, -2)
        rows = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return rows.view_as(x)
'''
BATCH_NORM_MASKED = '''
def masked_batch_norm(norm, x, mask):
    """Batch normalisation whose mean and variance are those of the timesteps where the mask is True, as in Keras."""
    if not norm.training:
        return norm(x)
    rows = x[mask]
    variance, mean = torch.var_mean(rows, 0, correction=0)
    with torch.no_grad():
        norm.running_mean.lerp_(mean, 1 - norm.momentum)
        norm.running_var.lerp_(variance, 1 - norm.momentum)
    x = (x - mean) / (variance + norm.eps).sqrt()
    return x if norm.weight is None else x * norm.weight + norm.bias
'''


def layer_norm(module: Module, call: Call) -> None:
    """LayerNormalization of the last axes."""
    config, x = module.layer_of(call).config, only(call)
    shape = module.shape(x)
    axes = config.get("axis", -1)
    axes = sorted(axis % len(shape) for axis in (axes if isinstance(axes, list) else [axes]))
    if axes != list(range(len(shape) - len(axes), len(shape))):
        raise Refused(call, "LayerNormalization of other than the last axes", {"axis": config["axis"]})
    if config.get("rms_scaling"):
        raise Refused(call, "rms_scaling", {"rms_scaling": True})
    sizes = [shape[axis] for axis in axes]
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    options = f", eps={config['epsilon']!r}"
    options += "" if scale or center else ", elementwise_affine=False"
    options += ", bias=False" if scale and not center else ""
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    width = str(sizes[0]) if len(sizes) == 1 else f"({size([n or 0 for n in sizes])})"
    attribute = module.submodule(name, lambda: f"nn.LayerNorm({width}{options})")
    if not known and (scale or center):
        if scale:
            module.weight(f"{attribute[5:]}.weight", f"{path}gamma")
        else:
            raise Refused(call, "center without scale", {"scale": False})
        if center:
            module.weight(f"{attribute[5:]}.bias", f"{path}beta")
    module.assign(call, f"{attribute}({module.text(x)})")


def batch_norm(module: Module, call: Call) -> None:
    """BatchNormalization of the last axis; a class of the file's own, since PyTorch keeps the unbiased variance."""
    config, x = module.layer_of(call).config, only(call)
    shape = module.shape(x)
    if config.get("axis", -1) % len(shape) != len(shape) - 1:
        raise Refused(call, "BatchNormalization of other than the last axis", {"axis": config["axis"]})
    scale, center = bool(config.get("scale", True)), bool(config.get("center", True))
    if scale != center or config.get("renorm"):
        raise Refused(call, "gamma without beta, or renorm", {"scale": scale, "center": center})
    module.file.imports |= {"torch", "F"}
    fixed = config.get("trainable") is False
    own = module.file.helper(*(("FixedBatchNorm", BATCH_NORM_FIXED) if fixed else ("BatchNorm", BATCH_NORM)))
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    options = f"{shape[-1]}, {config['momentum']!r}, {config['epsilon']!r}{'' if scale else ', affine=False'}"
    attribute = module.submodule(name, lambda: f"{own}({options})")
    if not known:
        pairs = [("running_mean", "moving_mean"), ("running_var", "moving_variance")]
        for theirs, ours in (*pairs, *([("weight", "gamma"), ("bias", "beta")] if scale else [])):
            module.weight(f"{attribute[5:]}.{theirs}", f"{path}{ours}")
    if call.keywords.get("mask") is not None and len(shape) == 3 and not fixed:
        masked = module.file.helper("masked_batch_norm", BATCH_NORM_MASKED)
        module.assign(call, f"{masked}({attribute}, {module.text(x)}, {module.text(call.keywords['mask'])})")
    else:
        module.assign(call, f"{attribute}({module.text(x)})")


def group_norm(module: Module, call: Call) -> None:
    """GroupNormalization of the last axis."""
    config, x = module.layer_of(call).config, only(call)
    shape = module.shape(x)
    if config.get("axis", -1) % len(shape) != len(shape) - 1:
        raise Refused(call, "GroupNormalization of other than the last axis", {"axis": config["axis"]})
    if not (config.get("scale", True) and config.get("center", True)):
        raise Refused(call, "GroupNormalization without scale or center")
    groups = shape[-1] if config["groups"] == -1 else config["groups"]
    name, path = str(call.layer), module.path_of(call)
    known = name in module.attributes
    attribute = module.submodule(name, lambda: f"nn.GroupNorm({groups}, {shape[-1]}, eps={config['epsilon']!r})")
    if not known:
        module.weight(f"{attribute[5:]}.weight", f"{path}gamma")
        module.weight(f"{attribute[5:]}.bias", f"{path}beta")
    text = module.text(x)
    text = f"{attribute}({text})" if len(shape) == 2 else f"{attribute}({text}.movedim(-1, 1)).movedim(1, -1)"
    module.assign(call, text)


HANDLERS: dict[str, Callable[[Module, Call], None]] = {
    "LayerNormalization": layer_norm,
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
}
