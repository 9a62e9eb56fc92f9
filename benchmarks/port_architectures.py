"""Random Keras models by their number: what `benchmarks/port.py` ports. One number is always the same model."""

import keras
import numpy as np
from keras import layers, ops

SIZES = (3, 4, 5, 6)
GATES = ("sigmoid", "hard_sigmoid")
ACTIVATIONS = ("tanh", "tanh", "tanh", "relu", "elu", "softsign", "linear")


class Draw:
    """Draws the choices of one architecture."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)

    def one(self, *choices):
        """One of some choices."""
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share):
        """Whether something happens that does in a share of the cases."""
        return bool(self.random.random() < share)


def build(seed):
    """The model of a number, compiled in most cases; in some the optimizer has steps behind it."""
    keras.utils.set_random_seed(seed)
    draw = Draw(seed)
    length = draw.one(6, 8, None)
    inputs, x = _input(draw, length, "first")
    given = [inputs]
    if draw.chance(0.2):
        other, y = _input(draw, length, "second")
        given.append(other)
        x = _joined(draw, x, y)
    for _ in range(int(draw.random.integers(1, 4))):
        x = _layer(draw, x, length)
    outputs, losses = _heads(draw, x, length)
    if len(outputs) == 1:
        outputs, losses = outputs[0], losses[0]
    model = keras.Model(given if len(given) > 1 else given[0], outputs, name=f"model_{seed}")
    if draw.chance(0.15):
        model = _Subclassed(model, name=f"model_{seed}")
        model.call_once(given)
    if draw.chance(0.9):
        model.compile(_optimizer(draw), losses)
        if draw.chance(0.4):
            _train_before(draw, model)
    return model


class _Subclassed(keras.Model):
    """A model whose call() is Python: another model, and something done with what that gives."""

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def call_once(self, tensors):
        """Call it, so that it knows its inputs."""
        self(tensors if len(tensors) > 1 else tensors[0])

    def call(self, inputs):
        """The inner model's outputs, unchanged."""
        return self.inner(inputs)


def _input(draw, length, name):
    if draw.chance(0.5):
        words = keras.Input((length,), dtype="int32", name=f"{name}_words")
        x = layers.Embedding(draw.one(11, 20), draw.one(*SIZES), mask_zero=draw.chance(0.5))(words)
        return words, x
    frames = keras.Input((length, draw.one(*SIZES)), name=f"{name}_frames")
    return frames, layers.Masking(draw.one(0.0, 0.0, -1.0))(frames) if draw.chance(0.4) else frames


def _joined(draw, x, y):
    if draw.chance(0.5):
        return layers.Concatenate()([x, y])
    x, y = layers.Dense(5)(x), layers.Dense(5)(y)
    if draw.chance(0.3):
        return layers.Attention(use_scale=draw.chance(0.5))([x, y])
    return draw.one(layers.Add, layers.Multiply, layers.Average, layers.Subtract, layers.Maximum)()([x, y])


def _recurrent_options(draw, kind):
    options = {"activation": draw.one(*ACTIVATIONS), "use_bias": draw.chance(0.85)}
    if kind != "SimpleRNN":
        options["recurrent_activation"] = draw.one("sigmoid", "sigmoid", *GATES)
    if kind == "GRU":
        options["reset_after"] = draw.chance(0.75)
    if draw.chance(0.2):
        options["dropout"] = 0.2
    if draw.chance(0.12):
        options["recurrent_dropout"] = 0.15
    if draw.chance(0.1):
        options["kernel_regularizer"] = keras.regularizers.L2(1e-3)
    return options


def _recurrent(draw, x, sequences):
    kind = draw.one("LSTM", "LSTM", "GRU", "GRU", "SimpleRNN")
    options = _recurrent_options(draw, kind)
    plain = options.get("activation") == "tanh" and draw.chance(0.6)
    if plain:
        options = {"activation": "tanh"}
    if draw.chance(0.12):
        options["go_backwards"] = True
    if draw.chance(0.1):
        options["zero_output_for_mask"] = True
    layer = getattr(layers, kind)
    return layer(draw.one(*SIZES), return_sequences=sequences, **options)


def _cells(draw):
    kinds = [draw.one("LSTM", "GRU", "SimpleRNN") for _ in range(int(draw.random.integers(1, 4)))]
    cells = []
    for kind in kinds:
        options = _recurrent_options(draw, kind)
        options.pop("dropout", None), options.pop("recurrent_dropout", None)
        cells.append(getattr(layers, f"{kind}Cell")(draw.one(*SIZES), **options))
    return cells if len(cells) > 1 else cells[0]


