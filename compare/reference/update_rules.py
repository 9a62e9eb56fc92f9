"""Keras's update rules as equations, over canonical tensors, in exact arithmetic with the constants that Keras has.

Rounding is added by `Rounding`, around the result of each operation and around each constant that has no exact binary
form. Keras on TensorFlow makes some constants and all scheduled learning rates float32 even where the model is float64
(`ops.cast(0.999, "float64")` is 0.999 rounded to float32): `Step.cast` does so too. 1 - beta^t magnifies the rounding
of the power.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from compare.config.training import TrainingConfig
from compare.reference.rounding import EXACT, Array, Rounding

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

FLOAT32_UNIT = float(np.finfo("float32").eps) / 2


@dataclass(frozen=True)
class Step:
    """What all tensors have in common in step number `t`, counted from 1; `u_product` only Nadam has."""

    training: TrainingConfig
    t: int
    learning_rate: float
    rounding: Rounding
    casts: bool = True
    u_product: float = 1.0

    def cast(self, constant: float) -> float:
        """Return a constant that Keras casts: to float32, in every precision on TensorFlow.

        Where Keras on torch or JAX narrows float64 by itself it does not cast, and either may be right.
        """
        return float(np.float32(constant)) if self.casts else at_least_float32(self.rounding)(constant)

    def power(self, base: float) -> float:
        """Return base^t, the base cast."""
        return self.rounding(self.cast(base) ** self.t)


def at_least_float32(rounding: Rounding) -> Rounding:
    """Return the rounding, no finer than that of float32."""
    return Rounding(max(rounding.unit, FLOAT32_UNIT), rounding.generator)


def sgd(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Gradient descent: m = momentum * m - lr * g; w += m, with Nesterov w += momentum * m - lr * g.

    Source: `keras.optimizers.SGD`; Sutskever et al. 2013.
    """
    r, gradient_step = step.rounding, step.rounding(step.learning_rate * g)
    if not step.training.momentum:
        return r(w - gradient_step), {}
    momentum = step.cast(step.training.momentum)
    m = r(r(momentum * slots["momentum"]) - gradient_step)
    update = r(r(momentum * m) - gradient_step) if step.training.nesterov else m
    return r(w + update), {"momentum": m}


