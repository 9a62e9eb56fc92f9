"""A bug report for what has no name: one step's tensors, and a script that repeats the step without this project."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from compare.explain.batches import Tree
from compare.explain.observing import Observation
from compare.storage import write_tensors

SCRIPT = '''"""Step {step}, whose {phase} differs between Keras and PyTorch, at {location}; optimizers start anew.

python reproduce.py torch; KERAS_BACKEND={backend} python reproduce.py keras. step.safetensors holds the batch, the
weights before the step, and as differing/keras and differing/torch what was computed at {location}.
"""
import runpy
import sys

import numpy as np
from safetensors.numpy import load_file

pair, held = runpy.run_path("pair.py"), load_file("step.safetensors")
def tree(name, convert=np.asarray):
    parts = {{n.split("/")[1]: convert(v) for n, v in held.items() if n.startswith(name + "/")}}
    return convert(held[name]) if name in held else list(parts.values()) if "0" in parts else parts
if sys.argv[1] == "torch":
    import torch
    module, loss, optimizer = pair["torch_side"]()
    module.load_state_dict({{n[6:]: torch.from_numpy(v) for n, v in held.items() if n.startswith("torch/")}})
    def step(module, loss, optimizer, x, y):
        predict = pair.get("torch_predict") or (lambda module, x: module(*x) if isinstance(x, list) else module(x))
        optimizer.zero_grad()
        loss(predict(module, x), y).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), pair.get("clip_norm") or float("inf"))
        optimizer.step()
    losses, backward = [], torch.Tensor.backward
    torch.Tensor.backward = lambda loss: (losses.append(loss.detach()), backward(loss))[1]
    x, y = tree("inputs", torch.from_numpy), tree("targets", torch.from_numpy)
    (pair.get("torch_step") or step)(module, loss, optimizer, x, y)
    print("loss", float(losses[-1]))
else:
    model = pair["keras_side"]()
    model(tree("inputs"))
    for number, variable in enumerate(model.weights):
        variable.assign(held[f"keras/{{number}}"])
    print("loss", float(np.ravel(model.train_on_batch(tree("inputs"), tree("targets")))[0]))
'''


def write_bug_report(observation: Observation, folder: Path) -> None:
    """Write `reproduce.py`, `step.safetensors` and the pair file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    unexplained = observation.result["unexplained"]
    step = min(unexplained["step"], len(observation.trace["steps"]) - 1)
    batch = observation.trace["steps"][step]["batch"]
    tensors = {**observation.states(step)}
    for name, tree in zip(("inputs", "targets"), observation.data, strict=False):
        tensors |= _flat(name, tree, batch)
    for side in ("keras", "torch"):
        if unexplained[side] is not None:
            tensors[f"differing/{side}"] = np.asarray(unexplained[side])
    write_tensors(folder / "step.safetensors", tensors)
    shutil.copyfile(observation.pair.file, folder / "pair.py")
    script = SCRIPT.format(
        phase=unexplained["phase"], location=unexplained["tensor"], backend=observation.sides.backend, step=step
    )
    (folder / "reproduce.py").write_text(script, "utf-8")


def _flat(name: str, tree: Tree, batch: list[int]) -> dict[str, Any]:
    """The rows of a batch by name: "inputs", "inputs/0", "inputs/name"."""
    if isinstance(tree, np.ndarray):
        return {name: tree[batch]}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {key: array for part, value in items for key, array in _flat(f"{name}/{part}", value, batch).items()}
