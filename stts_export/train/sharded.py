"""A stage's state in one piece, and back, whether parameters lie whole on a device or in shards over several."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from stts_export.train.gate import NOTHING_SEEN, Seen
from stts_export.train.parameters import trained_names
from stts_export.train.state import State, generator_states


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether parameters are shared out over processes."""
    return accelerator.distributed_type.value == "FSDP"


def gathered_state(
    module: nn.Module, optimizer: torch.optim.Optimizer, step: int, seconds: float, seen: Seen = NOTHING_SEEN
) -> State:
    """Return the run's state, tensors on the host; with shards, all processes must ask for it."""
    named, moments = trained_names(module), _moments(optimizer)
    return State(
        step=step,
        weights={name: whole(parameter.detach()).cpu() for name, parameter in named.items()},
        moments={
            name: {kind: whole(tensor).cpu() for kind, tensor in moments[parameter].items()}
            for name, parameter in named.items()
            if parameter in moments
        },
        generators=generator_states(),
        seconds=seconds,
        seen=seen,
    )


def put_state(module: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> None:
    """Set trained weights and the optimizer's moments to `state`."""
    moments = _moments(optimizer)
    for name, parameter in trained_names(module).items():
        with torch.no_grad():
            parameter.copy_(_like(state.weights[name], parameter))
        if name in state.moments:
            moments[parameter] = {
                kind: tensor.to(parameter.device) if kind == "step" else _like(tensor, parameter)
                for kind, tensor in state.moments[name].items()
            }


def whole(tensor: Tensor) -> Tensor:
    """Return the tensor in one piece; with shards, all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor where and as `parameter` lies."""
    tensor = tensor.to(parameter.device)
    if isinstance(parameter, DTensor):
        return distribute_tensor(tensor, parameter.device_mesh, parameter.placements)
    return tensor


def _moments(optimizer: torch.optim.Optimizer) -> dict[Tensor, dict[str, Tensor]]:
    plain = getattr(optimizer, "optimizer", optimizer)  # accelerate's stands before torch's
    moments: dict[Tensor, dict[str, Tensor]] = plain.state
    return moments
