"""Planted faults: update rules, their constants, clipping, decay and schedules.

On the Keras side another optimizer is put in; on the PyTorch side the matched one is changed.
"""


def _training(side):
    return side.experiment.case.training


def _keras(name, **changed):
    """Put in another optimizer; what is changed is a value, or a function of the training."""

    def plant(side):
        import keras

        options = {"learning_rate": _training(side).learning_rate}
        options |= {option: value(_training(side)) if callable(value) else value for option, value in changed.items()}
        side.optimizer = getattr(keras.optimizers, name)(**options)

    return plant


def _groups(**changed):
    """Change the PyTorch side's parameter groups; what is changed is a value, or a function of the training."""

    def plant(side):
        values = {name: value(_training(side)) if callable(value) else value for name, value in changed.items()}
        for group in side.optimizer.param_groups:
            group.update(values)

    return plant


# Keras side: a constant of Adam, AdamW, RMSprop or Adadelta is PyTorch's, or another one.
keras_epsilon_of_torch = _keras("Adam", epsilon=1e-8)
keras_epsilon_thousand_times = _keras("Adam", epsilon=1e-4)
keras_beta_2 = _keras("Adam", beta_2=0.99)
keras_decay_of_torch = _keras("AdamW", weight_decay=1e-2)
keras_rho_of_torch = _keras("RMSprop", rho=0.99)
keras_rho_of_adadelta = _keras("Adadelta", rho=0.9)
# Keras side: the learning rate is twice as large, or larger by 5 %.
keras_learning_rate_twice = _keras("Adam", learning_rate=lambda training: 2 * training.learning_rate)
keras_learning_rate_by_a_twentieth = _keras("Adam", learning_rate=lambda training: 1.05 * training.learning_rate)
# Keras side: RMSprop stands where Adam should; the learning rate stays what it was; SGD without Nesterov's form.
keras_rmsprop_for_adam = _keras("RMSprop")
keras_schedule_forgotten = _keras("Adam")
keras_nesterov_forgotten = _keras("SGD", momentum=lambda training: training.momentum)
# Keras side: where the case clips by global norm each variable is clipped by its own, or by value.
keras_clip_by_variable = _keras("Adam", clipnorm=lambda training: training.global_clipnorm)
keras_clip_value_for_norm = _keras("Adam", clipvalue=lambda training: training.global_clipnorm)

# PyTorch side: Adam's epsilon, or beta_1, is another.
epsilon_ten_times = _groups(eps=1e-6)
epsilon_thousand_times = _groups(eps=1e-4)
beta_1 = _groups(betas=(0.8, 0.999))
# PyTorch side: the learning rate is larger by one part in ten thousand, or by 5 %.
learning_rate_slightly = _groups(lr=lambda training: training.learning_rate * 1.0001)
learning_rate_by_a_twentieth = _groups(lr=lambda training: 1.05 * training.learning_rate)
# PyTorch side: there is no weight decay; Adagrad's accumulator starts at zero, as in torch.optim.
decay_forgotten = _groups(weight_decay=None)
accumulator_from_zero = _groups(initial_accumulator=0.0)


def epsilon_after_correction(side):
    """PyTorch side: epsilon is added after the bias correction, as torch.optim.Adam does."""

    def update(group, parameters, gradients, slots):
        beta_1, beta_2 = group["betas"]
        t = group["iterations"]
        for parameter, gradient, m, v in zip(parameters, gradients, slots["momentum"], slots["velocity"], strict=True):
            m.lerp_(gradient, 1 - beta_1)
            v.lerp_(gradient**2, 1 - beta_2)
            m_hat, v_hat = m / (1 - beta_1**t), v / (1 - beta_2**t)
            parameter.sub_(side.optimizer.learning_rate(group) * m_hat / (v_hat.sqrt() + group["eps"]))

    side.optimizer.update = update


def no_bias_correction(side):
    """PyTorch side: Adam's averages are not corrected."""
    side.optimizer.step_size = lambda group, dtype: group["lr"]


def keras_embedding_moves_further(side):
    """Keras side: the learning rate of the embedding alone is larger by a hundredth."""
    update_step = side.optimizer.update_step

    def changed(gradient, variable, learning_rate):
        return update_step(
            gradient, variable, learning_rate * (1.01 if "embedding" in getattr(variable, "path", variable.name) else 1)
        )

    side.optimizer.update_step = changed


def schedule_one_step_late(side):
    """PyTorch side: the learning rate is the one of the step before."""
    of_step = side.optimizer.learning_rate
    side.optimizer.learning_rate = lambda group: of_step(group | {"iterations": max(1, group["iterations"] - 1)})


def decay_into_gradient(side):
    """PyTorch side: the weight decay is added to the gradient, as Adam's `weight_decay` in torch.optim."""
    optimizer = side.optimizer
    coefficient = optimizer.param_groups[0]["weight_decay"]
    update = optimizer.update
    decay_forgotten(side)

    def coupled(group, parameters, gradients, slots):
        coupled_gradients = [g + coefficient * p for g, p in zip(gradients, parameters, strict=True)]
        update(group, parameters, coupled_gradients, slots)

    optimizer.update = coupled


def rmsprop_epsilon_outside(side):
    """PyTorch side: RMSprop's epsilon stands outside the root, as in torch.optim."""

    def update(group, parameters, gradients, slots):
        for parameter, gradient, v in zip(parameters, gradients, slots["velocity"], strict=True):
            v.mul_(group["rho"]).add_((1 - group["rho"]) * gradient**2)
            parameter.sub_(side.optimizer.learning_rate(group) * gradient / (v.sqrt() + group["eps"]))

    side.optimizer.update = update


def momentum_without_learning_rate(side):
    """PyTorch side: the momentum holds gradients and the learning rate is applied after, as in torch.optim.SGD."""

    def update(group, parameters, gradients, slots):
        learning_rate = side.optimizer.learning_rate(group)
        for parameter, gradient, m in zip(parameters, gradients, slots["momentum"], strict=True):
            m.mul_(group["momentum"]).add_(gradient)
            parameter.sub_(learning_rate * m)

    side.optimizer.update = update


def adamax_epsilon_inside(side):
    """PyTorch side: Adamax adds epsilon to the gradient inside the maximum, as in torch.optim."""

    def update(group, parameters, gradients, slots):
        import torch

        beta_1, beta_2 = group["betas"]
        alpha = side.optimizer.learning_rate(group) / (1 - beta_1 ** group["iterations"])
        for parameter, gradient, m, u in zip(parameters, gradients, slots["momentum"], slots["norm"], strict=True):
            m.lerp_(gradient, 1 - beta_1)
            torch.maximum(u.mul_(beta_2), gradient.abs() + group["eps"], out=u)
            parameter.sub_(alpha * m / u)

    side.optimizer.update = update


def nadam_decay(side):
    """PyTorch side: Nadam's momentum grows at torch.optim's rate, 0.96^(0.004 t)."""
    side.optimizer.DECAY = 0.96**0.004


def clip_norm_slightly(side):
    """PyTorch side: the global norm is clipped at a limit one per cent smaller."""
    side.optimizer.defaults["global_clipnorm"] = _training(side).global_clipnorm * 0.99


def clip_forgotten(side):
    """PyTorch side: nothing is clipped."""
    side.optimizer.defaults.update(clipvalue=None, clipnorm=None, global_clipnorm=None)
