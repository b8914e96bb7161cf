"""Probes of how far a gradient reaches, and what keeps it in bounds.

Jacobians of a step and their products, seen from inside a recurrence (:mod:`.jacobians`); the
influence of an input on an output, seen from outside any model (:mod:`.influence`); starts and
clipping (:mod:`.patches`).
"""

from lookback.gradients.influence import influence, influence_by_position, weight_gradients_by_step
from lookback.gradients.jacobians import (
    gradient_norm_by_distance,
    gru_jacobian,
    jacobian_products,
    lstm_jacobian,
    lyapunov_rate,
    rnn_jacobian,
    slope,
    step_jacobian,
)
from lookback.gradients.patches import (
    clip_by_global_norm,
    identity,
    orthogonal,
    spectral_radius,
    with_spectral_radius,
)

__all__ = [
    "clip_by_global_norm",
    "gradient_norm_by_distance",
    "gru_jacobian",
    "identity",
    "influence",
    "influence_by_position",
    "jacobian_products",
    "lstm_jacobian",
    "lyapunov_rate",
    "orthogonal",
    "rnn_jacobian",
    "slope",
    "spectral_radius",
    "step_jacobian",
    "weight_gradients_by_step",
    "with_spectral_radius",
]
