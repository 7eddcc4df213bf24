"""Pixel-exact transforms: the eight poses of a square and integer translation, as an index map."""

import torch
from torch import Tensor


def _poses() -> Tensor:
    # In coordinates centred on the image (row, column), a mirrored image is read at (r, -c), one
    # turned a quarter counter-clockwise at (c, -r). Powers and products of the two are the group.
    mirror, turn = torch.tensor([[1, 0], [0, -1]]), torch.tensor([[0, 1], [-1, 0]])
    turns = [torch.eye(2, dtype=torch.int64)]
    for _ in range(3):
        turns.append(turns[-1] @ turn)
    return torch.stack(turns + [mirror @ matrix for matrix in turns])


POSES = _poses()  # (8 2 2): pose 4 f + k mirrors left-right (f = 1), then turns k quarters
UPRIGHT = 0  # the identity


def apply_pose_and_shift(images: Tensor, pose: Tensor, shift: Tensor) -> Tensor:
    """Transform square images (n c s s) to their `pose` (n), 0..7, then translate them by `shift`.

    `shift` (n 2) counts pixels down and to the right, less than s in either direction. Margins are
    filled by reflection at the outermost pixel (the padding of Karras et al. 2020, appendix B), not
    by zeros: 0 is mid-grey here, and no real image has a grey margin, so the critic would look at
    the margin instead of the image. Nothing is interpolated.
    """
    n, channels, size, _ = images.shape
    line = torch.arange(size)
    rows = _reflect(line - shift[:, :1], size)[:, :, None]
    columns = _reflect(line - shift[:, 1:], size)[:, None, :]

    # Twice the distance from the centre is an integer for even sizes too.
    down, right = 2 * rows - (size - 1), 2 * columns - (size - 1)
    matrix = POSES[pose][:, :, :, None, None]
    source_row = (matrix[:, 0, 0] * down + matrix[:, 0, 1] * right + size - 1) // 2
    source_column = (matrix[:, 1, 0] * down + matrix[:, 1, 1] * right + size - 1) // 2

    # A gather's backward pass adds in a fixed order on a CPU, whatever the number of threads.
    index = (source_row * size + source_column).view(n, 1, -1).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index.to(images.device)).view_as(images)


def _reflect(position: Tensor, size: int) -> Tensor:
    return size - 1 - (size - 1 - position.abs()).abs()
