"""Planted faults: the mask does not reach a layer, or nothing after it, as where a layer does not hand it on."""


def _without_mask(layer):
    """Have a layer called without the mask, whether Keras hands it on or it is given."""
    call = layer.call

    def without(*arguments, mask=None, **options):
        return call(*arguments, **options)

    layer.call = without


def keras_second_layer(side):
    """Keras side: the second layer computes the padding like what counts."""
    _without_mask(side.model.get_layer("layer1"))


def keras_first_layer(side):
    """Keras side: the first layer computes the padding like what counts."""
    _without_mask(side.model.get_layer("layer0"))


def _torch_without_mask(side, index):
    import torch

    direction = side.model._direction

    def without(inputs, layer, *others):
        everything = {"mask": torch.ones_like(inputs["mask"])} if layer == index else {}
        return direction(inputs | everything, layer, *others)

    side.model._direction = without


def torch_first_layer(side):
    """PyTorch side: the first layer computes the padding like what counts."""
    _torch_without_mask(side, 0)


def torch_second_layer(side):
    """PyTorch side: the second layer computes the padding like what counts."""
    _torch_without_mask(side, 1)