def _layer(draw, x, length):
    """A layer that makes a sequence of a sequence."""
    kind = draw.one(
        *["recurrent"] * 5,
        *["bidirectional"] * 3,
        "cells",
        "states",
        "convolution",
        "pooling",
        "dense",
        "norm",
        "dropout",
        "attention",
        "residual",
        "operation",
        "nested",
        "shared",
        "activation",
    )
    return globals()[f"_make_{kind}"](draw, x, length)


def _make_recurrent(draw, x, length):
    return _recurrent(draw, x, True)(x)


def _make_bidirectional(draw, x, length):
    layer = _recurrent(draw, x, True)
    layer.go_backwards = False
    return layers.Bidirectional(layer, merge_mode=draw.one("concat", "concat", "sum", "mul", "ave"))(x)


def _make_cells(draw, x, length):
    return layers.RNN(_cells(draw), return_sequences=True, go_backwards=draw.chance(0.15))(x)


def _make_states(draw, x, length):
    """An encoder whose last states begin a decoder."""
    kind, units = draw.one("LSTM", "GRU", "SimpleRNN"), draw.one(*SIZES)
    options = _recurrent_options(draw, kind) if draw.chance(0.4) else {}
    _, *states = getattr(layers, kind)(units, return_state=True, **options)(x)
    return getattr(layers, kind)(units, return_sequences=True)(x, initial_state=states)


def _make_convolution(draw, x, length):
    padding = draw.one("causal", "same", "valid") if length != 6 else draw.one("causal", "same")
    dilation = draw.one(1, 1, 2) if padding != "valid" else 1
    return layers.Conv1D(
        draw.one(*SIZES),
        draw.one(1, 2, 3),
        padding=padding,
        dilation_rate=dilation,
        activation=draw.one(None, "relu", "tanh"),
        use_bias=draw.chance(0.8),
    )(x)


def _make_pooling(draw, x, length):
    kind = draw.one(layers.MaxPooling1D, layers.AveragePooling1D)
    return kind(2, strides=1, padding="valid")(x)


def _make_dense(draw, x, length):
    layer = layers.Dense(draw.one(*SIZES), activation=draw.one(None, "relu", "gelu", "silu", "selu"))
    return layers.TimeDistributed(layer)(x) if draw.chance(0.4) else layer(x)


def _make_norm(draw, x, length):
    kind = draw.one("layer", "batch", "group")
    if kind == "layer":
        return layers.LayerNormalization(epsilon=draw.one(1e-3, 1e-5))(x)
    return layers.BatchNormalization(momentum=draw.one(0.99, 0.9))(x) if kind == "batch" else _group(x)


def _group(x):
    return layers.GroupNormalization(groups=1)(x)


def _make_dropout(draw, x, length):
    return draw.one(layers.Dropout, layers.SpatialDropout1D)(draw.one(0.1, 0.4))(x)


def _make_attention(draw, x, length):
    kind = draw.one("multi", "dot", "additive")
    if kind == "multi":
        layer = layers.MultiHeadAttention(draw.one(1, 2), draw.one(2, 3), dropout=draw.one(0.0, 0.0, 0.1))
        return layer(x, x, use_causal_mask=draw.chance(0.3))
    if kind == "dot":
        return layers.Attention(use_scale=draw.chance(0.5), dropout=draw.one(0.0, 0.1))([x, x])
    return layers.AdditiveAttention()([x, x])


def _make_residual(draw, x, length):
    return layers.Add()([x, layers.Dense(x.shape[-1], activation="tanh")(x)])


def _make_operation(draw, x, length):
    kind = draw.one("scale", "flip", "concatenate", "tanh", "slice")
    if kind == "scale":
        return x * 0.5 + 0.1
    if kind == "flip":
        return ops.flip(x, axis=1)
    if kind == "concatenate":
        return ops.concatenate([x, ops.square(x)], axis=-1)
    return ops.tanh(x) if kind == "tanh" else x[:, 1:, :]


def _make_nested(draw, x, length):
    inside = keras.Input((None, x.shape[-1]))
    return keras.Model(inside, layers.Dense(4)(_recurrent(draw, inside, True)(inside)), name=f"nested_{id(inside)}")(x)


