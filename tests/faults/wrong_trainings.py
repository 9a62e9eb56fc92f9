"""Planted faults: trainings that do at some steps what a step alone does not do."""

import zlib


def doubles_hashed_steps(side):
    """PyTorch side: a step is taken twice where a hash of the gradient's last bits falls below 5 %."""
    optimizer, parameters = side.optimizer, list(side.model.parameters())
    step = optimizer.step

    def hashed():
        bits = b"".join(p.grad.detach().numpy().tobytes() for p in parameters if p.grad is not None)
        step()
        if zlib.crc32(bits) % 100 < 5:
            step()

    optimizer.step = hashed


def _scaled_gradient_in_training(side):
    """The training's loop scales every gradient, the single step does not."""
    train = side.train

    def scaled():
        handles = [p.register_hook(lambda gradient: 1.01 * gradient) for p in side.model.parameters() if p.requires_grad]
        yield from train()
        for handle in handles:
            handle.remove()

    side.train = scaled


def gradient_scaled_in_training(side):
    """PyTorch side: the training scales every gradient by 1.01, the step that is taken alone does not."""
    _scaled_gradient_in_training(side)


def predictions_reversed(side):
    """Either side: the predictions are given in reverse order."""
    predict = side.predict
    side.predict = lambda inputs: predict(inputs)[::-1].copy()


def random_last_bits(side):
    """PyTorch side: a weight is moved by a last bit before every training, not the same one each time."""
    import os

    import torch

    with torch.no_grad():
        weight = side.model.head.weight
        weight[0, int.from_bytes(os.urandom(1)) % weight.shape[1]] *= 1 + 2.0**-20
