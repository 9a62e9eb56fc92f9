"""Show with float64 that ports are correct and mutations effective, without `explain`: one process per framework.

As a script: python validate.py keras|torch WORK (a folder with texts.json; the Keras process goes first).
"""

import json
import os
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

EXACT, ROUNDED, EFFECTIVE = 1e-9, 1e-6, 1e-6
Text = dict[str, Any]


def validate(texts: dict[str, Text], work: Path, *, keras: bool = True) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Train all texts: {name: {"text", "weights", "mutations": [...]}}; without Keras only mutations are judged.

    Returns what is wrong with each port ("" for nothing), and for each mutation "effective", "equivalent", or what it
    raises.
    """
    work.mkdir(parents=True, exist_ok=True)
    (work / "keras.pickle").unlink(missing_ok=True)
    (work / "texts.json").write_text(json.dumps(texts), "utf-8")
    root = str(Path(__file__).parents[1])
    backends = {backend(entry["text"]) for entry in texts.values()} if keras else set()
    for side in (*sorted(backends), ""):
        environment = {**os.environ, "KERAS_BACKEND": side or "torch", "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, "-m", "ports.validate", "keras" if side else "torch", str(work)]
        subprocess.run(command, check=True, env=environment)  # noqa: S603
    result = json.loads((work / "result.json").read_text("utf-8"))
    return result["ports"], result["mutations"]


def backend(text: str) -> str:
    """Keras's backend: TensorFlow for stateful layers, which cannot be trained on torch.

    On TensorFlow Keras rounds Adam's betas to float32 (hence ROUNDED), and squares the gradients of a repeated token
    one by one.
    """
    return "tensorflow" if "stateful=True" in text else "torch"


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest value."""
    if a.shape != b.shape or not np.isfinite(b).all():
        return float("inf")
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-300)) if a.size else 0.0


def gates(array: np.ndarray) -> np.ndarray:
    """Keras's order of a GRU's gates (update, reset, candidate) into PyTorch's (reset, update, candidate)."""
    z, r, n = np.split(array, 3, axis=-1)
    return np.concatenate([r, z, n], axis=-1)


