"""Network families, one file each with generator and critic. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.networks import dcgan, mlp, r3gan
from controlgen.networks.dcgan import DCGANConfig
from controlgen.networks.mlp import MLPConfig
from controlgen.networks.r3gan import R3GANConfig

AnyNetwork = Annotated[R3GANConfig | DCGANConfig | MLPConfig, Field(discriminator="kind")]
AnyGenerator = r3gan.Generator | dcgan.Generator | mlp.Generator
AnyCritic = r3gan.Critic | dcgan.Critic | mlp.Critic

__all__ = ["AnyCritic", "AnyGenerator", "AnyNetwork", "DCGANConfig", "MLPConfig", "R3GANConfig"]