def rmsprop(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """RMSprop: v = rho * v + (1 - rho) * g^2; m = momentum * m + lr * g / sqrt(v + epsilon); w -= m.

    Source: `keras.optimizers.RMSprop`; Hinton 2012, lecture 6e.
    """
    r = step.rounding
    v = _average(r, RMSPROP_RHO, slots["velocity"], r(np.square(g)))
    increment = r(r(step.learning_rate * g) / _root(r, v))
    if not step.training.momentum:
        return r(w - increment), {"velocity": v}
    m = r(r(r(step.training.momentum) * slots["momentum"]) + increment)
    return r(w - m), {"velocity": v, "momentum": m}


def adam(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adam and AdamW: w -= lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).

    Source: `keras.optimizers.Adam`; Kingma and Ba 2014, end of section 2, "epsilon hat".
    """
    r = step.rounding
    m = _average(r, BETA_1, slots["momentum"], g)
    v = _average(r, BETA_2, slots["velocity"], r(np.square(g)))
    root = r(np.sqrt(r(1 - step.power(BETA_2))))
    alpha = r(r(step.learning_rate * root) / r(1 - step.power(BETA_1)))
    return r(w - r(r(alpha * m) / r(r(np.sqrt(v)) + EPSILON))), {"momentum": m, "velocity": v}


def adamax(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adamax: u = max(beta_2 * u, |g|); w -= lr * m / ((1 - beta_1^t) * (u + epsilon)).

    Source: `keras.optimizers.Adamax`; Kingma and Ba 2014, section 7.1.
    """
    r = step.rounding
    m = _average(r, BETA_1, slots["momentum"], g)
    u = np.maximum(r(r(BETA_2) * slots["norm"]), np.abs(g))
    denominator = r(r(1 - step.power(BETA_1)) * r(u + EPSILON))
    return r(w - r(r(step.learning_rate * m) / denominator)), {"momentum": m, "norm": u}


def nadam(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Nadam: w -= lr * m_hat / (sqrt(v / (1 - beta_2^t)) + epsilon).

    m_hat = u_{t+1} * m / (1 - U * u_{t+1}) + (1 - u_t) * g / (1 - U), where u_t = beta_1 * (1 - 0.96^t / 2) and U is
    the product of all u up to u_t.
    Source: `keras.optimizers.Nadam`; Dozat 2016.
    """
    r = step.rounding
    # Unlike in Adam, 1 - beta is of the cast beta; not so on Keras's torch backend, which is as much as rounding it.
    beta_1, beta_2 = step.cast(BETA_1), step.cast(BETA_2)
    m = r(r(beta_1 * slots["momentum"]) + r(r(1 - r(beta_1)) * g))
    v = r(r(beta_2 * slots["velocity"]) + r(r(1 - r(beta_2)) * r(np.square(g))))
    u, u_next = (_nadam_u(r, beta_1, step.cast(NADAM_DECAY), t) for t in (step.t, step.t + 1))
    of_momentum = r(r(u_next * m) / r(1 - r(step.u_product * u_next)))
    of_gradient = r(r(r(1 - u) * g) / r(1 - step.u_product))
    m_hat = r(of_momentum + of_gradient)
    v_hat = r(v / r(1 - step.power(BETA_2)))
    return r(w - r(r(step.learning_rate * m_hat) / r(r(np.sqrt(v_hat)) + EPSILON))), {"momentum": m, "velocity": v}


def adagrad(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adagrad: a += g^2; w -= lr * g / sqrt(a + epsilon).

    Source: `keras.optimizers.Adagrad`; Duchi, Hazan and Singer 2011.
    """
    r = step.rounding
    a = r(slots["accumulator"] + r(np.square(g)))
    return r(w - r(r(step.learning_rate * g) / _root(r, a))), {"accumulator": a}


def adadelta(step: Step, w: Array, g: Array, slots: Tensors) -> tuple[Array, dict[str, Array]]:
    """Adadelta: w -= lr * d, where d = g * sqrt(b + epsilon) / sqrt(a + epsilon).

    a = rho * a + (1 - rho) * g^2 before d is computed, b = rho * b + (1 - rho) * d^2 after.
    Source: `keras.optimizers.Adadelta`; Zeiler 2012, algorithm 1.
    """
    r = step.rounding
    a = _average(r, ADADELTA_RHO, slots["accumulated_grad"], r(np.square(g)))
    d = r(r(_root(r, slots["accumulated_delta_var"]) * g) / _root(r, a))
    b = _average(r, ADADELTA_RHO, slots["accumulated_delta_var"], r(np.square(d)))
    return r(w - r(step.learning_rate * d)), {"accumulated_grad": a, "accumulated_delta_var": b}


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
    rounding: Rounding = EXACT,
    learning_rate: float | None = None,
    casts: bool = True,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return weights and slots after one more step; `iterations` steps were done, gradients are already clipped.

    The learning rate is that of the training's schedule if none is given; `casts` as in `Step.cast`.
    Weight decay is decoupled, w -= w * weight_decay * lr before the rule, and of all weights, biases too.
    Source: `_backend_apply_gradients` and `_apply_weight_decay` of `keras/src/optimizers/base_optimizer.py`;
    Loshchilov and Hutter 2017.
    """
    t = iterations + 1
    new_slots: dict[str, Array] = {}
    u_product = 1.0
    if training.optimizer == "nadam":
        # Here Keras casts neither beta_1 nor 0.96.
        u = _nadam_u(rounding, rounding(BETA_1), rounding(NADAM_DECAY), t)
        u_product = float(rounding(slots["u_product"] * u))
        new_slots["u_product"] = np.asarray(u_product)
    if learning_rate is None:
        learning_rate = learning_rate_at(training, iterations, rounding)
    step = Step(training, t, learning_rate, rounding, casts, u_product)
    decay = ADAMW_WEIGHT_DECAY if training.optimizer == "adamw" else None
    if training.weight_decay is not None:
        decay = training.weight_decay
    new_weights: dict[str, Array] = {}
    for name, weight in weights.items():
        decayed = weight
        if decay is not None:
            decayed = rounding(weight - rounding(rounding(weight * step.cast(decay)) * step.learning_rate))
        own = {slot: slots[f"{slot}/{name}"] for slot in _slots_of(training)}
        new_weights[name], changed = RULES[training.optimizer](step, decayed, gradients[name], own)
        new_slots |= {f"{slot}/{name}": value for slot, value in changed.items()}
    return new_weights, new_slots


def learning_rate_at(training: TrainingConfig, iterations: int, rounding: Rounding = EXACT) -> float:
    """Return the learning rate of the step before which `iterations` steps were done.

    exponential: lr * decay_rate^(iterations / decay_steps); cosine: lr * (1 + cos(pi * iterations / decay_steps)) / 2
    up to decay_steps, then 0; piecewise: values[i] up to and including step boundaries[i].
    Source: `keras/src/optimizers/schedules/learning_rate_schedule.py`; Loshchilov and Hutter 2016 (cosine).
    """
    r = at_least_float32(rounding)
    if training.schedule == "constant":
        return float(rounding(training.learning_rate))
    if training.schedule == "piecewise":
        passed = sum(iterations > boundary for boundary in training.boundaries)
        return float(r(training.values[passed]))
    assert training.decay_steps is not None  # as the case has checked
    initial = r(training.learning_rate)
    if training.schedule == "cosine":
        angle = r(r(np.pi) * r(min(iterations, training.decay_steps) / training.decay_steps))
        return float(r(initial * r(0.5 * r(1 + r(np.cos(angle))))))
    assert training.decay_rate is not None
    return float(r(initial * r(r(training.decay_rate) ** r(iterations / training.decay_steps))))


def _slots_of(training: TrainingConfig) -> dict[str, float]:
    slots = SLOTS[training.optimizer]
    if training.optimizer in ("sgd", "rmsprop") and not training.momentum:
        return {slot: initial for slot, initial in slots.items() if slot != "momentum"}
    return slots


def _average(r: Rounding, beta: float, old: Array, new: Array) -> Array:
    """Return beta * old + (1 - beta) * new."""
    return r(r(r(beta) * old) + r(r(1 - beta) * new))


def _root(r: Rounding, squares: Array) -> Array:
    """Return sqrt(squares + epsilon)."""
    return r(np.sqrt(r(squares + EPSILON)))


def _nadam_u(r: Rounding, beta_1: float, decay: float, t: int) -> float:
    """Return u_t = beta_1 * (1 - decay^t / 2)."""
    return r(beta_1 * r(1 - 0.5 * r(decay**t)))
