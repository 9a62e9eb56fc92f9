"""A Keras model from a file or from a user's function, and nothing else run on the way unless it is trusted."""

import json
import runpy
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from compare.errors import InputError

LAMBDA_WORDS = ("Lambda", "lambda", "safe_mode", "arbitrary code", "marshal")


def load(file: str, factory: str | None, weights: str | None, own: str | None, trust: bool) -> Any:
    """The model; raises InputError for what is no model, and for what would need code that is not known or trusted."""
    keras.saving.get_custom_objects().clear()  # of another model, in a process that stays
    if own is not None:
        _run(own)
    if factory is None:
        return _from_file(Path(file), trust)
    model = _run(file)[factory]()
    if not isinstance(model, keras.Model):
        raise InputError(f"{file}: {factory}() returned {type(model).__name__}; return a keras.Model")
    if weights is not None:
        _load_weights(model, Path(weights))
    return model


def _run(file: str) -> dict[str, Any]:
    try:
        return runpy.run_path(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from None
    except SyntaxError as error:
        raise InputError(f"{file}:{error.lineno or 1}: {error.msg}") from None


def _from_file(file: Path, trust: bool) -> Any:
    newer = _checked(file)
    try:
        return _loaded(file, trust)
    except Exception as error:  # whatever a broken file makes Keras raise
        text = " ".join(str(error).split())
        if not trust and any(word in text for word in LAMBDA_WORDS):
            told = "it holds Python code (a Lambda layer), which is not run; --trust lets it, if you know who wrote it"
        elif "Could not locate" in text or "Unknown layer" in text or "custom_objects" in text:
            told = (
                f"it uses a class of its own: {text[:200]} Register it in a file with "
                "@keras.saving.register_keras_serializable() and give that with --with FILE.py"
            )
        else:
            told = f"{type(error).__name__}: {text[:300]}{newer}"
        raise InputError(f"{file} cannot be loaded by Keras {keras.__version__}: {told}") from None


def _loaded(file: Path, trust: bool) -> Any:
    """The model; of an HDF5 file without its training where Keras cannot read that, as with the name of a loss."""
    try:
        return keras.saving.load_model(file, safe_mode=not trust)
    except ValueError as error:
        if file.suffix == ".keras" or "Could not deserialize 'keras." not in str(error):
            raise
        return keras.saving.load_model(file, safe_mode=not trust, compile=False)


def _checked(file: Path) -> str:
    """Refuse what is no file of a Keras model; says where it was made by a newer Keras than this."""
    if file.suffix in (".h5", ".hdf5"):
        if not h5py.is_hdf5(file):
            raise InputError(f"{file} is no HDF5 file, or it is cut short")
        return ""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            whole = archive.testzip() is None
            made_by = "?"
            if whole and "metadata.json" in names:
                made_by = json.loads(archive.read("metadata.json")).get("keras_version", "?")
    except (zipfile.BadZipFile, OSError, ValueError):
        whole, names, made_by = False, [], "?"
    if not whole:
        raise InputError(f"{file} is no .keras file, or it is cut short")
    if "config.json" not in names:
        raise InputError(f"{file} is no Keras model: it holds {', '.join(names[:4]) or 'nothing'}")
    own = tuple(int(part) for part in keras.__version__.split(".")[:2])
    numbers = [int(part) for part in made_by.split(".")[:2] if part.isdigit()]
    return f" (it was made by Keras {made_by}, which is newer)" if tuple(numbers) > own else ""


def _load_weights(model: Any, file: Path) -> None:
    try:
        model.load_weights(file)
    except Exception as error:  # whatever a broken file makes Keras raise
        raise InputError(f"{file} cannot be loaded into the model: {' '.join(str(error).split())[:300]}") from None


@dataclass
class Snapshot:
    """What a model that was read holds, since a factory makes another one when it is called again."""

    weights: dict[str, np.ndarray] = field(default_factory=dict)
    optimizer: list[np.ndarray] = field(default_factory=list)

    def take(self, model: Any, variables: Mapping[str, Any]) -> None:
        """Note a model's weights and what its optimizer has gathered."""
        self.weights = {name: np.array(keras.ops.convert_to_numpy(v)) for name, v in variables.items()}
        held = model.optimizer.variables if model.compiled and model.optimizer.built else []
        self.optimizer = [np.array(keras.ops.convert_to_numpy(variable)) for variable in held]

    def give(self, model: Any, variables: Mapping[str, Any]) -> None:
        """Let another model have them."""
        for name, value in self.weights.items():
            variables[name].assign(value)
        if self.optimizer:
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            for variable, value in zip(model.optimizer.variables, self.optimizer, strict=True):
                variable.assign(value)


SNAPSHOT = Snapshot()


def named_model(source: Mapping[str, Any], compiled: bool) -> Any:
    """A model whose variables have the names of its graph as their paths: what a pair file's keras_side() returns.

    It holds what the model held that was read. Where it is not compiled it gets SGD and the mean squared error, by
    which its gradients are seen.
    """
    from compare.port.keras_reader.reading import Reader

    model = load(**source)
    reader = Reader(model)
    for name, variable in reader.variables.items():
        variable._path = name
    SNAPSHOT.give(model, reader.variables)
    if reader.notes:  # nothing that this model draws is ever used, though cells draw it
        _never_drop(model)
    if not compiled:
        count = len(keras.tree.flatten(reader.trace.outputs))
        model.compile(keras.optimizers.SGD(0.01), loss="mse" if count == 1 else ["mse"] * count)
    return model


def _never_drop(model: Any) -> None:
    for layer in model._flatten_layers():
        for name in ("rate", "dropout", "recurrent_dropout"):
            if isinstance(vars(layer).get(name), float):  # a layer shows those of its cell too
                setattr(layer, name, 0.0)
