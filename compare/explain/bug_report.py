"""A bug report for what has no name: one step's tensors, and a script that repeats the step without this project."""

import shutil
from pathlib import Path

import numpy as np

from compare.explain.comparing import Stage
from compare.explain.investigation import Investigation
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
x, y = held["inputs"], held["targets"]
if sys.argv[1] == "torch":
    import torch
    module, loss, optimizer = pair["torch_side"]()
    module.load_state_dict({{n[6:]: torch.from_numpy(v) for n, v in held.items() if n.startswith("torch/")}})
    before = {{name: value.detach().numpy().copy() for name, value in module.named_parameters()}}
    def step(module, loss, optimizer, x, y):
        optimizer.zero_grad()
        loss(module(x), y).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), pair.get("clip_norm") or float("inf"))
        optimizer.step()
    losses, backward = [], torch.Tensor.backward
    torch.Tensor.backward = lambda loss: (losses.append(loss.detach()), backward(loss))[1]
    (pair.get("torch_step") or step)(module, loss, optimizer, torch.from_numpy(x), torch.from_numpy(y))
    value, after = losses[-1], {{name: value.detach().numpy() for name, value in module.named_parameters()}}
else:
    model = pair["keras_side"]()
    model(x)
    for number, variable in enumerate(model.weights):
        variable.assign(held[f"keras/{{number}}"])
    before = {{v.path: v.numpy().copy() for v in model.trainable_variables}}
    value = model.train_on_batch(x, y)
    after = {{v.path: v.numpy() for v in model.trainable_variables}}
print("loss", float(value))
for name in after:
    print(name, "moved by", np.abs(after[name] - before[name]).max())
'''


def write_bug_report(investigation: Investigation, stage: Stage, folder: Path) -> None:
    """Write `reproduce.py`, `step.safetensors` and the pair file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    step = min(stage.step, len(investigation.batches) - 1)
    run = investigation.keras_run([], "off")
    weights = dict(investigation.weights)
    if step:
        weights |= {name: run[f"{step - 1}/weights/{name}"] for name in weights if f"{step - 1}/weights/{name}" in run}
    tensors: dict[str, np.ndarray] = {}
    for side, initial in (
        (investigation.sides.keras, weights),
        (investigation.sides.torch, investigation.torch_weights(weights)),
    ):
        tensors |= side.ask("state", initial)[1]
    batch = investigation.batches[step]
    finding = stage.differing[0]
    tensors |= {"inputs": investigation.inputs[batch], "targets": investigation.targets[batch]}
    tensors |= _differing(investigation, stage)
    write_tensors(folder / "step.safetensors", tensors)
    shutil.copyfile(investigation.pair.file, folder / "pair.py")
    script = SCRIPT.format(
        phase=stage.phase, location=finding.location, backend=investigation.sides.backend, step=stage.step
    )  # fmt: skip
    (folder / "reproduce.py").write_text(script, "utf-8")


def _differing(investigation: Investigation, stage: Stage) -> dict[str, np.ndarray]:
    """What each side computed where they differ, as it was recorded."""
    finding, mode = stage.differing[0], investigation.dropout
    prefix = "end/evaluation" if stage.phase == "evaluation" else str(stage.step)
    phase = "weights" if stage.phase == "update" else stage.phase
    tensors = {}
    for side, run in (("keras", investigation.keras_run([], mode)), ("torch", investigation.torch_run([], mode))):
        key = getattr(finding.match, side)["key"] if finding.match is not None else ""
        if phase == "loss":
            name = f"{prefix}/loss"
        elif phase in ("forward", "evaluation"):
            name = f"{prefix}/{finding.what}/{key}"
        else:
            name = f"{prefix}/{phase}/{key}/{finding.what}"
        if name in run:
            tensors[f"differing/{side}"] = run[name]
    return tensors
