"""What the encoders' trainings share: AdamW with its state on disk, and its step sizes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from controlgen.errors import ArtifactCorrupt
from controlgen.training.state import MOMENTS


def adamw(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW whose rate is set at every step; gains, biases and scalars are not decayed.

    So Radford et al. 2021, section 2.5.
    """
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    groups: Sequence[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), eps=1e-6, fused=True)


def set_rate(adam: torch.optim.AdamW, rate: float) -> None:
    """The step size of the next step."""
    for group in adam.param_groups:
        group["lr"] = rate


def warmed_cosine(peak: float, position: float) -> float:
    """A linear rise over the first 5 % of all images, then half a cosine down to a hundredth.

    `position`, 0..1, is the share of the images that has been seen.
    """
    if position < 0.05:
        return peak * max(position, 1e-4) / 0.05
    falling = (1 + math.cos(math.pi * min((position - 0.05) / 0.95, 1))) / 2
    return peak * (0.01 + 0.99 * falling)


def named_state(model: nn.Module, adam: torch.optim.AdamW, images_seen: int) -> dict[str, Tensor]:
    """Weights, moments and count as named tensors, for safetensors."""
    named = {"images_seen": torch.tensor(images_seen)}
    for name, value in model.state_dict().items():
        named[f"model/{name}"] = value.contiguous()
    for name, parameter in model.named_parameters():
        for moment, value in adam.state[parameter].items():
            named[f"adam/{moment}/{name}"] = value.contiguous()
    return named


def restore_state(model: nn.Module, adam: torch.optim.AdamW, named: Mapping[str, Tensor]) -> int:
    """Put `named_state` back; the images seen. Raises ArtifactCorrupt where it does not fit."""
    prefix = "model/"
    values = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
    try:
        model.load_state_dict(values)
        for name, parameter in model.named_parameters():
            keys = {moment: f"adam/{moment}/{name}" for moment in MOMENTS}
            if keys["step"] in named:
                adam.state[parameter] = {
                    moment: _like(named[key], parameter) if moment != "step" else named[key]
                    for moment, key in keys.items()
                }
        return int(named["images_seen"])
    except (KeyError, RuntimeError) as error:
        raise ArtifactCorrupt(f"training state does not fit the towers ({error})") from None


def _like(value: Tensor, parameter: Tensor) -> Tensor:
    moved = value.to(parameter.device, copy=True)
    channels_last = parameter.ndim == 4
    return moved.contiguous(memory_format=torch.channels_last) if channels_last else moved
