"""Large tensors cut into blocks that stay in a core's cache while an update rule passes over them several times."""

from collections.abc import Iterator, Mapping

import torch

Tensors = list[torch.Tensor]

# Numbers in a block: with a parameter, its gradient, two slots and what is computed on the way, 1.5 MiB in float32.
BLOCK = 2**16


def blocks(
    parameters: Tensors, gradients: Tensors, slots: Mapping[str, Tensors]
) -> Iterator[tuple[Tensors, Tensors, Mapping[str, Tensors]]]:
    """Yield views of all numbers of tensors, about `BLOCK` at a time; what is small enough is yielded whole.

    On a GPU every pass is a launch whatever its size, so there everything is yielded whole.
    """
    lists = [parameters, gradients, *slots.values()]
    whole = sum(parameter.numel() for parameter in parameters) <= BLOCK
    if whole or any(not tensor.is_contiguous() or not tensor.is_cpu for tensors in lists for tensor in tensors):
        yield parameters, gradients, slots
        return
    cut = [[part for tensor in tensors for part in tensor.view(-1).split(BLOCK)] for tensors in lists]
    start, size = 0, 0
    for end, part in enumerate(cut[0], start=1):
        size += part.numel()
        if end == len(cut[0]) or size + cut[0][end].numel() > BLOCK:
            parts_of_block = [parts[start:end] for parts in cut]
            yield parts_of_block[0], parts_of_block[1], dict(zip(slots, parts_of_block[2:], strict=True))
            start, size = end, 0
