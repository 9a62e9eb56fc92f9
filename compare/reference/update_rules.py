"""Keras's update rules as equations, over canonical tensors, in exact arithmetic with the constants that Keras has.

On `Rounded` tensors each operation is rounded, and each constant that has no exact binary form. Keras on TensorFlow
makes some constants and all scheduled learning rates float32 even where the model is float64 (`ops.cast(0.999,
"float64")` is 0.999 rounded to float32): `Step.cast` does so too. 1 - beta^t magnifies the rounding of the power.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from compare.config.training import TrainingConfig
from compare.reference.formulas import rounded_like, unrounded_like
from compare.reference.rounding import FLOAT32_ULP, Array

Tensors = Mapping[str, Array]
Rule = Callable[["Step", Array, Array, Tensors], tuple[Array, dict[str, Array]]]

EPSILON = 1e-7
BETA_1, BETA_2 = 0.9, 0.999
RMSPROP_RHO = 0.9
ADADELTA_RHO = 0.95
NADAM_DECAY = 0.96
ADAMW_WEIGHT_DECAY = 0.004

# Keras's `Constant` initialiser casts its value, so that it is 0.1 in float32 in every precision.
INITIAL_ACCUMULATOR = float(np.float32(0.1))


def _square(gradient: Array) -> Array:
    return gradient**2


@dataclass(frozen=True)
class Step:
    """What all tensors have in common in step number `t`, counted from 1; `u_product` only Nadam has.

    `square` and `magnitude` are of a gradient, which a framework may take in parts.
    Constants are rounded where the operations of the tensor `like` are.
    """

    training: TrainingConfig
    t: int
    learning_rate: float
    like: Array
    casts: bool = True
    u_product: Array | float = 1.0
    square: Callable[[Array], Array] = _square
    magnitude: Callable[[Array], Array] = np.abs

    def constant(self, value: Array | float) -> Array:
        """Return a constant that has no exact binary form."""
        return rounded_like(self.like, value)

    def cast(self, value: float) -> Array:
        """Return a constant that Keras casts: to float32, in every precision on TensorFlow.

        Where Keras on torch or JAX narrows float64 by itself it does not cast, and either may be right.
        """
        if self.casts:
            return unrounded_like(self.like, float(np.float32(value)))
        return rounded_like(self.like, value, least_ulp=FLOAT32_ULP)

    def power(self, base: float) -> Array:
        """Return base^t, the base cast."""
        return self.cast(base) ** self.t

    def average(self, beta: float, old: Array, new: Array) -> Array:
        """Return beta * old + (1 - beta) * new."""
        return self.constant(beta) * old + self.constant(1 - beta) * new


def sgd(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Gradient descent: m = momentum * m - lr * g; w += m, with Nesterov w += momentum * m - lr * g.

    Source: `keras.optimizers.SGD`; Sutskever et al. 2013.
    """
    gradient_step = step.learning_rate * g
    if not step.training.momentum:
        return w - gradient_step, {}
    momentum = step.cast(step.training.momentum)
    m = momentum * slots["momentum"] - gradient_step
    return w + (momentum * m - gradient_step if step.training.nesterov else m), {"momentum": m}


