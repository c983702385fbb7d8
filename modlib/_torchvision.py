"""torchvision, importable beside every build of torch.

The registry's torchvision wheel may be compiled for another build of torch (typically: a CUDA wheel beside a CPU torch).
Its compiled operators then cannot be loaded, and ``import torchvision`` stops at the first Python code that refers to
one of them. We use none of these operators; declaring their names is enough for the import. Every module of modlib
takes torchvision from here, so that the cure stands in one place and only where it is needed.
"""

import sys

import torch

try:
    import torchvision
except RuntimeError as error:
    if "torchvision::nms" not in str(error):
        raise
    for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    # Must stay alive as long as the process: a Library withdraws its operators when it is collected.
    _declared = torch.library.Library("torchvision", "DEF")
    _declared.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

import torchvision.datasets
import torchvision.models

__all__ = ["torchvision"]
