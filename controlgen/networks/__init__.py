"""Network families: generator and critic of one family in one file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.networks import dcgan, mlp, r3gan
from controlgen.networks.dcgan import DCGANNetwork
from controlgen.networks.mlp import MLPNetwork
from controlgen.networks.r3gan import R3GANNetwork

AnyNetwork = Annotated[R3GANNetwork | DCGANNetwork | MLPNetwork, Field(discriminator="kind")]
AnyGenerator = r3gan.Generator | dcgan.Generator | mlp.Generator
AnyCritic = r3gan.Critic | dcgan.Critic | mlp.Critic

__all__ = ["AnyCritic", "AnyGenerator", "AnyNetwork", "DCGANNetwork", "MLPNetwork", "R3GANNetwork"]
