"""Procedural handwriting: white digits on black, framed as in MNIST, with captions."""

from controlgen.synthetic.digits.dataset import SyntheticDigits

__all__ = ["SyntheticDigits"]
