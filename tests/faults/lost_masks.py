"""Planted faults: the mask does not reach a layer, which then computes the padding like what counts."""


def _keras_without_mask(index):
    """Keras side: a layer is called without the mask, whether Keras hands it on or it is given."""

    def plant(side):
        layer = side.model.get_layer(f"layer{index}")
        call = layer.call

        def without(*arguments, mask=None, **options):
            return call(*arguments, **options)

        layer.call = without

    return plant


def _torch_without_mask(index):
    """PyTorch side: to a layer everything counts."""

    def plant(side):
        direction = side.model._direction

        def without(inputs, layer, *others):
            everything = {"mask": inputs["mask"].new_ones(inputs["mask"].shape)} if layer == index else {}
            return direction(inputs | everything, layer, *others)

        side.model._direction = without

    return plant


keras_first_layer, keras_second_layer = _keras_without_mask(0), _keras_without_mask(1)
torch_first_layer, torch_second_layer = _torch_without_mask(0), _torch_without_mask(1)
