"""From a folder of your own images to a model that edits them.

    python examples/own_images.py                    # digits, in about half a minute
    python examples/own_images.py PHOTOS --size 64 --train-images 20000

No labels are needed. The defaults are tiny: they show every step, not good images. For a usable
model start from configs/mnist-quick.toml (minutes) or configs/tiles.toml (hours on a CPU).

The script needs controlgen (`make setup`) and no network. It writes settings.toml, which the flows
read too: `python -m flows.fit_map own-images/settings.toml --store own-images/artifacts`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from controlgen import Editor, RunConfig, Store, stages
from controlgen.types import Pixels

AMOUNTS = (-2, -1, 0, 1, 2)

# The feature space is EfficientNet-Lite0, which is trained on photographs and installed with
# controlgen. It knows no texts; with a CLIP, `kind = "open_clip"`, text("...") works too.
SETTINGS = """\
name = "own-images"

[train]
network = {{ kind = "r3gan", widths = {widths}, blocks = 1, patch = 4, latent_size = 32 }}
batch_size = 16
total_images = {train_images}
burn_in_images = {train_images}
learning_rate = {{ start = 4e-3, end = 2e-4 }}
ema_half_life = {{ start = 0, end = 500 }}

[train.dataset]
kind = "folder"
root = {root}
size = {size}
channels = {channels}
cache = {cache}

[sample]
n = {bank}

[embed]
space = {{ kind = "efficientnet-lite0", image_size = {feature_size} }}

[fit]
held_out = {held_out}

[fit.map]
kind = "cycle-mlp"
width = 64
batch_size = 32
warm_steps = {fit_steps}
cycle_steps = {cycle_steps}
"""


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("images", type=Path, nargs="?", help="a folder of images; default: digits")
    parser.add_argument("--out", type=Path, default=Path("own-images"), help="folder to write to")
    parser.add_argument("--size", type=int, choices=(32, 64, 128), default=32, help="pixels a side")
    parser.add_argument("--grey", action="store_true", help="one channel instead of three")
    parser.add_argument("--train-images", type=int, default=6_000, help="images of training")
    parser.add_argument("--bank", type=int, default=1_000, help="images generated to fit the map")
    parser.add_argument("--fit-steps", type=int, default=300, help="steps of the map's fit")
    return parser.parse_args(arguments)


def write_digits(folder: Path, count: int = 600) -> None:
    """Make a folder of small images from scikit-learn's digits."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, digit in enumerate(load_digits().images[:count]):
        grey = Image.fromarray(np.uint8(np.minimum(digit * 16, 255)))
        framed = Image.new("L", (32, 32))
        framed.paste(grey.resize((24, 24), Image.Resampling.BICUBIC), (4, 4))
        framed.save(folder / f"{number:04d}.png")


def write_settings(options: argparse.Namespace, root: Path, grey: bool) -> Path:
    """Write settings.toml for these images."""
    path: Path = options.out / "settings.toml"
    stages_of_network = (options.size // 16).bit_length()  # 32 pixels: 2, 64: 3, 128: 4
    text = SETTINGS.format(
        root=json.dumps(str(root.resolve())),
        cache=json.dumps(str((options.out / "cache").resolve())),
        size=options.size,
        channels=1 if grey else 3,
        widths=[48] * stages_of_network,
        train_images=options.train_images,
        bank=options.bank,
        fit_steps=options.fit_steps,
        cycle_steps=max(options.fit_steps // 10, 1),
        held_out=options.bank // 5,
        feature_size=options.size,
    )
    path.write_text(text, encoding="utf-8")
    return path


def train(settings: RunConfig, store: Store) -> Editor:
    """Run the stages one after another; those whose artifact exists return at once."""
    generator = stages.train_gan(settings.name, settings.train, store)
    bank = stages.draw_samples(settings, generator, store)
    features = stages.embed_images(settings.name, settings.embed, bank, store)
    fitted = stages.fit_map(settings, generator, bank, features, store)
    return Editor.load(store.path(fitted))


def save_rows(path: Path, rows: list[Pixels]) -> None:
    """Save rows of images (n c h w) as one PNG, with lines between them, three times enlarged."""
    gap = ((0, 0), (0, 0), (1, 1), (1, 1))
    framed = [np.pad(row, gap, constant_values=255) for row in rows]
    sheet = np.concatenate([np.concatenate(row, axis=2) for row in framed], axis=1)
    picture = Image.fromarray(sheet[0] if len(sheet) == 1 else sheet.transpose(1, 2, 0))
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(path)


def main(arguments: list[str] | None = None) -> None:
    """Train on a folder of images, then make samples brighter and darker."""
    options = parse_arguments(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    images, grey = options.images, options.grey
    if images is None:
        images, grey = options.out / "digits", True
        write_digits(images)

    settings = RunConfig.load(write_settings(options, images, grey))
    editor = train(settings, Store(options.out / "artifacts"))

    # Any number that you can measure on images makes a direction; here the brightness of samples.
    samples = editor.sample(400, seed=1).pixels
    brighter = editor.direction(values=samples.mean((1, 2, 3)), of=samples)

    sources = editor.sample(8, seed=2)
    real = settings.train.dataset.open().pixels(np.arange(8))
    rows = [real, sources.pixels]
    for amount in AMOUNTS:
        edit = editor.edit(sources, brighter, amount, residual=True)
        rows.append(edit.pixels)
        print(f"amount {amount:+}: mean brightness {edit.pixels.mean():.1f}")

    path = options.out / "brighter.png"
    save_rows(path, rows)
    print(f"{path}: real images, samples, then the samples at amounts {AMOUNTS}")


if __name__ == "__main__":
    main()