def rmsprop(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """RMSprop: v = rho * v + (1 - rho) * g^2; m = momentum * m + lr * g / sqrt(v + epsilon); w -= m.

    Source: `keras.optimizers.RMSprop`; Hinton 2012, lecture 6e.
    """
    v = step.average(RMSPROP_RHO, slots["velocity"], step.square(g))
    increment = step.learning_rate * g / np.sqrt(v + EPSILON)
    if not step.training.momentum:
        return w - increment, {"velocity": v}
    m = step.constant(step.training.momentum) * slots["momentum"] + increment
    return w - m, {"velocity": v, "momentum": m}


def adam(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adam and AdamW: w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).

    Source: `keras.optimizers.Adam`; Kingma and Ba 2014, end of section 2, "epsilon hat".
    """
    m = step.average(BETA_1, slots["momentum"], g)
    v = step.average(BETA_2, slots["velocity"], step.square(g))
    alpha = step.learning_rate * np.sqrt(1 - step.power(BETA_2)) / (1 - step.power(BETA_1))
    return w - alpha * m / (np.sqrt(v) + EPSILON), {"momentum": m, "velocity": v}


def adamax(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adamax: u = max(beta_2 * u, |g|); w -= lr * m / ((1 - beta_1^t) * (u + epsilon)).

    Source: `keras.optimizers.Adamax`; Kingma and Ba 2014, section 7.1.
    """
    m = step.average(BETA_1, slots["momentum"], g)
    u = np.maximum(step.constant(BETA_2) * slots["norm"], step.magnitude(g))
    denominator = (1 - step.power(BETA_1)) * (u + EPSILON)
    return w - step.learning_rate * m / denominator, {"momentum": m, "norm": u}


def nadam(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Nadam: w -= lr * m_hat / (sqrt(v / (1 - beta_2^t)) + epsilon).

    m_hat = u_{t+1} * m / (1 - U * u_{t+1}) + (1 - u_t) * g / (1 - U), where u_t = beta_1 * (1 - 0.96^t / 2) and U is
    the product of all u up to u_t.
    Source: `keras.optimizers.Nadam`; Dozat 2016.
    """
    # Unlike in Adam, 1 - beta is of the cast beta; not so on Keras's torch backend, which is as much as rounding it.
    beta_1, beta_2 = step.cast(BETA_1), step.cast(BETA_2)
    m = beta_1 * slots["momentum"] + (1 - step.constant(beta_1)) * g
    v = beta_2 * slots["velocity"] + (1 - step.constant(beta_2)) * step.square(g)
    u, u_next = (_nadam_u(beta_1, step.cast(NADAM_DECAY), t) for t in (step.t, step.t + 1))
    of_momentum = u_next * m / (1 - step.u_product * u_next)
    m_hat = of_momentum + (1 - u) * g / (1 - step.u_product)
    v_hat = v / (1 - step.power(BETA_2))
    return w - step.learning_rate * m_hat / (np.sqrt(v_hat) + EPSILON), {"momentum": m, "velocity": v}


def adagrad(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adagrad: a += g^2; w -= lr * g / sqrt(a + epsilon).

    Source: `keras.optimizers.Adagrad`; Duchi, Hazan and Singer 2011.
    """
    a = slots["accumulator"] + step.square(g)
    return w - step.learning_rate * g / np.sqrt(a + EPSILON), {"accumulator": a}


def adadelta(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adadelta: w -= lr * d, where d = g * sqrt(b + epsilon) / sqrt(a + epsilon).

    a = rho * a + (1 - rho) * g^2 before d is computed, b = rho * b + (1 - rho) * d^2 after.
    Source: `keras.optimizers.Adadelta`; Zeiler 2012, algorithm 1.
    """
    a = step.average(ADADELTA_RHO, slots["accumulated_grad"], step.square(g))
    d = np.sqrt(slots["accumulated_delta_var"] + EPSILON) * g / np.sqrt(a + EPSILON)
    b = step.average(ADADELTA_RHO, slots["accumulated_delta_var"], d**2)
    return w - step.learning_rate * d, {"accumulated_grad": a, "accumulated_delta_var": b}


RULES: dict[str, Rule] = {
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": adam,
    "adamax": adamax,
    "nadam": nadam,
    "adagrad": adagrad,
    "adadelta": adadelta,
}

# What each slot of a rule starts with; SGD and RMSprop have a momentum only where one is asked for.
SLOTS: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.0},
    "rmsprop": {"velocity": 0.0, "momentum": 0.0},
    "adam": {"momentum": 0.0, "velocity": 0.0},
    "adamw": {"momentum": 0.0, "velocity": 0.0},
    "adamax": {"momentum": 0.0, "norm": 0.0},
    "nadam": {"momentum": 0.0, "velocity": 0.0},
    "adagrad": {"accumulator": INITIAL_ACCUMULATOR},
    "adadelta": {"accumulated_grad": 0.0, "accumulated_delta_var": 0.0},
}


def initial_slots(training: TrainingConfig, weights: Tensors) -> dict[str, Array]:
    """Return the slots before the first step, named "<slot>/<canonical tensor>", Nadam's one number "u_product"."""
    slots = {
        f"{slot}/{name}": np.full(weight.shape, initial)
        for slot, initial in _slots_of(training).items()
        for name, weight in weights.items()
    }
    return slots | ({"u_product": np.asarray(1.0)} if training.optimizer == "nadam" else {})


def apply_update(
    training: TrainingConfig,
    weights: Tensors,
    gradients: Tensors,
    slots: Tensors,
    iterations: int,
    learning_rate: float | None = None,
    casts: bool = True,
    square: Callable[[Array], Array] = _square,
    magnitude: Callable[[Array], Array] = np.abs,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return weights and slots after one more step; `iterations` steps were done, gradients are already clipped.

    The learning rate is that of the training's schedule if none is given; `casts` as in `Step.cast`, `square` and
    `magnitude` as in `Step`.
    Weight decay is decoupled, w -= w * weight_decay * lr before the rule, and of all weights, biases too.
    Source: `_backend_apply_gradients` and `_apply_weight_decay` of `keras/src/optimizers/base_optimizer.py`;
    Loshchilov and Hutter 2017.
    """
    if learning_rate is None:
        learning_rate = learning_rate_at(training, iterations)
    like = next(iter(weights.values()))
    step = Step(training, iterations + 1, learning_rate, like, casts, square=square, magnitude=magnitude)
    new_slots: dict[str, Array] = {}
    if training.optimizer == "nadam":
        # Here Keras casts neither beta_1 nor 0.96.
        u = _nadam_u(step.constant(BETA_1), step.constant(NADAM_DECAY), step.t)
        new_slots["u_product"] = slots["u_product"] * u
        step = replace(step, u_product=new_slots["u_product"])
    decay = ADAMW_WEIGHT_DECAY if training.optimizer == "adamw" else None
    if training.weight_decay is not None:
        decay = training.weight_decay
    new_weights: dict[str, Array] = {}
    for name, weight in weights.items():
        decayed = weight if decay is None else weight - weight * step.cast(decay) * learning_rate
        own = {slot: slots[f"{slot}/{name}"] for slot in _slots_of(training)}
        new_weights[name], changed = RULES[training.optimizer](step, decayed, gradients[name], own)
        new_slots |= {f"{slot}/{name}": value for slot, value in changed.items()}
    return new_weights, new_slots


def learning_rate_at(training: TrainingConfig, iterations: int) -> float:
    """Return the learning rate of the step before which `iterations` steps were done.

    exponential: lr * decay_rate^(iterations / decay_steps); cosine: lr * (1 + cos(pi * iterations / decay_steps)) / 2
    up to decay_steps, then 0; piecewise: values[i] up to and including step boundaries[i].
    Source: `keras/src/optimizers/schedules/learning_rate_schedule.py`; Loshchilov and Hutter 2016 (cosine).
    """
    initial = training.learning_rate
    if training.schedule == "constant":
        return initial
    if training.schedule == "piecewise":
        return training.values[sum(iterations > boundary for boundary in training.boundaries)]
    assert training.decay_steps is not None  # as the case has checked
    if training.schedule == "cosine":
        return float(initial * (1 + np.cos(np.pi * min(1, iterations / training.decay_steps))) / 2)
    assert training.decay_rate is not None
    return float(initial * training.decay_rate ** (iterations / training.decay_steps))


def _nadam_u(beta_1: Array, decay: Array, t: int) -> Array:
    """Return u_t = beta_1 * (1 - decay^t / 2)."""
    return beta_1 * (1 - 0.5 * decay**t)


def _slots_of(training: TrainingConfig) -> dict[str, float]:
    slots = SLOTS[training.optimizer]
    if training.optimizer in ("sgd", "rmsprop") and not training.momentum:
        return {slot: initial for slot, initial in slots.items() if slot != "momentum"}
    return slots
