"""Derivatives and maps as functions of functions, as torch.func has them; nested calls give higher derivatives."""

from fastnn.func.derivatives import grad, grad_and_value, hessian, hvp, jacfwd, jacobian, jacrev, jvp, vjp
from fastnn.func.mapping import vmap
from fastnn.func.modules import functional_call, per_sample_grad, stack_module_state

__all__ = [
    "functional_call",
    "grad",
    "grad_and_value",
    "hessian",
    "hvp",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "per_sample_grad",
    "stack_module_state",
    "vjp",
    "vmap",
]
