"""Networks as torch modules: torchvision's classes with a stem for small images, taking pixels in [0, 1]."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from modlib._torchvision import torchvision

BasicBlock = torchvision.models.resnet.BasicBlock
_Encoder = torchvision.models.vision_transformer.Encoder
BLOCKS = {"basic": BasicBlock, "bottleneck": torchvision.models.resnet.Bottleneck}


class _Pixels:
    """Makes a torchvision network take pixels in [0, 1]: it normalises them itself, before its first layer."""

    def set_pixels(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward((x - self.mean) / self.std)


class PixelVGG(_Pixels, torchvision.models.VGG):
    """torchvision's VGG with batch normalisation, taking pixels."""


class PixelResNet(_Pixels, torchvision.models.ResNet):
    """torchvision's ResNet, taking pixels."""


class PadShortcut(nn.Module):
    """Option A of He et al. (2016): every second pixel, and zeros for the channels that are new. No parameters."""

    def __init__(self, extra: int):
        super().__init__()
        self.extra = extra

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))


def _shortcut(kind: str, channels: int, width: int) -> nn.Module:
    if kind == "pad":
        return PadShortcut(width - channels)
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=2, bias=False), nn.BatchNorm2d(width))


class _ThinNet(nn.Module):
    """The CIFAR ResNet of He et al. (2016), Section 4.2: three stages of 16, 32 and 64 channels."""

    def __init__(self, stages: Sequence[int], num_classes: int, shortcut: str = "pad"):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        channels = 16
        for stage, (width, depth) in enumerate(zip((16, 32, 64), stages, strict=True), 1):
            blocks = []
            for block in range(depth):
                shrink = stage > 1 and block == 0
                side = _shortcut(shortcut, channels, width) if shrink else None
                blocks.append(BasicBlock(channels, width, stride=2 if shrink else 1, downsample=side))
                channels = width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class PixelThinResNet(_Pixels, _ThinNet):
    """ResNet20/32/44/56/110, taking pixels."""


class _CompactTransformer(nn.Module):
    """The compact convolutional transformer of Hassani et al. (2021): tokens by convolutions, pooled by learned weights."""

    def __init__(self, depth: int, num_classes: int, size: int, width: int = 128):
        super().__init__()
        self.tokenizer = nn.Sequential(
            *(nn.Conv2d(3, width // 2, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
            *(nn.Conv2d(width // 2, width, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        )
        self.encoder = _Encoder((size // 4) ** 2, depth, 4, width, 2 * width, dropout=0.0, attention_dropout=0.0)
        self.pool = nn.Linear(width, 1)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.encoder(self.tokenizer(x).flatten(2).transpose(1, 2))
        return self.head((self.pool(tokens).softmax(1) * tokens).sum(1))


class PixelCompactTransformer(_Pixels, _CompactTransformer):
    """A compact convolutional transformer, taking pixels."""


class PixelViT(_Pixels, torchvision.models.VisionTransformer):
    """torchvision's vision transformer, taking pixels."""


def transformer(name: str, depth: int, classes: int, size: int) -> PixelViT | PixelCompactTransformer:
    """A small transformer for images of so many pixels a side; with MLPs twice as wide as the tokens, as theirs have."""
    if name == "cct6":
        return PixelCompactTransformer(depth, classes, size)
    return PixelViT(size, 4, depth, num_heads=3, hidden_dim=192, mlp_dim=384, num_classes=classes)


def vgg(stages: Sequence, classes: int, imagenet: bool) -> PixelVGG:
    """A VGG; for small images with a 512-512-C classifier."""
    model = PixelVGG(torchvision.models.vgg.make_layers(stages, batch_norm=True), num_classes=classes)
    if not imagenet:
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Sequential(
            *(nn.Linear(512, 512), nn.ReLU(True), nn.Dropout()),
            *(nn.Linear(512, 512), nn.ReLU(True), nn.Dropout(), nn.Linear(512, classes)),
        )
    return model


def resnet(block: str, stages: Sequence[int], classes: int, imagenet: bool) -> PixelResNet:
    """A ResNet; for small images with a stem of 3 x 3 and no pooling."""
    model = PixelResNet(BLOCKS[block], list(stages), num_classes=classes)
    if not imagenet:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model


def thin_resnet(stages: Sequence[int], classes: int, shortcut: str = "pad") -> PixelThinResNet:
    """A CIFAR ResNet of He et al. (2016)."""
    model = PixelThinResNet(stages, classes, shortcut)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
