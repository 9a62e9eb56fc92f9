"""Planted faults: cells that compute something else. On the Keras side by attribute, on the PyTorch side by hook."""


def _hooked(side, change):
    """Replace what the first layer of the PyTorch side returns: change(layer, inputs, outputs) -> outputs."""

    def hook(layer, arguments, result):
        sequence, state = result
        return change(layer, arguments[0], sequence), state

    side.model.layers[0].register_forward_hook(hook)


def reset_before(side):
    """PyTorch side: the GRU applies its reset gate before the product with the state, as `reset_after=False`."""
    import torch

    def change(layer, inputs, _):
        h = inputs.new_zeros(len(inputs), layer.hidden_size)
        outputs = []
        for x in inputs.unbind(1):
            r_x, z_x, n_x = (x @ layer.weight_ih_l0.T + layer.bias_ih_l0).chunk(3, -1)
            r_u, z_u, n_u = layer.weight_hh_l0.chunk(3)
            r_b, z_b, n_b = layer.bias_hh_l0.chunk(3)
            r, z = torch.sigmoid(r_x + h @ r_u.T + r_b), torch.sigmoid(z_x + h @ z_u.T + z_b)
            n = torch.tanh(n_x + (r * h) @ n_u.T + n_b)
            h = z * h + (1 - z) * n
            outputs.append(h)
        return torch.stack(outputs, 1)

    _hooked(side, change)


def activation_relu(side):
    """Keras side: the cell's activation is relu instead of tanh."""
    import keras

    side.model.get_layer("layer0").cell.activation = keras.activations.relu


def recurrent_activation_hard(side):
    """Keras side: the recurrent activation is the hard sigmoid that Keras 1 had."""
    import keras

    side.model.get_layer("layer0").cell.recurrent_activation = keras.activations.hard_sigmoid


def initial_state_tenth(side):
    """PyTorch side: the first layer starts from a state of 0.1 instead of zero."""

    def hook(layer, arguments):
        import torch

        state = torch.full((1, len(arguments[0]), layer.hidden_size), 0.1, dtype=arguments[0].dtype)
        return arguments[0], (state, state) if isinstance(layer, torch.nn.LSTM) else state

    side.model.layers[0].register_forward_pre_hook(hook)


def last_timestep_skipped(side):
    """PyTorch side: the head reads the last output but one."""
    _hooked(side, lambda layer, inputs, outputs: outputs.roll(1, dims=1))


def reversed_in_time(side):
    """PyTorch side: the first layer reads its inputs backwards."""
    side.model.layers[0].register_forward_pre_hook(lambda layer, arguments: (arguments[0].flip(1),))


def state_not_carried(side):
    """PyTorch side: every timestep starts from a zero state."""

    def change(layer, inputs, _):
        import torch

        return torch.cat([type(layer).forward(layer, inputs[:, t : t + 1])[0] for t in range(inputs.shape[1])], 1)

    _hooked(side, change)


def stop_gradient_between_layers(side):
    """PyTorch side: the gradient stops behind the first layer."""
    _hooked(side, lambda layer, inputs, outputs: outputs.detach())


def stop_gradient_last_timestep(side):
    """PyTorch side: half of the gradient is lost between the first layer and what follows."""
    _hooked(side, lambda layer, inputs, outputs: (outputs + outputs.detach()) / 2)


def dropout_active(side):
    """PyTorch side: a dropout of 0.1 stands behind the first layer."""
    import torch

    _hooked(side, lambda layer, inputs, outputs: torch.nn.functional.dropout(outputs, 0.1))


def bfloat16_inputs(side):
    """PyTorch side: the first layer sees its inputs in bfloat16."""
    import torch

    side.model.layers[0].register_forward_pre_hook(
        lambda layer, arguments: (arguments[0].to(torch.bfloat16).to(arguments[0].dtype),)
    )


def outputs_slightly_scaled(side):
    """PyTorch side: the first layer's outputs are larger by one part in a hundred thousand."""
    _hooked(side, lambda layer, inputs, outputs: outputs * (1 + 1e-5))