def _make_shared(draw, x, length):
    layer = layers.Dense(x.shape[-1], activation="tanh")
    return layer(layer(x))


def _make_activation(draw, x, length):
    layer = draw.one(
        layers.Activation("softplus"),
        layers.ReLU(),
        layers.LeakyReLU(negative_slope=0.1),
        layers.ELU(),
        layers.Softmax(),
    )
    return layer(x)


def _heads(draw, x, length):
    if draw.chance(0.35):
        return _sequence_head(draw, x)
    kind = draw.one("recurrent", "bidirectional", "slice", "average", "largest", "mean")
    if kind == "recurrent":
        x = _recurrent(draw, x, False)(x)
    elif kind == "bidirectional":
        layer = _recurrent(draw, x, False)
        layer.go_backwards = False
        x = layers.Bidirectional(layer, merge_mode=draw.one("concat", "sum", "ave"))(x)
    elif kind == "slice":
        x = x[:, -1]
    elif kind == "average":
        x = layers.GlobalAveragePooling1D()(x)
    elif kind == "largest":
        x = layers.GlobalMaxPooling1D()(x)
    else:
        x = ops.mean(x, axis=1)
    if draw.chance(0.4):
        x = layers.Dense(draw.one(*SIZES), activation="relu")(x)
    count = draw.one(1, 1, 1, 2)
    pairs = [_head(draw, x) for _ in range(count)]
    return [output for output, _ in pairs], [loss for _, loss in pairs]


def _head(draw, x):
    kind = draw.one("value", "value", "binary", "classes", "sparse")
    if kind == "value":
        return layers.Dense(draw.one(1, 3))(x), draw.one("mse", "mae", "huber", "log_cosh")
    if kind == "binary":
        logits = draw.chance(0.5)
        activation = None if logits else "sigmoid"
        return layers.Dense(1, activation=activation)(x), keras.losses.BinaryCrossentropy(from_logits=logits)
    logits = draw.chance(0.5)
    outputs = layers.Dense(4, activation=None if logits else "softmax")(x)
    loss = keras.losses.CategoricalCrossentropy if kind == "classes" else keras.losses.SparseCategoricalCrossentropy
    return outputs, loss(from_logits=logits)


def _sequence_head(draw, x):
    if draw.chance(0.5):
        return [layers.Dense(2)(x)], [draw.one("mse", "mae")]
    logits = draw.chance(0.5)
    outputs = layers.TimeDistributed(layers.Dense(5, activation=None if logits else "softmax"))(x)
    return [outputs], [keras.losses.SparseCategoricalCrossentropy(from_logits=logits)]


def _optimizer(draw):
    kind = draw.one("Adam", "Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "Adadelta", "Adamax", "Nadam", "Lion")
    options = {}
    if kind == "SGD":
        options = {"momentum": draw.one(0.0, 0.9), "nesterov": draw.chance(0.3)}
    if kind == "RMSprop":
        options = {"momentum": draw.one(0.0, 0.5), "centered": draw.chance(0.3)}
    if kind == "Adam":
        options = {"amsgrad": draw.chance(0.2)}
    if draw.chance(0.3):
        options[draw.one("clipnorm", "global_clipnorm", "clipvalue")] = draw.one(0.05, 1.0)
    rate = draw.one(1e-3, 3e-3)
    if draw.chance(0.2):
        schedules = keras.optimizers.schedules
        rate = draw.one(
            schedules.ExponentialDecay(rate, 4, 0.7),
            schedules.CosineDecay(rate, 10),
            schedules.PiecewiseConstantDecay([2, 4], [rate, rate / 2, rate / 4]),
            schedules.PolynomialDecay(rate, 6),
            schedules.InverseTimeDecay(rate, 3, 0.5),
        )
    return getattr(keras.optimizers, kind)(rate, **options)


def _train_before(draw, model):
    """Let the optimizer have gathered something, as after a few steps."""
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(int(draw.random.integers(1, 9)))
    for variable in optimizer.variables:
        if variable.path.endswith(("iteration", "learning_rate")) or not variable.shape:
            continue
        values = draw.random.normal(size=variable.shape) * 0.01
        positive = any(word in variable.path for word in ("velocity", "accum", "norm"))
        centered = "average" in variable.path
        variable.assign(np.abs(values) + 0.01 if positive else values * 0.1 if centered else values)
