"""Network families: generator and critic of one family in one file. The union is the registry."""

from typing import Annotated

from pydantic import Field

from controlgen.networks import dcgan, r3gan
from controlgen.networks.dcgan import DCGANNetwork
from controlgen.networks.r3gan import R3GANNetwork

AnyNetwork = Annotated[R3GANNetwork | DCGANNetwork, Field(discriminator="kind")]
AnyGenerator = r3gan.Generator | dcgan.Generator
AnyCritic = r3gan.Critic | dcgan.Critic

__all__ = ["AnyCritic", "AnyGenerator", "AnyNetwork", "DCGANNetwork", "R3GANNetwork"]