def _double(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _double(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_double(value) for value in tree]
    return tree.astype("float64") if tree.dtype == np.float32 else tree


def _rows(tree: Any, start: int, stop: int) -> Any:
    if isinstance(tree, dict):
        return {key: _rows(value, start, stop) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_rows(value, start, stop) for value in tree]
    return tree[start:stop]


def _count(tree: Any) -> int:
    while isinstance(tree, (dict, list)):
        tree = next(iter(tree.values())) if isinstance(tree, dict) else tree[0]
    return len(tree)


def _batches(space: dict[str, Any]) -> list[tuple[Any, ...]]:
    whole = [_double(part) for part in space["data"]()]
    size = space["batch_size"]
    return [tuple(_rows(part, at, at + size) for part in whole) for at in range(0, _count(whole[0]), size)]


def _still(text: str) -> str:
    """A text without dropout, whose masks the two frameworks draw otherwise."""
    return re.sub(r"(Dropout\(|dropout=)[0-9.]+", r"\g<1>0.0", text)


def _key(path: str) -> str:
    """rnn/lstm_cell/kernel is rnn/kernel; bidirectional/forward_lstm/lstm_cell/bias is bidirectional/forward/bias."""
    parts = [part for part in path.split("/") if not re.fullmatch(r"\w+_cell(_\d+)?|sequential", part)]
    parts = [part for at, part in enumerate(parts) if not (at and "distributed" in parts[at - 1])]
    parts = [parts[0], *(re.sub(r"^(forward|backward)_.*", r"\1", part) for part in parts[1:])]
    return "/".join(parts)


def _keras(work: Path) -> None:
    import keras
    from keras.src.backend.common import dtypes

    keras.backend.set_floatx("float64")
    dtypes.BIT64_TO_BIT32_DTYPE.pop("float64")  # or Keras makes means, quotients and schedules in float32
    file = work / "keras.pickle"
    results = pickle.loads(file.read_bytes()) if file.exists() else {}  # noqa: S301
    for name, entry in json.loads((work / "texts.json").read_text("utf-8")).items():
        if backend(entry["text"]) != keras.backend.backend():
            continue
        try:
            keras.utils.clear_session()
            space: dict[str, Any] = {}
            exec(compile(_still(entry["text"]), name, "exec"), space)  # noqa: S102
            model = space["keras_side"]()
            model.run_eagerly = True
            batches = _batches(space)
            rng = np.random.default_rng(0)
            for variable in [v for layer in model._flatten_layers() for v in layer._trainable_variables]:
                if "gamma" not in variable.path:
                    variable.assign(variable.numpy() + rng.normal(0, 0.15, variable.shape))

            def weights(model: Any = model) -> dict[str, np.ndarray]:
                return {_key(v.path): keras.ops.convert_to_numpy(v) * 1.0 for v in model.weights}

            steps, losses = [weights()], []
            for x, y, *w in batches:
                model.reset_metrics()
                value = model.train_on_batch(x, y, *w, class_weight=space.get("class_weight"))
                losses.append(float(np.ravel(value)[0]))
                steps.append(weights())
            results[name] = steps, losses
        except Exception as error:
            results[name] = f"Keras: {type(error).__name__}: {error}"
    file.write_bytes(pickle.dumps(results))


def _train(text: str, name: str, values: dict[str, np.ndarray] | None) -> tuple[list[Any], list[float]]:
    import torch

    space: dict[str, Any] = {}
    exec(compile(text, name, "exec"), space)  # noqa: S102
    torch.manual_seed(1)
    module, loss, optimizer = space["torch_side"]()
    parameters = dict(module.named_parameters())
    if values is not None:
        missing = parameters.keys() ^ values.keys()
        assert not missing, f"the map and the parameters differ in {sorted(missing)}"
        for key, value in values.items():
            assert parameters[key].shape == value.shape, f"{key}: {parameters[key].shape}, {value.shape}"
            parameters[key].data.copy_(torch.as_tensor(value.copy()))
    steps, losses = [{key: value.detach().numpy().copy() for key, value in parameters.items()}], []
    scheduler = space["scheduler"](optimizer) if "scheduler" in space else None
    torch.manual_seed(0)
    module.train()
    for x, y, *w in _batches(space):
        tensors = [_tensors(part) for part in (x, y, *w)]
        if "torch_step" in space:
            value = space["torch_step"](module, loss, optimizer, *tensors)
        else:
            optimizer.zero_grad()
            x, *rest = tensors
            value = loss(module(*x) if isinstance(x, list) else module(x), *rest)
            value.backward()
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(float(value))
        steps.append({key: parameter.detach().numpy().copy() for key, parameter in parameters.items()})
    return steps, losses


def _values(formulas: dict[str, str], k: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: eval(formula, {"k": k, "np": np, "gates": gates}) for name, formula in formulas.items()}  # noqa: S307


def _tensors(tree: Any) -> Any:
    import torch

    if isinstance(tree, dict):
        return {key: _tensors(value) for key, value in tree.items()}
    return [_tensors(value) for value in tree] if isinstance(tree, list) else torch.as_tensor(tree)


def _torch(work: Path) -> None:
    import torch

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.nn.utils.clip_grad_norm_ = _clip  # without the 1e-6 beside the norm
    warnings.simplefilter("ignore")
    file = work / "keras.pickle"
    keras = pickle.loads(file.read_bytes()) if file.exists() else {}  # noqa: S301
    ports, mutations = {}, {}
    for name, entry in json.loads((work / "texts.json").read_text("utf-8")).items():
        trained = keras.get(name)
        try:
            values = None
            if isinstance(trained, str):
                raise RuntimeError(trained)
            if trained is not None:
                wanted = [_values(entry["weights"], k) for k in trained[0]]
                values = wanted[0]
                exact = EXACT if backend(entry["text"]) == "torch" else ROUNDED
                ports[name] = _compare(wanted, trained[1], *_train(_still(entry["text"]), name, values), exact, 1e-6)
            plain = _train(entry["text"], name, values)
            values = plain[0][0]
        except Exception as error:
            ports[name] = f"{type(error).__name__}: {error}"
            continue
        mutations[name] = []
        for text in entry.get("mutations", []):
            try:
                told = _compare(*plain, *_train(text, name, values), EFFECTIVE, EFFECTIVE)
                mutations[name].append("effective" if told else "equivalent")
            except Exception as error:
                mutations[name].append(f"{type(error).__name__}: {error}"[:200])
    (work / "result.json").write_text(json.dumps({"ports": ports, "mutations": mutations}), "utf-8")


def _clip(parameters: Any, max_norm: float) -> None:
    import torch

    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.sqrt(sum((g**2).sum() for g in gradients))
    for gradient in gradients:
        gradient.mul_(max_norm / max(float(norm), max_norm))


def _compare(
    steps: list[Any], losses: list[float], other: list[Any], found: list[float], exact: float, near: float
) -> str:
    for number, (a, b) in enumerate(zip(losses, found, strict=True)):
        if not abs(a - b) <= near * max(abs(a), 1e-12):
            return f"loss of step {number}: {a}, {b}"
        for key, value in steps[number + 1].items():
            if not (size := difference(value, other[number + 1][key])) <= exact:
                return f"{key} after step {number}: {size:.1e}"
    return ""


if __name__ == "__main__":
    (_keras if sys.argv[1] == "keras" else _torch)(Path(sys.argv[2]))
