"""Talk to a running server: sample, edit, save the pictures.

    controlgen serve artifacts/pretrained/mnist          # in another terminal
    python examples/http_client.py

The server does the work; the arrays are those of an Editor, bit for bit. For a server with a token,
set CONTROLGEN_TOKEN.
"""

import argparse
import os
from pathlib import Path

import numpy as np
from PIL import Image

from controlgen import Client


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the server")
    parser.add_argument("--model", default=None, help="its name, if the server has several")
    parser.add_argument("--text", default="a slanted digit", help="what the images become")
    parser.add_argument("--neutral", default="a left slanted digit", help="the opposite")
    parser.add_argument("--amount", type=float, default=0.5, help="length of the edit")
    parser.add_argument("--seed", type=int, default=7, help="of the samples")
    parser.add_argument("--n", type=int, default=8, help="number of samples")
    parser.add_argument("--out", type=Path, default=Path("http-client"), help="folder to write to")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Sample, edit and save, all by the server."""
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    token = os.environ.get("CONTROLGEN_TOKEN", "")

    with Client(options.url, model=options.model, token=token) as client:
        print(f"model {client.model}: images {client.image_shape}, latents of {client.latent_size}")

        # Several images at once, as arrays.
        samples = client.sample(options.n, seed=options.seed)
        direction = client.direction(text=options.text, neutral=options.neutral)
        edit = client.edit(samples, direction, amount=options.amount)
        print("cosine of target and result:", edit.agreement.round(2))
        if edit.reachability is not None:
            print("confidence:                 ", edit.reachability.round(2))

        # The first row holds the samples, the second row the results.
        rows = (np.concatenate(pixels, axis=2) for pixels in (samples.pixels, edit.pixels))
        sheet = np.concatenate(list(rows), axis=1)
        picture = Image.fromarray(sheet[0] if len(sheet) == 1 else sheet.transpose(1, 2, 0))
        picture.save(options.out / "edits.png")

        # The first sample again, as an expression. Its PNG carries the recipe, so that
        # `controlgen edit MODEL --recipe edit.png -o again.png` draws it again byte for byte.
        change = f'{options.amount} * (text("{options.text}") - text("{options.neutral}"))'
        answer = client.answer(f"seed({options.seed}) + {change}")
        (options.out / "edit.png").write_bytes(answer.png)

    print(f"saved {options.out / 'edits.png'} and {options.out / 'edit.png'}")


if __name__ == "__main__":
    main()
