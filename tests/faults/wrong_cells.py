"""Planted faults: cells that compute something else. On the Keras side by attribute, on the PyTorch side by hook."""


def _keras_cell(attribute, activation):
    """Give the first layer's cell another activation."""

    def plant(side):
        import keras

        setattr(side.model.get_layer("layer0").cell, attribute, getattr(keras.activations, activation))

    return plant


def _outputs(change):
    """Replace what the first layer of the PyTorch side returns: change(layer, inputs, outputs) -> outputs."""

    def hook(layer, arguments, result):
        return change(layer, arguments[0], result[0]), result[1]

    return lambda side: side.model.layers[0].register_forward_hook(hook)


def _inputs(change):
    """Replace what the first layer of the PyTorch side reads: change(inputs) -> inputs."""
    return lambda side: side.model.layers[0].register_forward_pre_hook(lambda layer, given: (change(given[0]),))


def _reset_before(layer, inputs, _):
    import torch

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


def _step_by_step(layer, inputs, _):
    import torch

    return torch.cat([type(layer).forward(layer, inputs[:, t : t + 1])[0] for t in range(inputs.shape[1])], 1)


def _dropped(layer, inputs, outputs):
    import torch

    return torch.nn.functional.dropout(outputs, 0.1)


# Keras side: the cell's activation is relu instead of tanh; the recurrent one is the hard sigmoid that Keras 1 had.
activation_relu = _keras_cell("activation", "relu")
recurrent_activation_hard = _keras_cell("recurrent_activation", "hard_sigmoid")
# PyTorch side: the GRU applies its reset gate before the product with the state, as `reset_after=False`.
reset_before = _outputs(_reset_before)
# PyTorch side: every timestep starts from a zero state; a dropout of 0.1 stands behind the first layer.
state_not_carried = _outputs(_step_by_step)
dropout_active = _outputs(_dropped)
# PyTorch side: the head reads the last output but one; the outputs are larger by one part in a hundred thousand.
last_timestep_skipped = _outputs(lambda layer, inputs, outputs: outputs.roll(1, dims=1))
outputs_slightly_scaled = _outputs(lambda layer, inputs, outputs: outputs * (1 + 1e-5))
# PyTorch side: the gradient stops behind the first layer, or half of it is lost there.
stop_gradient_between_layers = _outputs(lambda layer, inputs, outputs: outputs.detach())
stop_gradient_last_timestep = _outputs(lambda layer, inputs, outputs: (outputs + outputs.detach()) / 2)
# PyTorch side: the first layer reads its inputs backwards, or in bfloat16.
reversed_in_time = _inputs(lambda inputs: inputs.flip(1))
bfloat16_inputs = _inputs(lambda inputs: inputs.bfloat16().to(inputs.dtype))


def initial_state_tenth(side):
    """PyTorch side: the first layer starts from a state of 0.1 instead of zero."""

    def hook(layer, arguments):
        import torch

        state = torch.full((1, len(arguments[0]), layer.hidden_size), 0.1, dtype=arguments[0].dtype)
        return arguments[0], (state, state) if isinstance(layer, torch.nn.LSTM) else state

    side.model.layers[0].register_forward_pre_hook(hook)
