"""Twelve Keras models as people write them, compiled and given their weights: what `port` is to carry to PyTorch."""

import keras
from keras import layers, ops


def sentiment():
    """Words with padding, read in both directions."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="tokens"),
            layers.Embedding(50, 8, mask_zero=True),
            layers.Bidirectional(layers.LSTM(6)),
            layers.Dropout(0.3),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="sentiment",
    )
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    return model


def translator():
    """Encoder and decoder with attention over the encoder's outputs."""
    source = keras.Input((None,), dtype="int32", name="source")
    target = keras.Input((None,), dtype="int32", name="target")
    encoded, h, c = layers.LSTM(6, return_sequences=True, return_state=True, name="encoder")(
        layers.Embedding(20, 5, mask_zero=True, name="source_embedding")(source)
    )
    x = layers.Embedding(22, 5, mask_zero=True, name="target_embedding")(target)
    decoded = layers.LSTM(6, return_sequences=True, name="decoder")(x, initial_state=[h, c])
    context = layers.Attention(name="attention")([decoded, encoded])
    logits = layers.Dense(22, name="words")(layers.Concatenate(name="joined")([decoded, context]))
    model = keras.Model([source, target], logits, name="translator")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, clipnorm=1.0), loss)
    return model


def tagger():
    """Two bidirectional layers, one upon the other, and a tag for every word."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="words"),
            layers.Embedding(60, 8, mask_zero=True),
            layers.Bidirectional(layers.GRU(5, return_sequences=True)),
            layers.Bidirectional(layers.GRU(4, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(7, activation="softmax")),
        ],
        name="tagger",
    )
    model.compile(keras.optimizers.RMSprop(3e-3), "sparse_categorical_crossentropy")
    return model


def forecaster():
    """A GRU with dropout of its inputs and of its state."""
    model = keras.Sequential(
        [
            keras.Input((12, 3), name="windows"),
            layers.GRU(6, dropout=0.2, recurrent_dropout=0.1, return_sequences=True),
            layers.GRU(5),
            layers.Dropout(0.2),
            layers.Dense(2),
        ],
        name="forecaster",
    )
    model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.01), "mse")
    return model


def character_model():
    """The next character after each one."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="characters"),
            layers.Embedding(30, 8),
            layers.LSTM(10, return_sequences=True),
            layers.LSTM(10, return_sequences=True),
            layers.Dense(30),
        ],
        name="character_model",
    )
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 100, 0.9)
    model.compile(
        keras.optimizers.Adam(schedule, global_clipnorm=5.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def convolution():
    """A convolution before a recurrent layer."""
    model = keras.Sequential(
        [
            keras.Input((20, 4), name="signal"),
            layers.Conv1D(8, 5, padding="causal", activation="relu"),
            layers.MaxPooling1D(2),
            layers.BatchNormalization(),
            layers.LSTM(6, return_sequences=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax"),
        ],
        name="convolution",
    )
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), "categorical_crossentropy")
    return model


def language_model():
    """A stateful model, which goes on where the last batch ended."""
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(4, 8), dtype="int32", name="tokens"),
            layers.Embedding(40, 6),
            layers.GRU(9, return_sequences=True, stateful=True),
            layers.Dense(40, activation="softmax"),
        ],
        name="language_model",
    )
    model.compile("adagrad", "sparse_categorical_crossentropy")
    return model


def autoencoder():
    """A sequence made small and grown again."""
    model = keras.Sequential(
        [
            keras.Input((9, 4), name="series"),
            layers.LSTM(6, activation="relu", return_sequences=True),
            layers.LSTM(3, activation="relu"),
            layers.RepeatVector(9),
            layers.LSTM(3, activation="relu", return_sequences=True),
            layers.LSTM(6, activation="relu", return_sequences=True),
            layers.TimeDistributed(layers.Dense(4)),
        ],
        name="autoencoder",
    )
    model.compile("adam", "mae")
    return model


def siamese():
    """One encoder for both questions, and how far apart they are."""
    encoder = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(30, 6, mask_zero=True, name="embedding"),
            layers.LSTM(5, name="lstm"),
        ],
        name="encoder",
    )
    first = keras.Input((None,), dtype="int32", name="first")
    second = keras.Input((None,), dtype="int32", name="second")
    distance = ops.abs(encoder(first) - encoder(second))
    same = layers.Dense(1, activation="sigmoid", name="same")(distance)
    model = keras.Model([first, second], same, name="siamese")
    model.compile("adadelta", "binary_crossentropy")
    return model


def several_inputs():
    """A series, what is known of its source, and two forecasts."""
    series = keras.Input((10, 3), name="series")
    store = keras.Input((), dtype="int32", name="store")
    x = layers.GRU(6, name="history")(series)
    known = layers.Flatten(name="flat")(layers.Embedding(8, 4, name="stores")(store))
    x = layers.Concatenate(name="joined")([x, known])
    x = layers.Dense(8, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-3), name="hidden")(x)
    mean = layers.Dense(1, name="mean")(x)
    spread = layers.Dense(1, activation="softplus", name="spread")(x)
    model = keras.Model({"series": series, "store": store}, [mean, spread], name="several_inputs")
    model.compile("nadam", ["mse", "mae"], loss_weights=[1.0, 0.3])
    return model


@keras.saving.register_keras_serializable("gallery")
class MinimalCell(keras.layers.Layer):
    """A hand-written cell: one gate decides between the state and a candidate."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, shape):
        """Make the weights for inputs of a shape."""
        self.kernel = self.add_weight(shape=(shape[-1], 2 * self.units), name="kernel")
        self.recurrent = self.add_weight(shape=(self.units, 2 * self.units), name="recurrent")
        self.bias = self.add_weight(shape=(2 * self.units,), initializer="zeros", name="bias")

    def call(self, inputs, states):
        """One timestep."""
        h = states[0]
        z = ops.matmul(inputs, self.kernel) + ops.matmul(h, self.recurrent) + self.bias
        gate = ops.sigmoid(z[:, : self.units])
        h = gate * h + (1 - gate) * ops.tanh(z[:, self.units :])
        return h, [h]

    def get_config(self):
        """The units."""
        return {**super().get_config(), "units": self.units}


def own_cell():
    """A cell of the user's own, unrolled by keras.layers.RNN."""
    inputs = keras.Input((8, 3), name="x")
    x = layers.RNN(MinimalCell(5), return_sequences=True, name="minimal")(inputs)
    x = layers.LayerNormalization(name="norm")(x)
    outputs = layers.Dense(2, name="head")(x[:, -1, :])
    model = keras.Model(inputs, outputs, name="own_cell")
    model.compile("adamax", "huber")
    return model


def spoken_characters():
    """Frames of sound, masked where a row has ended, with a character for each."""
    model = keras.Sequential(
        [
            keras.Input((None, 6), name="frames"),
            layers.Masking(0.0),
            layers.TimeDistributed(layers.Dense(8, activation="relu")),
            layers.Bidirectional(layers.SimpleRNN(7, return_sequences=True), merge_mode="sum"),
            layers.SpatialDropout1D(0.1),
            layers.TimeDistributed(layers.Dense(9, activation="softmax")),
        ],
        name="spoken_characters",
    )
    model.compile(keras.optimizers.Lion(1e-3), "sparse_categorical_crossentropy")
    return model


GALLERY = (
    "sentiment",
    "translator",
    "tagger",
    "forecaster",
    "character_model",
    "convolution",
    "language_model",
    "autoencoder",
    "siamese",
    "several_inputs",
    "own_cell",
    "spoken_characters",
)
