"""Planted faults: masks, states, directions, dropout and normalisation that are not the same on both sides."""

from dataclasses import replace


def _settings(side, **changed):
    """Change what the PyTorch model was built for."""
    side.model.settings = replace(side.model.settings, **changed)


def mask_ignored(side):
    """PyTorch side: padded timesteps are computed like all others."""
    _settings(side, masked=False)


def keras_mask_ignored(side):
    """Keras side: the first layer computes padded timesteps like all others."""
    layer = side.model.get_layer("layer0")
    call = layer.call
    layer.call = lambda sequences, initial_state=None, mask=None, training=False: call(
        sequences, initial_state=initial_state, training=training
    )


def mask_reversed(side):
    """PyTorch side: the padding is taken to stand at the other end."""
    stages = side.model.stages
    side.model.stages = lambda inputs: stages({**inputs, "mask": inputs["mask"].flip(1)})


def outputs_at_padding_repeated(side):
    """PyTorch side: where there is padding the output before it is repeated instead of zeros."""
    _settings(side, zero_output_for_mask=False)


def dropout_scale_forgotten(side):
    """Keras side: what dropout keeps is not scaled."""
    side.model.get_layer("shared_dropout0").rate = 0.0


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


def recurrent_dropout_rate(side):
    """PyTorch side: what recurrent dropout keeps is scaled for another rate."""
    _settings(side, recurrent_dropout=0.2)


def recurrent_mask_shared_by_gates(side):
    """PyTorch side: all gates drop the same of the state."""
    cell_masks = side.model._cell_masks

    def shared(inputs, name, sequence):
        masks = cell_masks(inputs, name, sequence)
        return masks[:, :1] if masks is not None and name.endswith("recurrent_dropout") else masks

    side.model._cell_masks = shared


def given_states_zeroed(side):
    """PyTorch side: the given states are taken for zeros."""
    _settings(side, initial_state=False)


def merge_mode_changed(side):
    """Keras side: both directions are added up instead of averaged."""
    side.model.get_layer("layer0").merge_mode = "sum"


def last_output_for_last_state(side):
    """PyTorch side: of the backward direction the head sees the output at the last timestep, not the last state."""
    _settings(side, head="last_output")


def backward_direction_not_turned(side):
    """PyTorch side: the outputs of the backward direction stay in the order in which they were computed."""
    run_direction = side.model._direction

    def unturned(inputs, index, direction, *arguments):
        outputs = run_direction(inputs, index, direction, *arguments)
        return outputs.flip(1) if direction == "backward" and index == 0 else outputs

    side.model._direction = unturned


def backwards_forgotten(side):
    """PyTorch side: the layers run forwards."""
    _settings(side, go_backwards=False)


def states_not_reset(side):
    """Keras side: the carried states are not reset between epochs."""
    side.model.get_layer("layer0").reset_state = lambda: None


def batch_momentum_of_torch(side):
    """Keras side: the running figures move by a tenth at each step, as torch.nn.BatchNorm1d's do."""
    side.model.get_layer("normalization0").momentum = 0.9


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
    _settings(side, l2=side.model.settings.l2 / 2)


def padding_counted_in_the_loss(side):
    """PyTorch side: the loss counts the labels of padded timesteps too."""
    loss = side.loss
    side.loss = lambda outputs, targets, mask: loss(outputs, targets)


def own_dropout_rate(side):
    """PyTorch side, independent masks: a quarter is dropped where a fifth should be."""
    if side.experiment.case.model.shared_masks:
        return
    _settings(side, dropout=0.25)


def keras_own_dropout_rate(side):
    """Keras side, independent masks: a quarter is dropped after the first layer where a fifth should be."""
    if side.experiment.case.model.shared_masks:
        return
    side.model.get_layer("dropout0").rate = 0.25


def own_input_dropout_rate(side):
    """PyTorch side, independent masks: more of a cell's inputs is dropped than should be."""
    if side.experiment.case.model.shared_masks:
        return
    _settings(side, input_dropout=0.15)


def own_dropout_scale_forgotten(side):
    """PyTorch side, independent masks: what dropout keeps is not scaled."""
    if side.experiment.case.model.shared_masks:
        return
    drop = side.model._dropout
    side.model._dropout = lambda *arguments: drop(*arguments) * (1 - side.model.settings.dropout)


def keras_own_dropout_left_out(side):
    """Keras side, independent masks: nothing is dropped before the head."""
    if side.experiment.case.model.shared_masks:
        return
    side.model.get_layer("dropout1").rate = 0.0


def predictions_reversed(side):
    """The predictions stand in reverse order."""
    predict = side.predict
    side.predict = lambda inputs: predict(inputs)[::-1].copy()
