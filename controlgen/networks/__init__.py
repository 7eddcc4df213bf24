"""Network families: generator and critic of one family in one file. The union is the registry."""

from controlgen.networks.r3gan import R3GANNetwork

AnyNetwork = R3GANNetwork

__all__ = ["AnyNetwork", "R3GANNetwork"]
