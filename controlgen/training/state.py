"""Everything a training run is between two steps: networks, average, optimisers, counts."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from controlgen.config import TrainConfig
from controlgen.errors import ArtifactCorrupt, Incompatible
from controlgen.networks import AnyGenerator
from controlgen.networks.spectral_norm import SpectralNorm, plain, plain_weights
from controlgen.objectives import Optimiser
from controlgen.rng import torch_stream
from controlgen.types import Shape

MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # what Adam carries from step to step
CARRIED: dict[Optimiser, tuple[str, ...]] = {"adam": MOMENTS, "rmsprop": ("square_avg", "step")}


def pick_device(choice: str) -> torch.device:
    """`auto` is the GPU where there is one."""
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if choice == "cuda" and not torch.cuda.is_available():
        raise Incompatible("device cuda: this machine has no usable GPU; set device to auto or cpu")
    return torch.device(choice)


def pays_bf16(device: torch.device) -> bool:
    """Whether bf16 is native here: a GPU that supports it, or a CPU with AVX512-BF16 or AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe else False


def check_shape(config: TrainConfig, shape: Shape) -> None:
    """Raise Incompatible where the network makes images of another size than the data has."""
    size = config.network.image_size
    if shape[1:] != (size, size):
        raise Incompatible(
            f"train.network makes {size}x{size} images but the dataset has {shape[1]}x{shape[2]}; "
            "change widths (one per resolution from 4x4 up) or patch"
        )


class TrainState:
    """Generator, critic, averaged generator, both optimisers, `images_seen` and `augment_p`.

    Where the objective asks for spectral norm, `critic` and, on request, `generator` carry it. What
    is averaged are the weights as they act, after normalisation, so that `average` is always a
    plain network of the family (an average of normalised weights may have a norm below 1).
    """

    def __init__(self, config: TrainConfig, shape: Shape) -> None:
        """Raises Incompatible where network or augmentation do not fit images of `shape`."""
        check_shape(config, shape)
        config.augment.check(shape)
        self.device = pick_device(config.device)
        self.bf16 = config.precision == "bf16" or (
            config.precision == "auto" and pays_bf16(self.device)
        )
        channels, rng = shape[0], torch_stream(config.seed, "initial weights")
        generator: AnyGenerator = config.network.generator(channels, rng, self.bf16)
        self.average = copy.deepcopy(generator).requires_grad_(False).to(self.device)
        self.generator: nn.Module = generator
        self.critic: nn.Module = config.network.critic(channels, rng, self.bf16)
        # Spectral norm is put around finished networks and draws from a stream of its own.
        if config.objective.spectral_norm != "none":
            rng = torch_stream(config.seed, "spectral norm")
            self.critic = SpectralNorm(self.critic, rng)
            if config.objective.spectral_norm == "both":
                self.generator = SpectralNorm(self.generator, rng)
        self.generator.to(self.device)
        self.critic.to(self.device)
        # The average begins as the generator acts.
        self.update_average(0.0)
        self.optimiser: Optimiser = config.objective.optimiser
        self.generator_optimiser = _optimiser(self.generator, self.optimiser)
        self.critic_optimiser = _optimiser(self.critic, self.optimiser)
        self.images_seen = 0
        # The probability of augmentation; only an adaptive one is carried from step to step.
        self.augment_p = 0.0
        self.adaptive = config.augment.kind == "adaptive"

    def start_from(self, generator: nn.Module, critic: Mapping[str, Tensor] | None = None) -> bool:
        """Begin with a trained generator's weights; whether these weights of a critic fitted too.

        A critic of another make (another network, spectral norm put on or taken off) is left new:
        what is trained on is the generator. Raises Incompatible where the generator does not fit.
        """
        for mine in (plain(self.generator), self.average):
            try:
                mine.load_state_dict(generator.state_dict())
            except RuntimeError:
                raise Incompatible(
                    "train.start_from: that generator has another network or other channels than "
                    "train.network and the dataset ask for; take its [train.network]"
                ) from None
        # Under spectral norm the estimates follow the new weights, and the average what they do.
        if isinstance(self.generator, SpectralNorm):
            self.generator.settle()
            self.update_average(0.0)

        if critic is None:
            return False
        wanted = {name: value.shape for name, value in self.critic.state_dict().items()}
        if wanted != {name: value.shape for name, value in critic.items()}:
            return False
        self.critic.load_state_dict(dict(critic))
        return True

    def update_average(self, decay: float) -> None:
        """average <- decay * average + (1 - decay) * generator, in weights as they act."""
        with torch.no_grad():
            acting = plain_weights(self.generator)
            for name, slow in self.average.named_parameters():
                slow.lerp_(acting[name], 1 - decay)

    def schedule(self, learning_rate: float, beta2: float) -> None:
        """Set both optimisers' step size and how long they remember squared gradients."""
        for optimiser in (self.generator_optimiser, self.critic_optimiser):
            group = optimiser.param_groups[0]
            group["lr"] = learning_rate
            if self.optimiser == "adam":
                group["betas"] = (0.0, beta2)
            else:
                group["alpha"] = beta2

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as named tensors, for safetensors."""
        named = {"images_seen": torch.tensor(self.images_seen)}
        if self.adaptive:
            named["augment_p"] = torch.tensor(self.augment_p, dtype=torch.float64)
        for part in ("generator", "critic", "average"):
            for name, value in getattr(self, part).state_dict().items():
                named[f"{part}/{name}"] = value.contiguous()
        for part in ("generator", "critic"):
            optimiser, module = getattr(self, f"{part}_optimiser"), getattr(self, part)
            for name, parameter in module.named_parameters():
                for moment, value in optimiser.state[parameter].items():
                    named[f"{part}_{self.optimiser}/{moment}/{name}"] = value.contiguous()
        return named

    def restore(self, named: dict[str, Tensor]) -> None:
        """Continue from `tensors()`. Raises ArtifactCorrupt where they do not fit."""
        try:
            for part in ("generator", "critic", "average"):
                prefix = f"{part}/"
                values = {k[len(prefix) :]: v for k, v in named.items() if k.startswith(prefix)}
                getattr(self, part).load_state_dict(values)
            for part in ("generator", "critic"):
                optimiser, module = getattr(self, f"{part}_optimiser"), getattr(self, part)
                for name, parameter in module.named_parameters():
                    moments = CARRIED[self.optimiser]
                    keys = {m: f"{part}_{self.optimiser}/{m}/{name}" for m in moments}
                    if keys["step"] in named:
                        optimiser.state[parameter] = {
                            m: named[k].to(parameter.device if m != "step" else "cpu", copy=True)
                            for m, k in keys.items()
                        }
            self.images_seen = int(named["images_seen"])
            if self.adaptive:
                self.augment_p = float(named["augment_p"])
        except (KeyError, RuntimeError) as error:
            raise ArtifactCorrupt(f"training state does not fit the network ({error})") from None


def _optimiser(module: nn.Module, kind: Optimiser) -> torch.optim.Optimizer:
    # The loop sets the learning rate and beta2 at every step.
    if kind == "rmsprop":
        return torch.optim.RMSprop(module.parameters(), lr=0.0, alpha=0.99, eps=1e-8)
    # Both betas as floats: recent torch refuses a mix.
    return torch.optim.Adam(module.parameters(), lr=0.0, betas=(0.0, 0.99), eps=1e-8)
