"""Planted faults: gradients changed on their way, on the PyTorch side unless said otherwise."""


def _without_second_gate(axis):
    """Lose the gradient of the second gate of a recurrent kernel, which has its units on the other axis."""

    def change(gradient):
        gradient = gradient.clone()
        units = gradient.shape[1 - axis]
        gradient.narrow(axis, units, units).zero_()
        return gradient

    return change


def all_scaled(side):
    """Every gradient is larger by one per cent."""
    for parameter in side.model.parameters():
        if parameter.requires_grad:
            parameter.register_hook(lambda gradient: gradient * 1.01)


def head_scaled_slightly(side):
    """The gradient of the head's kernel is larger by one part in ten thousand."""
    side.model.head.weight.register_hook(lambda gradient: gradient * 1.0001)


def one_gate_zero(side):
    """The recurrent kernel's gradient of the second gate is lost."""
    side.model.layers[0].weight_hh_l0.register_hook(_without_second_gate(axis=0))


def keras_one_gate_zero(side):
    """Keras side, on torch: the recurrent kernel's gradient of the second gate is lost."""
    layer = side.model.get_layer("layer0")
    getattr(layer, "layer", layer).cell.recurrent_kernel.value.register_hook(_without_second_gate(axis=1))


def noisy(side):
    """The kernel's gradient has noise of one part in a thousand."""
    import torch

    weight = side.model.layers[0].weight_ih_l0
    weight.register_hook(lambda gradient: gradient * (1 + 1e-3 * torch.rand_like(gradient)))


def accumulated(side):
    """Gradients are never set to zero, so that they add up over steps."""
    side.optimizer.zero_grad = lambda set_to_none=True: None


def layer_detached(side):
    """The first layer's parameters get no gradient."""
    side.model.layers[0].requires_grad_(False)


def head_bias_frozen(side):
    """The head's bias is frozen."""
    side.model.head.bias.requires_grad_(False)


def second_bias_trained(side):
    """Both of PyTorch's biases are trained, so that their sum moves twice as far."""
    for layer in side.model.layers:
        layer.bias_hh_l0.requires_grad_(True)
    side.optimizer = side.package.build_optimizer(side.model.named_parameters(), **side.optimizer_arguments())
