"""What tests of the models' options run inside the process of a framework; a side comes first, as in `probes`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from helpers.model_options import VOCABULARY, Example, random_weights
from helpers.probes import loaded_weights, new_model, package, trained
from helpers.spoiled_weights import SPOILED
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

LEARNING_RATE = 0.05


def single_step(side: str, example: Example, compiled: bool = True) -> dict[str, np.ndarray]:
    """Take a training step of an example: forward/…, loss, gradient/… and non_trainable/… as `SingleStep` has them.

    On TensorFlow and JAX the step can be left uncompiled, which saves most of the time of a single one.
    """
    with _compiled(side, compiled):
        model = new_model(side, example.keywords, example.weights)
        both = package(side)
        loss = both.build_loss(example.option.loss)
        optimizer = both.build_optimizer(trained(side, model), "sgd", learning_rate=LEARNING_RATE)
        take = both.SingleStep(model, loss, optimizer)
        return take(both.read_slots(model, optimizer), example.non_trainable, 0, inputs_of(example), example.targets)


def predictions(side: str, example: Example, compiled: bool = True) -> np.ndarray:
    """What a model with an example's weights and running figures predicts; of a stateful one from zero states."""
    with _compiled(side, compiled):
        model = new_model(side, example.keywords, example.weights)
        package(side).load_non_trainable(model, example.non_trainable)
        return package(side).predict(model, inputs_of(example))


def inputs_of(example: Example) -> Any:
    """The inputs as the models take them: an array where the sequence is all."""
    return example.inputs if len(example.inputs) > 1 else example.inputs["sequence"]


def dropout_probes(side: str, shape: Mapping[str, Any], tensors: Any, inputs: np.ndarray, number: int) -> list[dict]:
    """Probe a model that draws its own dropout masks several times."""
    model = new_model(side, shape, tensors)
    return [package(side).dropout_probe(model, inputs) for _ in range(number)]


def seeded_dropout(
    side: str, shape: Mapping[str, Any], tensors: Any, inputs: np.ndarray, seeds: list[int]
) -> list[Any]:
    """What a model's own dropout does in the first pass after each seed."""
    probes = []
    for seed in seeds:
        package(side).set_seed(seed)
        probes += dropout_probes(side, shape, tensors, inputs, 1)
    return probes


@contextmanager
def _compiled(side: str, compiled: bool) -> Iterator[None]:
    if side == "keras-jax" and not compiled:
        import jax

        with jax.disable_jit():
            yield
    elif side == "keras-tensorflow" and not compiled:
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)
    else:
        yield


def non_trainable_round_trip(side: str, example: Example, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Load non-trainable state into a model and read it again."""
    model = new_model(side, example.keywords, example.weights)
    package(side).load_non_trainable(model, dict(tensors))
    return package(side).read_non_trainable(model)


FIELDS = st.fixed_dictionaries(
    {
        "cell": st.sampled_from(["simple_rnn", "lstm", "gru"]),
        "units": st.integers(1, 4),
        "layers": st.integers(1, 3),
        "embedding": st.none() | st.integers(1, 3),
        "bidirectional": st.sampled_from([None, None, "concat", "sum"]),
        "head": st.sampled_from(["last_state", "last_output", "every_output"]),
        "normalization": st.sampled_from([None, "layer", "batch"]),
        "use_bias": st.booleans(),
        "activation": st.sampled_from(["tanh", "elu"]),
        "dropout": st.sampled_from([0.0, 0.5]),
        "recurrent_dropout": st.sampled_from([0.0, 0.5]),
        "l2": st.sampled_from([0.0, 0.1]),
    }
)


def check_round_trips(side: str, spoiled: str | None = None) -> None:
    """Load the canonical tensors of models with any options and read them again, to the last bit.

    With `spoiled`, other tensors are loaded than are expected back: the check must then raise AssertionError.
    """
    phases = [Phase.generate] if spoiled else [Phase.generate, Phase.shrink]

    # A Keras model takes a second or two to build.
    @settings(max_examples=25 if side == "torch" else 6, database=None, deadline=None, derandomize=True, phases=phases)
    @given(fields=FIELDS, reset_after=st.booleans(), features=st.integers(1, 3), outputs=st.integers(1, 3))
    def check(fields: dict[str, Any], reset_after: bool, features: int, outputs: int) -> None:
        shape = fields | {"reset_after": reset_after or fields["cell"] != "gru", "features": features}
        shape |= {"outputs": outputs, "vocabulary": VOCABULARY if fields["embedding"] else None}
        expected = random_weights(shape, seed=1)
        obtained = loaded_weights(side, shape, SPOILED[spoiled](expected) if spoiled else expected)
        assert obtained.keys() == expected.keys()
        for name, tensor in expected.items():
            np.testing.assert_array_equal(obtained[name], tensor, err_msg=name, strict=True)

    check()
