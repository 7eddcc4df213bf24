"""Make `import torchvision` work if its wheel was built for CUDA and torch for the CPU.

There the import fails with "operator torchvision::nms does not exist", and with it timm and
open_clip, although neither ever calls the operator.
"""

import importlib
import sys

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # a declaration lasts as long as its Library object


def ensure_torchvision() -> None:
    """Import torchvision, declaring its missing operators only after the real import has failed.

    Call before importing timm or open_clip. The compiled operators remain unusable in that case.
    Raises RuntimeError or ImportError if the import fails for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
        _declare_operators()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    # Half-imported modules would be returned from the cache, so they are dropped first.
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in OPERATORS:
        library.define(operator)
    _declared.append(library)
