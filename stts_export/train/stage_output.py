"""What stages hand on: the tensors that any of them trained so far, and how the next stage takes them up."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from stts_export.checkpoint.trained import FILE, SCALE, Trained, merge_trained, open_trained
from stts_export.errors import DiskError, TrainingError
from stts_export.models.model import Model
from stts_export.train.adapters import add_adapters, is_adapter, our_name
from stts_export.train.parameters import HEAD, part_of
from stts_export.train.recipe import Lora, Stage
from stts_export.train.starting_model import StartingModel
from stts_runtime.bundle.swap import sync, write_whole


NOTHING = Trained({}, {})


def read_stage_output(stage: Path) -> Trained:
    """Return what the stage in that folder left.

    Raises:
        TrainingError: it has not been finished.
    """
    if not (stage / FILE).is_file():
        raise TrainingError(
            f"{stage / FILE} is not there: stage {stage.name} has not been finished. Train it first, with "
            f"--stage {stage.name} and the same -o, or with no --stage at all."
        )
    return open_trained(stage / FILE)


def digest_of(stage: Path) -> str:
    """Return a digest of what the stage in that folder left, by which a resumed run knows where it started."""
    with (stage / FILE).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def write_stage_output(
    folder: Path, before: Trained, own: Mapping[str, Tensor], stage: Stage, facts: Mapping[str, str]
) -> None:
    """Write all that was trained so far: what was there `before` the stage, over it its `own` tensors by our names.

    The patch classes' head is left out, it dies with its stage. The stage says how adapters are scaled, and whether it
    took earlier ones into the weights it trained. The `facts` go into the file's metadata.

    Raises:
        DiskError: the disk is full or cannot be written; the stage's state is still there.
    """
    own = {name: tensor for name, tensor in own.items() if part_of(name) != HEAD}
    took_in = "decoder" in stage.learning_rates.given and stage.lora is None
    kept = {name: t.read() for name, t in before.tensors.items() if not (took_in and is_adapter(name))}
    everything = {name: tensor.detach().float().cpu().contiguous() for name, tensor in {**kept, **own}.items()}
    metadata = {**facts, "stage": stage.name}
    if any(map(is_adapter, everything)):
        scale = stage.lora.alpha / stage.lora.rank if stage.lora is not None else before.lora_scale
        metadata[SCALE] = str(scale)

    def write(file: Path) -> None:
        save_file(dict(sorted(everything.items())), file, metadata=metadata)
        sync(file)  # the state is removed next

    try:
        write_whole(folder / FILE, write)
    except (OSError, SafetensorError) as error:
        raise DiskError(
            f"{folder / FILE} could not be written: {error}. The state of the last step is safe; free some space and "
            "run again with --resume."
        ) from error


def stage_model(base: StartingModel, before: Trained, lora: Lora | None, device: torch.device) -> Model:
    """Return the model that a stage trains: the base's, with what earlier stages changed, and its adapters.

    Earlier adapters are trained on where the stage has adapters, and merged into the weights where it has none. New
    ones are drawn from torch's global generator. Weights go to the device one tensor at a time.

    Raises:
        TrainingError: earlier adapters have another rank or scale.
    """
    with init_empty_weights(include_buffers=False):
        model = Model(base.config)
    tensors = merge_trained(base.tensors, before if lora is None else _part(before, adapters=False))
    for name in model.state_dict():
        owner, _, leaf = name.rpartition(".")
        # copied: the file's own pages must not be trained
        parameter = nn.Parameter(tensors[name].read(torch.float32).to(device, copy=True))
        setattr(model.get_submodule(owner), leaf, parameter)
    if lora is not None:
        add_adapters(model.decoder, lora)
        _take_up(model, _part(before, adapters=True), lora)
    return model.to(device)


def _take_up(model: Model, before: Trained, lora: Lora) -> None:
    if not before.tensors:
        return
    scale = lora.alpha / lora.rank
    own = {our_name(f"model.{name}"): parameter for name, parameter in model.named_parameters()}
    own = {name: parameter for name, parameter in own.items() if is_adapter(name)}
    shapes = {name: tuple(parameter.shape) for name, parameter in own.items()}
    if before.lora_scale != scale or shapes != {name: tensor.shape for name, tensor in before.tensors.items()}:
        rank = min(min(tensor.shape) for tensor in before.tensors.values())
        raise TrainingError(
            f"the stage before trained adapters of rank {rank} with scale {before.lora_scale:g}; this one wants rank "
            f"{lora.rank} with scale {scale:g}. Give both the same lora table, or leave it out here to merge them."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(before.tensors[name].read())


def _part(trained: Trained, adapters: bool) -> Trained:
    tensors = {name: tensor for name, tensor in trained.tensors.items() if is_adapter(name) == adapters}
    return Trained(tensors, trained.metadata)
