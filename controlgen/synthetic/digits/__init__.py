"""Procedural handwriting: white digits on black, drawn and framed as MNIST is, with captions."""
