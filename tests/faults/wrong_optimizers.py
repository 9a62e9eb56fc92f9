"""Planted faults: update rules, their constants, clipping, decay and schedules.

On the Keras side another optimizer is put in; on the PyTorch side the matched one is changed.
"""


def _keras_optimizer(side, name, **changed):
    import keras

    training = side.experiment.case.training
    side.optimizer = getattr(keras.optimizers, name)(**({"learning_rate": training.learning_rate} | changed))


def _change_groups(side, **changed):
    for group in side.optimizer.param_groups:
        group.update(changed)


def keras_epsilon_of_torch(side):
    """Keras side: Adam's epsilon is PyTorch's 1e-8."""
    _keras_optimizer(side, "Adam", epsilon=1e-8)


def epsilon_ten_times(side):
    """PyTorch side: Adam's epsilon is ten times as large."""
    _change_groups(side, eps=1e-6)


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


def keras_beta_2(side):
    """Keras side: beta_2 is 0.99."""
    _keras_optimizer(side, "Adam", beta_2=0.99)


def beta_1(side):
    """PyTorch side: beta_1 is 0.8."""
    _change_groups(side, betas=(0.8, 0.999))


def learning_rate_slightly(side):
    """PyTorch side: the learning rate is larger by one part in ten thousand."""
    _change_groups(side, lr=side.experiment.case.training.learning_rate * 1.0001)


def keras_learning_rate_twice(side):
    """Keras side: the learning rate is twice as large."""
    _keras_optimizer(side, "Adam", learning_rate=2 * side.experiment.case.training.learning_rate)


def learning_rate_by_a_twentieth(side):
    """PyTorch side: the learning rate is larger by 5 %."""
    _change_groups(side, lr=1.05 * side.experiment.case.training.learning_rate)


def keras_learning_rate_by_a_twentieth(side):
    """Keras side: the learning rate is larger by 5 %."""
    _keras_optimizer(side, "Adam", learning_rate=1.05 * side.experiment.case.training.learning_rate)


def epsilon_thousand_times(side):
    """PyTorch side: Adam's epsilon is 1e-4."""
    _change_groups(side, eps=1e-4)


def keras_epsilon_thousand_times(side):
    """Keras side: Adam's epsilon is 1e-4."""
    _keras_optimizer(side, "Adam", epsilon=1e-4)


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


def keras_rmsprop_for_adam(side):
    """Keras side: RMSprop stands where Adam should."""
    _keras_optimizer(side, "RMSprop")


def schedule_one_step_late(side):
    """PyTorch side: the learning rate is the one of the step before."""
    of_step = type(side.optimizer).learning_rate
    side.optimizer.learning_rate = lambda group: of_step(
        side.optimizer, group | {"iterations": max(1, group["iterations"] - 1)}
    )


def keras_schedule_forgotten(side):
    """Keras side: the learning rate stays what it was at the start."""
    _keras_optimizer(side, "Adam")


def decay_into_gradient(side):
    """PyTorch side: the weight decay is added to the gradient, as Adam's `weight_decay` in torch.optim."""
    optimizer = side.optimizer
    coefficient = optimizer.param_groups[0]["weight_decay"]
    update = optimizer.update
    _change_groups(side, weight_decay=None)

    def coupled(group, parameters, gradients, slots):
        coupled_gradients = [g + coefficient * p for g, p in zip(gradients, parameters, strict=True)]
        update(group, parameters, coupled_gradients, slots)

    optimizer.update = coupled


def keras_decay_of_torch(side):
    """Keras side: AdamW's weight decay is PyTorch's 1e-2."""
    _keras_optimizer(side, "AdamW", weight_decay=1e-2)


def decay_forgotten(side):
    """PyTorch side: there is no weight decay."""
    _change_groups(side, weight_decay=None)


def rmsprop_epsilon_outside(side):
    """PyTorch side: RMSprop's epsilon stands outside the root, as in torch.optim."""

    def update(group, parameters, gradients, slots):
        for parameter, gradient, v in zip(parameters, gradients, slots["velocity"], strict=True):
            v.mul_(group["rho"]).add_((1 - group["rho"]) * gradient**2)
            parameter.sub_(side.optimizer.learning_rate(group) * gradient / (v.sqrt() + group["eps"]))

    side.optimizer.update = update


def keras_rho_of_torch(side):
    """Keras side: RMSprop's rho is PyTorch's 0.99."""
    _keras_optimizer(side, "RMSprop", rho=0.99)


def momentum_without_learning_rate(side):
    """PyTorch side: the momentum holds gradients and the learning rate is applied after, as in torch.optim.SGD."""

    def update(group, parameters, gradients, slots):
        learning_rate = side.optimizer.learning_rate(group)
        for parameter, gradient, m in zip(parameters, gradients, slots["momentum"], strict=True):
            m.mul_(group["momentum"]).add_(gradient)
            parameter.sub_(learning_rate * m)

    side.optimizer.update = update


def keras_nesterov_forgotten(side):
    """Keras side: SGD without Nesterov's form of the momentum."""
    _keras_optimizer(side, "SGD", momentum=side.experiment.case.training.momentum)


def accumulator_from_zero(side):
    """PyTorch side: Adagrad's accumulator starts at zero, as in torch.optim."""
    _change_groups(side, initial_accumulator=0.0)


def keras_rho_of_adadelta(side):
    """Keras side: Adadelta's rho is PyTorch's 0.9."""
    _keras_optimizer(side, "Adadelta", rho=0.9)


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


def keras_clip_by_variable(side):
    """Keras side: each variable is clipped by its own norm instead of all together."""
    _keras_optimizer(side, "Adam", clipnorm=side.experiment.case.training.global_clipnorm)


def clip_norm_slightly(side):
    """PyTorch side: the global norm is clipped at a limit one per cent smaller."""
    limit = side.experiment.case.training.global_clipnorm
    side.optimizer.defaults["global_clipnorm"] = limit * 0.99


def clip_forgotten(side):
    """PyTorch side: nothing is clipped."""
    for name in ("clipvalue", "clipnorm", "global_clipnorm"):
        side.optimizer.defaults[name] = None


def keras_clip_value_for_norm(side):
    """Keras side: gradients are clipped by value where the case clips by global norm."""
    _keras_optimizer(side, "Adam", clipvalue=side.experiment.case.training.global_clipnorm)
