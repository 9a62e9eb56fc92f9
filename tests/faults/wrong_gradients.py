"""Planted faults: gradients changed on their way, on the PyTorch side."""


def _hook(parameter, change):
    parameter.register_hook(change)


def all_scaled(side):
    """Every gradient is larger by one per cent."""
    for parameter in side.model.parameters():
        if parameter.requires_grad:
            _hook(parameter, lambda gradient: gradient * 1.01)


def head_scaled_slightly(side):
    """The gradient of the head's kernel is larger by one part in ten thousand."""
    _hook(side.model.head.weight, lambda gradient: gradient * 1.0001)


def one_gate_zero(side):
    """The recurrent kernel's gradient of the second gate is lost."""

    def change(gradient):
        gradient = gradient.clone()
        units = gradient.shape[1]
        gradient[units : 2 * units] = 0
        return gradient

    _hook(side.model.layers[0].weight_hh_l0, change)


def keras_one_gate_zero(side):
    """Keras side, on torch: the recurrent kernel's gradient of the second gate is lost."""
    cell = side.model.get_layer("layer0")
    kernel = getattr(cell, "layer", cell).cell.recurrent_kernel
    units = kernel.shape[0]

    def change(gradient):
        gradient = gradient.clone()
        gradient[:, units : 2 * units] = 0
        return gradient

    _hook(kernel.value, change)


def noisy(side):
    """The kernel's gradient has noise of one part in a thousand."""
    import torch

    _hook(
        side.model.layers[0].weight_ih_l0,
        lambda gradient: gradient * (1 + 1e-3 * torch.rand_like(gradient)),
    )


def accumulated(side):
    """Gradients are never set to zero, so that they add up over steps."""
    side.optimizer.zero_grad = lambda set_to_none=True: None


def layer_detached(side):
    """The first layer's parameters get no gradient."""
    for parameter in side.model.layers[0].parameters():
        parameter.requires_grad_(False)


def head_bias_frozen(side):
    """The head's bias is frozen."""
    side.model.head.bias.requires_grad_(False)


def second_bias_trained(side):
    """Both of PyTorch's biases are trained, so that their sum moves twice as far."""
    for layer in side.model.layers:
        layer.bias_hh_l0.requires_grad_(True)
    side.optimizer = side.package.build_optimizer(side.model.named_parameters(), **side.optimizer_arguments())
