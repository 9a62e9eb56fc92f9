"""SimpleRNN, LSTM and GRU models in backend-agnostic Keras 3; `torch_models/recurrent.py` is their mirror."""

import keras

CELLS = {
    "simple_rnn": keras.layers.SimpleRNN,
    "lstm": keras.layers.LSTM,
    "gru": keras.layers.GRU,
}


def build(
    *,
    cell: str,
    features: int = 1,
    units: int = 50,
    outputs: int = 1,
    layers: int = 1,
    dtype: str = "float32",
) -> keras.Model:
    """Build a stack of recurrent layers with a linear head on the last output.

    Input (batch, time, features), output (batch, outputs); any number of timesteps.
    Raises ValueError for an unknown cell or a size below 1.
    """
    if cell not in CELLS:
        raise ValueError(f"cell={cell!r} is unknown; accepted: {', '.join(CELLS)}")
    for name, size in {"features": features, "units": units, "outputs": outputs, "layers": layers}.items():
        if size < 1:
            raise ValueError(f"{name}={size} must be at least 1")

    model = keras.Sequential(name=cell)
    model.add(keras.Input((None, features), dtype=dtype))
    for index in range(layers):
        last = index == layers - 1
        model.add(CELLS[cell](units, return_sequences=not last, name=f"layer{index}", dtype=dtype))
    model.add(keras.layers.Dense(outputs, name="head", dtype=dtype))
    return model
