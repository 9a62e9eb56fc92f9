"""Planted faults: losses that are not the same. On the Keras side unless said otherwise."""


def mean_absolute_error(side):
    """The loss is the mean absolute error."""
    import keras

    side.loss = keras.losses.MeanAbsoluteError()


def huber(side):
    """The loss is Huber's."""
    import keras

    side.loss = keras.losses.Huber()


def summed_over_batch(side):
    """The loss is summed over the batch."""
    import keras

    side.loss = keras.losses.MeanSquaredError(reduction="sum")


def halved(side):
    """The loss is half the squared error."""
    import keras

    side.loss = lambda truth, outputs: keras.ops.mean(keras.ops.square(truth - outputs)) / 2


def broadcast(side):
    """PyTorch side: (B, 1) outputs against (B,) targets broadcast to (B, B)."""

    def loss(outputs, targets):
        return ((outputs - targets[:, 0]) ** 2).mean()

    side.loss = loss


def of_sigmoid(side):
    """PyTorch side: the loss takes outputs for logits."""
    import torch

    side.loss = lambda outputs, targets: torch.nn.functional.mse_loss(torch.sigmoid(outputs), targets)


def first_of_batch_weighs_double(side):
    """PyTorch side: one sample of each batch counts twice."""
    import torch

    def loss(outputs, targets):
        weights = torch.ones_like(outputs)
        weights[0] = 2
        return (weights * (outputs - targets) ** 2).mean()

    side.loss = loss


def with_penalty(side):
    """PyTorch side: an L2 penalty of 1e-4 on the first recurrent kernel is added."""
    import torch

    weight = side.model.layers[0].weight_hh_l0
    side.loss = lambda outputs, targets: torch.nn.functional.mse_loss(outputs, targets) + 1e-4 * weight.square().sum()
