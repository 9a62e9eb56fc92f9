"""Planted faults: losses that are not the same."""


def _keras_loss(name, **options):
    """Put in another of Keras's losses."""

    def plant(side):
        import keras

        side.loss = getattr(keras.losses, name)(**options)

    return plant


# Keras side: the loss is the mean absolute error, Huber's, or summed over the batch.
mean_absolute_error = _keras_loss("MeanAbsoluteError")
huber = _keras_loss("Huber")
summed_over_batch = _keras_loss("MeanSquaredError", reduction="sum")


def halved(side):
    """Keras side: the loss is half the squared error."""
    import keras

    side.loss = lambda truth, outputs: keras.ops.mean(keras.ops.square(truth - outputs)) / 2


def broadcast(side):
    """PyTorch side: (B, 1) outputs against (B,) targets broadcast to (B, B)."""
    side.loss = lambda outputs, targets: ((outputs - targets[:, 0]) ** 2).mean()


def of_sigmoid(side):
    """PyTorch side: the loss takes outputs for logits."""
    side.loss = lambda outputs, targets: ((outputs.sigmoid() - targets) ** 2).mean()


def first_of_batch_weighs_double(side):
    """PyTorch side: one sample of each batch counts twice."""

    def loss(outputs, targets):
        weights = outputs.new_ones(outputs.shape)
        weights[0] = 2
        return (weights * (outputs - targets) ** 2).mean()

    side.loss = loss


def with_penalty(side):
    """PyTorch side: an L2 penalty of 1e-4 on the first recurrent kernel is added."""
    weight = side.model.layers[0].weight_hh_l0
    side.loss = lambda outputs, targets: ((outputs - targets) ** 2).mean() + 1e-4 * weight.square().sum()
