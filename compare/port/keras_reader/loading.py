"""A Keras model from a file or from a user's function, and nothing else run on the way unless it is trusted."""

import json
import runpy
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras

from compare.errors import InputError

LAMBDA_WORDS = ("Lambda", "lambda", "safe_mode", "arbitrary code", "marshal")


def load(file: str, factory: str | None, weights: str | None, own: str | None, trust: bool) -> Any:
    """The model; raises InputError for what is no model, and for what would need code that is not known or trusted."""
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
        return keras.saving.load_model(file, safe_mode=not trust)
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


def _checked(file: Path) -> str:
    """Refuse what is no file of a Keras model; says where it was made by a newer Keras than this."""
    if file.suffix in (".h5", ".hdf5"):
        if not h5py.is_hdf5(file):
            raise InputError(f"{file} is no HDF5 file, or it is cut short")
        return ""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if "config.json" not in names or archive.testzip() is not None:
                raise InputError(f"{file} is no Keras model: it holds {', '.join(names[:4]) or 'nothing'}")
            made_by = json.loads(archive.read("metadata.json")).get("keras_version", "?")
    except (zipfile.BadZipFile, OSError, ValueError, KeyError):
        raise InputError(f"{file} is no .keras file, or it is cut short") from None
    own = tuple(int(part) for part in keras.__version__.split(".")[:2])
    numbers = [int(part) for part in made_by.split(".")[:2] if part.isdigit()]
    return f" (it was made by Keras {made_by}, which is newer)" if tuple(numbers) > own else ""


def _load_weights(model: Any, file: Path) -> None:
    try:
        model.load_weights(file)
    except Exception as error:  # whatever a broken file makes Keras raise
        raise InputError(f"{file} cannot be loaded into the model: {' '.join(str(error).split())[:300]}") from None


def named_model(source: Mapping[str, Any], compiled: bool) -> Any:
    """A model whose variables have the names of its graph as their paths: what a pair file's keras_side() returns.

    Where it is not compiled it gets SGD and the mean squared error, by which its gradients are seen.
    """
    from compare.port.keras_reader.reading import Reader

    model = load(**source)
    for name, variable in Reader(model).variables.items():
        variable._path = name
    if not compiled:
        count = len(keras.tree.flatten(model.outputs))
        model.compile(keras.optimizers.SGD(0.01), loss="mse" if count == 1 else ["mse"] * count)
    return model
