"""The complete state of a training between two steps: networks, average, optimisers, counts."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from controlgen.config import TrainConfig
from controlgen.errors import ArtifactCorrupt, Incompatible
from controlgen.networks import AnyGenerator
from controlgen.networks.spectral_norm import SpectralNorm, effective_weights, unwrap
from controlgen.objectives import Optimiser
from controlgen.rng import torch_stream
from controlgen.types import Shape

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # Adam's state per parameter
OPTIMIZER_STATE_KEYS: dict[Optimiser, tuple[str, ...]] = {
    "adam": MOMENTS,
    "rmsprop": ("square_avg", "step"),
}


def resolve_device(choice: str) -> torch.device:
    """`auto` is the GPU if there is one."""
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if choice == "cuda" and not torch.cuda.is_available():
        raise Incompatible("device cuda: this machine has no usable GPU; set device to auto or cpu")
    return torch.device(choice)


def supports_native_bf16(device: torch.device) -> bool:
    """Whether bf16 is native: a GPU that supports it, or a CPU with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe else False


def check_shape(config: TrainConfig, shape: Shape) -> None:
    """Raise Incompatible if the network's images have another size than the data's."""
    size = config.network.image_size
    if shape[1:] != (size, size):
        raise Incompatible(
            f"train.network makes {size}x{size} images but the dataset has {shape[1]}x{shape[2]}; "
            "change widths (one per resolution from 4x4 up) or patch"
        )


class TrainState:
    """Generator, critic, averaged generator, both optimisers, `images_seen` and `augment_p`.

    If the objective uses spectral norm, `critic` and optionally `generator` carry it. The average
    is over effective weights, after normalisation, so that `average` is always a network without
    spectral norm (an average of normalised weights may have a norm below 1).
    """

    def __init__(self, config: TrainConfig, shape: Shape) -> None:
        """Raises Incompatible if network or augmentation do not fit images of `shape`."""
        check_shape(config, shape)
        config.augment.check(shape)
        self.device = resolve_device(config.device)
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and supports_native_bf16(self.device)
        )
        channels, rng = shape[0], torch_stream(config.seed, "initial weights")
        generator: AnyGenerator = config.network.generator(channels, rng, self.bf16)
        self.average = copy.deepcopy(generator).requires_grad_(False).to(self.device)
        self.generator: nn.Module = generator
        self.critic: nn.Module = config.network.critic(channels, rng, self.bf16)
        # Spectral norm wraps finished networks and draws from its own stream.
        if config.objective.spectral_norm != "none":
            rng = torch_stream(config.seed, "spectral norm")
            self.critic = SpectralNorm(self.critic, rng)
            if config.objective.spectral_norm == "both":
                self.generator = SpectralNorm(self.generator, rng)
        self.generator.to(self.device)
        self.critic.to(self.device)
        # The average starts with the effective weights of the generator.
        self.update_average(0.0)
        self.optimiser: Optimiser = config.objective.optimiser
        self.generator_optimiser = _optimiser(self.generator, self.optimiser)
        self.critic_optimiser = _optimiser(self.critic, self.optimiser)
        self.images_seen = 0
        # The augmentation probability; only an adaptive one is part of the state.
        self.augment_p = 0.0
        self.adaptive = config.augment.kind == "adaptive"

    def start_from(self, generator: nn.Module, critic: Mapping[str, Tensor] | None = None) -> bool:
        """Start from a trained generator's weights; return whether the critic's weights fit, too.

        A critic of another kind (another network, with or without spectral norm) is trained from
        scratch. Raises Incompatible if the generator does not fit.
        """
        for mine in (unwrap(self.generator), self.average):
            try:
                mine.load_state_dict(generator.state_dict())
            except RuntimeError:
                raise Incompatible(
                    "train.start_from: that generator has another network or other channels than "
                    "train.network and the dataset ask for; take its [train.network]"
                ) from None
        # Under spectral norm the estimates follow the new weights, and the average the effective
        # ones.
        if isinstance(self.generator, SpectralNorm):
            self.generator.reset_estimates()
            self.update_average(0.0)

        if critic is None:
            return False
        shapes = {name: value.shape for name, value in self.critic.state_dict().items()}
        if shapes != {name: value.shape for name, value in critic.items()}:
            return False
        self.critic.load_state_dict(dict(critic))
        return True

    def update_average(self, decay: float) -> None:
        """average <- decay * average + (1 - decay) * generator, in effective weights."""
        with torch.no_grad():
            acting = effective_weights(self.generator)
            for name, slow in self.average.named_parameters():
                slow.lerp_(acting[name], 1 - decay)

    def schedule(self, learning_rate: float, beta2: float) -> None:
        """Set the learning rate and beta2 of both optimisers."""
        for optimiser in (self.generator_optimiser, self.critic_optimiser):
            group = optimiser.param_groups[0]
            group["lr"] = learning_rate
            if self.optimiser == "adam":
                group["betas"] = (0.0, beta2)
            else:
                group["alpha"] = beta2

    def tensors(self) -> dict[str, Tensor]:
        """The complete state as named tensors, for safetensors."""
        tensors = {"images_seen": torch.tensor(self.images_seen)}
        if self.adaptive:
            tensors["augment_p"] = torch.tensor(self.augment_p, dtype=torch.float64)
        for part in ("generator", "critic", "average"):
            for name, value in getattr(self, part).state_dict().items():
                tensors[f"{part}/{name}"] = value.contiguous()
        for part in ("generator", "critic"):
            optimiser, module = getattr(self, f"{part}_optimiser"), getattr(self, part)
            for name, parameter in module.named_parameters():
                for moment, value in optimiser.state[parameter].items():
                    tensors[f"{part}_{self.optimiser}/{moment}/{name}"] = value.contiguous()
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from `tensors()`. Raises ArtifactCorrupt if they do not match."""
        try:
            for part in ("generator", "critic", "average"):
                prefix = f"{part}/"
                values = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
                getattr(self, part).load_state_dict(values)
            for part in ("generator", "critic"):
                optimiser, module = getattr(self, f"{part}_optimiser"), getattr(self, part)
                for name, parameter in module.named_parameters():
                    moments = OPTIMIZER_STATE_KEYS[self.optimiser]
                    keys = {m: f"{part}_{self.optimiser}/{m}/{name}" for m in moments}
                    if keys["step"] in tensors:
                        optimiser.state[parameter] = {
                            m: tensors[k].to(parameter.device if m != "step" else "cpu", copy=True)
                            for m, k in keys.items()
                        }
            self.images_seen = int(tensors["images_seen"])
            if self.adaptive:
                self.augment_p = float(tensors["augment_p"])
        except (KeyError, RuntimeError) as error:
            raise ArtifactCorrupt(f"training state does not fit the network ({error})") from None


def _optimiser(module: nn.Module, kind: Optimiser) -> torch.optim.Optimizer:
    # Training sets the learning rate and beta2 at every step.
    if kind == "rmsprop":
        return torch.optim.RMSprop(module.parameters(), lr=0.0, alpha=0.99, eps=1e-8)
    # Both betas as floats: recent versions of torch refuse a mix.
    return torch.optim.Adam(module.parameters(), lr=0.0, betas=(0.0, 0.99), eps=1e-8)
