"""Shared by the encoder trainings: AdamW with a stored state, and its learning rates."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from controlgen.errors import ArtifactCorrupt
from controlgen.training.state import MOMENTS


def build_adamw(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW whose rate is set at every step; gains, biases and scalars are not decayed.

    As in Radford et al. 2021, section 2.5.
    """
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    groups: Sequence[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)


def set_learning_rate(adam: torch.optim.AdamW, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in adam.param_groups:
        group["lr"] = rate


def warmup_cosine(peak: float, position: float) -> float:
    """Linear warm-up over the first 5 % of all images, then half a cosine down to a hundredth.

    `position`, 0..1, is the finished share of the images.
    """
    if position < 0.05:
        return peak * max(position, 1e-4) / 0.05
    falling = (1 + math.cos(math.pi * min((position - 0.05) / 0.95, 1))) / 2
    return peak * (0.01 + 0.99 * falling)


def state_tensors(model: nn.Module, adam: torch.optim.AdamW, images_seen: int) -> dict[str, Tensor]:
    """Weights, moments and count as named tensors, for safetensors."""
    tensors = {"images_seen": torch.tensor(images_seen)}
    for name, value in model.state_dict().items():
        tensors[f"model/{name}"] = value.contiguous()
    for name, parameter in model.named_parameters():
        for moment, value in adam.state[parameter].items():
            tensors[f"adam/{moment}/{name}"] = value.contiguous()
    return tensors


def restore_state(model: nn.Module, adam: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> int:
    """Restore `state_tensors` and return the images seen. Raises ArtifactCorrupt on a mismatch."""
    prefix = "model/"
    values = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    try:
        model.load_state_dict(values)
        for name, parameter in model.named_parameters():
            keys = {moment: f"adam/{moment}/{name}" for moment in MOMENTS}
            if keys["step"] in tensors:
                adam.state[parameter] = {
                    moment: _like(tensors[key], parameter) if moment != "step" else tensors[key]
                    for moment, key in keys.items()
                }
        return int(tensors["images_seen"])
    except (KeyError, RuntimeError) as error:
        raise ArtifactCorrupt(f"training state does not fit the towers ({error})") from None


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    copied = value.to(parameter.device, copy=True)
    channels_last = parameter.ndim == 4
    return copied.contiguous(memory_format=torch.channels_last) if channels_last else copied
