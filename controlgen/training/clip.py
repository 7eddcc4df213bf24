"""A small CLIP trained on procedural captioned images; saved in open_clip's format.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", figure
3, with one change: a batch of synthetic images contains equal captions, so all images with an equal
caption count as correct, with equal weights.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from safetensors.torch import save
from torch import Tensor

from controlgen import rng
from controlgen.config import ClipConfig
from controlgen.errors import ConfigError, Diverged
from controlgen.features._torchvision import ensure_torchvision
from controlgen.images import tensor_to_channels, to_signed_float
from controlgen.synthetic import SyntheticDataset
from controlgen.training.optim import (
    build_adamw,
    restore_state,
    set_learning_rate,
    state_tensors,
    warmup_cosine,
)
from controlgen.training.state import resolve_device, supports_native_bf16

CONTEXT_LENGTH = 16
MOST_LOGIT_SCALE = math.log(100)  # Radford et al., section 2.5
CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


class ClipProgress(NamedTuple):
    """The metrics of one step."""

    images_seen: int
    loss: float
    matched: float  # share of images whose own caption (or an equal one) ranks first in the batch
    learning_rate: float


class ClipState:
    """Both encoders, AdamW and `images_seen`: the complete state between two steps."""

    def __init__(self, config: ClipConfig) -> None:
        """Raises ConfigError if `config.tower` is not a timm model."""
        self.device = resolve_device(config.device)
        self.bf16 = supports_native_bf16(self.device)
        self.config = open_clip_config(config)
        self.model: Any = _build(self.config["model_cfg"], config)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.adam = build_adamw(self.model, config.weight_decay)
        self.images_seen = 0

    def tensors(self) -> dict[str, Tensor]:
        """The complete state as named tensors, for safetensors."""
        return state_tensors(self.model, self.adam, self.images_seen)

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `tensors()`. Raises ArtifactCorrupt if they do not match."""
        self.images_seen = restore_state(self.model, self.adam, tensors)


def open_clip_config(config: ClipConfig) -> dict[str, Any]:
    """The configuration that open_clip reads: both encoders and the preprocessing."""
    half = [0.5, 0.5, 0.5]
    return {
        "model_cfg": {
            "embed_dim": config.embed_dim,
            "vision_cfg": {
                "timm_model_name": config.tower,
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "linear",
                "image_size": config.image_size,
            },
            "text_cfg": {
                "context_length": CONTEXT_LENGTH,
                "vocab_size": 49408,
                "width": config.text_width,
                "heads": max(config.text_width // 32, 1),
                "layers": config.text_layers,
            },
        },
        "preprocess_cfg": {
            "size": config.image_size,
            "mean": half,
            "std": half,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        },
    }


def train_clip(
    config: ClipConfig, world: SyntheticDataset, state: ClipState
) -> Iterator[ClipProgress]:
    """Advance `state` in place to `config.images`, one batch per item.

    The batch is world.draw(seed, images_seen, images_seen + batch), so a resumed run sees the same
    batches as an uninterrupted one. The caller stops by not asking for more. Raises Diverged at a
    non-finite loss, before it reaches the weights.
    """
    import open_clip

    tokenizer = open_clip.get_tokenizer("", context_length=CONTEXT_LENGTH)
    tokens: dict[str, Tensor] = {}
    state.model.train()
    while state.images_seen < config.images:
        stop = state.images_seen + config.batch_size
        batch = world.draw(config.seed, state.images_seen, stop)
        for caption in set(batch.captions) - tokens.keys():
            tokens[caption] = tokenizer([caption])[0]

        # Equal captions are encoded once.
        sentences = sorted(set(batch.captions))
        place = {sentence: index for index, sentence in enumerate(sentences)}
        owner = torch.tensor([place[caption] for caption in batch.captions], device=state.device)
        texts = torch.stack([tokens[sentence] for sentence in sentences]).to(state.device)
        images = tensor_to_channels(to_signed_float(batch.pixels).to(state.device), 3)
        yield _step(config, state, images, texts, owner)


def info_nce_loss(similarities: Tensor, owner: Tensor) -> Tensor:
    """Symmetric InfoNCE with shared positives.

    `similarities` (n n) are scaled cosines of image i with the caption of image j; `owner` (n)
    states which images share a caption: the positives of i are all j with owner[j] == owner[i],
    with equal weights. If all captions differ, it is the loss of CLIP.
    """
    same = (owner[:, None] == owner[None, :]).float()
    targets = same / same.sum(1, keepdim=True)
    across = functional.cross_entropy(similarities, targets)
    down = functional.cross_entropy(similarities.T, targets)
    return (across + down) / 2


def export(state: ClipState, folder: Path) -> None:
    """Write CONFIG_FILE and WEIGHTS_FILE (float16) into an existing folder, for open_clip."""
    weights = {
        name: value.detach().cpu().half().contiguous() if value.is_floating_point() else value.cpu()
        for name, value in state.model.state_dict().items()
    }
    (folder / CONFIG_FILE).write_text(json.dumps(state.config, indent=2) + "\n", encoding="utf-8")
    (folder / WEIGHTS_FILE).write_bytes(save(weights))


def learning_rate(config: ClipConfig, images_seen: int) -> float:
    """The rate of `warmup_cosine` after this number of images."""
    return warmup_cosine(config.learning_rate, images_seen / config.images)


def _step(
    config: ClipConfig, state: ClipState, images: Tensor, texts: Tensor, owner: Tensor
) -> ClipProgress:
    rate = learning_rate(config, state.images_seen)
    set_learning_rate(state.adam, rate)

    # Both encoders, then cosines of every image with every image's caption.
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(state.device.type, torch.bfloat16, enabled=state.bf16):
        image_features = state.model.encode_image(images)
        text_features = state.model.encode_text(texts)
    image_features = functional.normalize(image_features.float(), dim=-1)
    text_features = functional.normalize(text_features.float(), dim=-1)[owner]
    similarities = state.model.logit_scale.exp() * image_features @ text_features.T

    loss = info_nce_loss(similarities, owner)
    if not math.isfinite(loss.item()):
        raise Diverged(
            f"clip loss became {loss.item()} after {state.images_seen} images; the last checkpoint "
            "is kept: lower clip.learning_rate and run again"
        )
    state.adam.zero_grad(set_to_none=True)
    loss.backward()
    state.adam.step()
    with torch.no_grad():
        state.model.logit_scale.clamp_(0, MOST_LOGIT_SCALE)
    state.images_seen += config.batch_size
    matched = (owner[similarities.argmax(1)] == owner).float().mean().item()
    return ClipProgress(state.images_seen, loss.item(), matched, rate)


def _build(model_cfg: dict[str, Any], config: ClipConfig) -> Any:
    ensure_torchvision()
    import open_clip
    import timm

    if not timm.is_model(config.tower):
        raise ConfigError(
            f"clip.tower {config.tower}: no timm model; timm.list_models() names them"
        )
    # Libraries initialise from torch's global generator, which is seeded for this moment only.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.key(config.seed, "initial weights"))
        return open_clip.CLIP(**json.loads(json.dumps(model_cfg)))
