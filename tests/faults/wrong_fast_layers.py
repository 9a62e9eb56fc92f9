"""Planted faults: fast layers of the Keras side whose way back is wrong."""


def way_back_scaled(side):
    """What comes back to the first layer's output is larger by one per cent."""
    layer = side.model.get_layer("layer0")
    compute = layer._compute

    def scaled(*arguments):
        last_output, outputs, states = compute(*arguments)
        if last_output.requires_grad:
            last_output.register_hook(lambda gradient: gradient * 1.01)
        return last_output, outputs, states

    vars(layer)["_compute"] = scaled


def way_back_ends_early(side):
    """The gradients reach only the last timestep."""
    layer = side.model.get_layer("layer0")
    compute = layer._compute

    def cut(sequences, states, mask, training):
        computed = compute(sequences, states, mask, training)
        if not computed[0].requires_grad:
            return computed
        _, _, before = compute(sequences[:, :-1], states, mask, training)
        return compute(sequences[:, -1:], [state.detach() for state in before], mask, training)

    vars(layer)["_compute"] = cut
