"""Planted faults: masks, states, directions, dropout and normalisation that are not the same on both sides."""

from dataclasses import replace


def _settings(**changed):
    """Change what the PyTorch model was built for."""

    def plant(side):
        side.model.settings = replace(side.model.settings, **changed)

    return plant


def _keras_layer(name, attribute, value):
    """Change a layer of the Keras side."""
    return lambda side: setattr(side.model.get_layer(name), attribute, value)


def _where_masks_are_independent(plant):
    """Plant a fault where each side draws its own masks, not where the same case is trained with shared ones."""
    return lambda side: None if side.experiment.case.model.shared_masks else plant(side)


# PyTorch side: padded timesteps are computed like all others, or the output before them is repeated instead of zeros.
mask_ignored = _settings(masked=False)
outputs_at_padding_repeated = _settings(zero_output_for_mask=False)
# PyTorch side: what recurrent dropout keeps is scaled for another rate; the given states are taken for zeros.
recurrent_dropout_rate = _settings(recurrent_dropout=0.2)
given_states_zeroed = _settings(initial_state=False)
# PyTorch side: of the backward direction the head sees the output at the last timestep, not the last state.
last_output_for_last_state = _settings(head="last_output")
# PyTorch side: the layers run forwards.
backwards_forgotten = _settings(go_backwards=False)
# Keras side: what dropout keeps is not scaled; both directions are added up instead of averaged.
dropout_scale_forgotten = _keras_layer("shared_dropout0", "rate", 0.0)
merge_mode_changed = _keras_layer("layer0", "merge_mode", "sum")
# Keras side: the running figures move by a tenth at each step, as torch.nn.BatchNorm1d's do.
batch_momentum_of_torch = _keras_layer("normalization0", "momentum", 0.9)
# Independent masks: a quarter is dropped where a fifth should be, on either side; more of a cell's inputs is dropped
# than should be; nothing is dropped before the head.
own_dropout_rate = _where_masks_are_independent(_settings(dropout=0.25))
keras_own_dropout_rate = _where_masks_are_independent(_keras_layer("dropout0", "rate", 0.25))
own_input_dropout_rate = _where_masks_are_independent(_settings(input_dropout=0.15))
keras_own_dropout_left_out = _where_masks_are_independent(_keras_layer("dropout1", "rate", 0.0))


def mask_reversed(side):
    """PyTorch side: the padding is taken to stand at the other end."""
    stages = side.model.stages
    side.model.stages = lambda inputs: stages({**inputs, "mask": inputs["mask"].flip(1)})


def dropout_bit_flipped(side):
    """One number that is kept by the mask of the third step is dropped."""
    draw = side.draw

    def flipped(step, count):
        masks = draw(step, count)
        if step == 2:
            mask = masks["dropout0"]
            mask.reshape(-1)[0] = 1 - mask.reshape(-1)[0]
        return masks

    side.draw = flipped


def recurrent_mask_shared_by_gates(side):
    """PyTorch side: all gates drop the same of the state."""
    cell_masks = side.model._cell_masks

    def shared(inputs, name, sequence):
        masks = cell_masks(inputs, name, sequence)
        return masks[:, :1] if masks is not None and name.endswith("recurrent_dropout") else masks

    side.model._cell_masks = shared


def backward_direction_not_turned(side):
    """PyTorch side: the outputs of the backward direction stay in the order in which they were computed."""
    run_direction = side.model._direction

    def unturned(inputs, index, direction, *arguments):
        outputs = run_direction(inputs, index, direction, *arguments)
        return outputs.flip(1) if direction == "backward" and index == 0 else outputs

    side.model._direction = unturned


def states_not_reset(side):
    """Keras side: the carried states are not reset between epochs."""
    side.model.get_layer("layer0").reset_state = lambda: None


def running_variance_unbiased(side):
    """PyTorch side: the running variance is moved by the unbiased one, as in torch.nn.BatchNorm1d."""
    from torch_models.layers import BATCH_MOMENTUM

    normalization = side.model.normalizations[0]
    forward = normalization.forward

    def unbiased(inputs):
        kept = normalization.running_var * BATCH_MOMENTUM
        outputs = forward(inputs)
        if normalization.training:
            rows = inputs.numel() // inputs.shape[-1]
            normalization.running_var.sub_(kept).mul_(rows / (rows - 1)).add_(kept)
        return outputs

    normalization.forward = unbiased


def layer_epsilon_of_torch(side):
    """PyTorch side: the layer normalisation has torch.nn.LayerNorm's epsilon."""
    side.model.normalizations[0].eps = 1e-5


def penalty_halved(side):
    """PyTorch side: the penalty is c/2 times the sum of squares, whose gradient is c times the weight."""
    _settings(l2=side.model.settings.l2 / 2)(side)


def padding_counted_in_the_loss(side):
    """PyTorch side: the loss counts the labels of padded timesteps too."""
    loss = side.loss
    side.loss = lambda outputs, targets, mask: loss(outputs, targets)


def own_dropout_scale_forgotten(side):
    """PyTorch side, independent masks: what dropout keeps is not scaled."""
    if side.experiment.case.model.shared_masks:
        return
    drop = side.model._dropout
    side.model._dropout = lambda *arguments: drop(*arguments) * (1 - side.model.settings.dropout)


def predictions_reversed(side):
    """The predictions stand in reverse order."""
    predict = side.predict
    side.predict = lambda inputs: predict(inputs)[::-1].copy()
