"""Planted faults: trainings that do at some steps what a step alone does not do; on either side, and on both alike."""

import os
import zlib

# No checked step: these are 0, 1, 2, 4, 8, ... and the last of the first epoch.
STEP = 21


def _is_torch(side):
    return side.package.__name__ == "torch_models"


def step_doubled(side):
    """Either side: the update of one step is twice as large."""
    optimizer = side.optimizer
    if _is_torch(side):
        rate = optimizer.learning_rate
        optimizer.learning_rate = lambda group: rate(group) * (2 if group["iterations"] - 1 == STEP else 1)
        return
    import keras

    current = optimizer._get_current_learning_rate
    optimizer._get_current_learning_rate = lambda: (
        current() * keras.ops.cast(keras.ops.where(optimizer.iterations == STEP, 2.0, 1.0), "float32")
    )


def _some_steps_doubled(side, is_chosen):
    """PyTorch side: a step is taken twice where something that its gradients decide says so."""
    step, parameters = side.optimizer.step, list(side.model.parameters())

    def doubled():
        bits = b"".join(p.grad.numpy().tobytes() for p in parameters if p.grad is not None)
        step()
        if is_chosen(bits):
            step()

    side.optimizer.step = doubled


def steps_doubled_by_hash(side):
    """PyTorch side: one step in ten is taken twice, by a hash of its gradients, so that every training has others."""
    _some_steps_doubled(side, lambda bits: zlib.crc32(bits) % 10 == 0)


def steps_doubled_at_random(side):
    """PyTorch side: one step in ten is taken twice, at random, in no training the same."""
    _some_steps_doubled(side, lambda bits: os.urandom(1)[0] < 26)


def last_bits_at_random(side):
    """PyTorch side: a weight of the head moves in its last bits before one step in ten, in no training the same."""
    import torch

    def move(*_):
        if os.urandom(1)[0] < 26:
            with torch.no_grad():
                side.model.head.weight.mul_(1 + 2.0**-22)

    side.model.register_forward_pre_hook(move)


def gradients_scaled_in_training(side):
    """Either side: the loop's gradients are larger by one per cent before they are applied, a single step's are not."""
    optimizer, train, inside = side.optimizer, side.train, []

    def scaled(gradients):
        return [1.01 * gradient for gradient in gradients] if inside else gradients

    if _is_torch(side):
        clip = optimizer.clip
        optimizer.clip = lambda gradients, names: clip(scaled(gradients), names)
    else:
        apply = optimizer.apply
        optimizer.apply = lambda gradients, variables=None: apply(scaled(gradients), variables)

    def flagged():
        inside.append(True)
        yield from train()
        inside.clear()

    side.train = flagged


def state_reset_skipped(side):
    """Either side, stateful: states are carried over from one epoch to the next."""
    train, model = side.train, side.model
    if _is_torch(side):
        saved = {}

        def restore(*_):
            for name, buffer in model.named_buffers() if saved else ():
                if name in saved:
                    buffer.copy_(saved[name])
            saved.clear()

        model.register_forward_pre_hook(restore)

        def carried():
            for epoch, rows in train():
                yield epoch, rows
                states = model.named_buffers()
                saved.update({name: buffer.clone() for name, buffer in states if name.startswith("state")})
            saved.clear()

        side.train = carried
        return
    layers = [layer for layer in model.layers if getattr(layer, "stateful", False)]

    def unreset():
        # The first reset is kept: what was run before the training has left its states.
        resets = [layer.reset_state for layer in layers]
        for epoch, rows in train():
            for layer in layers:
                layer.reset_state = lambda: None
            yield epoch, rows
        for layer, reset in zip(layers, resets, strict=True):
            layer.reset_state = reset

    side.train = unreset


def predictions_reversed(side):
    """Either side: the predictions are given in reverse order."""
    predict = side.predict
    side.predict = lambda inputs: predict(inputs)[::-1].copy()


def gradient_exchanged(side):
    """PyTorch side: at one step the head's kernel gets its gradient in reverse order, which keeps its norm."""
    step, kernel, done = side.optimizer.step, side.model.head.weight, []

    def exchanged():
        done.append(True)
        if len(done) - 1 == STEP:
            kernel.grad = kernel.grad.flip(1)
        step()

    side.optimizer.step = exchanged


def keras_gradient_exchanged(side):
    """Keras side: at one step the head's kernel gets its gradient in reverse order, which keeps its norm."""
    import keras

    apply, optimizer = side.optimizer.apply, side.optimizer
    position = [variable.path.endswith("head/kernel") for variable in side.model.trainable_variables].index(True)

    def exchanged(gradients, variables=None):
        gradients = list(gradients)
        kernel = gradients[position]
        gradients[position] = keras.ops.where(optimizer.iterations == STEP, keras.ops.flip(kernel, 0), kernel)
        return apply(gradients, variables)

    side.optimizer.apply = exchanged
