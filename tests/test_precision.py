"""Switches of the process: exact inside, afterwards as the caller has set them, whichever of torch's two ways they took."""

import subprocess
import sys

LOOK = """
import torch, modlib
from torch import nn
B = torch.backends
PLACES = [B, B.cudnn, B.mkldnn, B.cuda.matmul, B.cudnn.conv, B.cudnn.rnn, B.mkldnn.matmul, B.mkldnn.conv, B.mkldnn.rnn]
def new():
    return [place.fp32_precision for place in PLACES]
def old():
    def read(f):
        try: return f()
        except RuntimeError: return "mixed"
    reads = [torch.get_float32_matmul_precision, lambda: B.cudnn.allow_tf32, lambda: B.cuda.matmul.allow_tf32]
    flags = [B.cudnn.enabled, B.cudnn.benchmark, B.cudnn.deterministic, B.mkldnn.enabled, torch.get_num_threads()]
    modes = [B.mha.get_fastpath_enabled(), torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()]
    return [read(f) for f in reads] + flags + modes
class Look(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)
    def forward(self, x):
        global inside, kept
        inside = [place.fp32_precision for place in PLACES[3:]]
        kept = B.cudnn.enabled, B.cudnn.benchmark, B.cudnn.deterministic, torch.get_num_threads()
        x = self.conv(x)
        assert x.dtype == torch.float32
        return x.mean((2, 3))
model, images = Look(), modlib.load_images("cifar10", n=20)
images = modlib.Images(images.x, images.y % 3, images.classes[:3], "own")
"""
SETTINGS = [
    "",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('medium')",
    "B.cuda.matmul.allow_tf32 = True; B.cudnn.allow_tf32 = False",
    "B.fp32_precision = 'tf32'",
    "B.fp32_precision = 'ieee'",
    "B.cudnn.conv.fp32_precision = 'ieee'",
    "B.cudnn.fp32_precision = 'tf32'; B.cudnn.conv.fp32_precision = 'none'",
    "B.mkldnn.matmul.fp32_precision = 'bf16'; B.cuda.matmul.fp32_precision = 'tf32'",
    "B.cudnn.deterministic = True; B.cudnn.benchmark = True; torch.set_num_threads(3)",
]


# What comes of setting the topmost switch later shows what inherits from it. (But for cuDNN's: its old switch writes them.)
LATER = """
shown = []
for value in ("tf32", "ieee"):
    B.fp32_precision = value
    shown.append([*new()[:4], *new()[6:]])
"""
USES = """
before, new_before = old(), new()
for use in (lambda: modlib.modularity_curve(model, images.x, images.y, layers=["conv"]),
            lambda: modlib.attack(model, images, "fgsm"), lambda: modlib.knn_graph(images.x.reshape(20, -1)), lambda: cost(model)):
    use()
    assert old() == before and new() == new_before, (old(), before, new(), new_before)
    assert all(value in ("ieee", "none") for value in inside), inside
modlib.modularity_curve(model, images.x, images.y, layers=["conv"])
assert kept == (before[3], before[4], before[5], before[7]), kept
with torch.autocast("cpu", torch.bfloat16):
    modlib.modularity_curve(model, images.x, images.y, layers=["conv"])
"""


def test_switches_hold_inside_and_after():
    """Each setting in a process of its own, forked from one that has torch and modlib already."""
    program = (
        LOOK
        + f"""
import json, os, sys, traceback
import sympy, torch.fx.experimental.symbolic_shapes  # what cost imports, once
from modlib.cost import cost  # nothing runs before the forks: a child would wait for ever for threads that it does not have
for setting in {SETTINGS!r}:
    answers = []
    for uses in ({USES!r}, ""):
        read, write = os.pipe()
        if not os.fork():
            try:
                exec(setting + uses + {LATER!r})
                os.write(write, json.dumps(shown).encode())
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.close(write)
        answers.append(os.fdopen(read).read())
        os.wait()
    print(setting, "same" if answers[0] == answers[1] != "" else answers, flush=True)
"""
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=300)
    assert run.stdout.splitlines() == [f"{setting} same" for setting in SETTINGS], run.stdout + run.stderr
