"""How much the graphs and Q cost beside the forward pass: ``python benchmarks/curve.py [MODEL]``.

Ratios of times measured side by side in one run, medians of five; they vary with the machine, and no test depends on
them.
"""

import statistics
import sys
import time

import torch

import modlib


def main(name: str = "resnet56", n: int = 500, k: int = 3, rounds: int = 5) -> None:
    images = modlib.load_images("cifar10", n=n)
    model = modlib.build_model(name)
    pixels = torch.from_numpy(images.x).float() / 255

    @torch.no_grad()
    def forward():
        for batch in pixels.split(250):
            model(batch)

    def features():
        for _ in modlib.iter_features(model, images.x):
            pass

    def curve():
        modlib.modularity_curve(model, images.x, images.y, k)

    steps = {"forward pass": forward, "with features taken": features, "whole curve": curve}
    seconds = {label: [] for label in steps}
    curve()
    for _ in range(rounds):
        for label, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[label].append(time.perf_counter() - start)
    medians = {label: statistics.median(times) for label, times in seconds.items()}
    print(f"{name}, {len(modlib.layer_names(model))} layers, N = {n}, k = {k}, {torch.get_num_threads()} threads")
    for label, median in medians.items():
        print(f"  {label:20} {median:7.3f} s   {median / medians['forward pass']:5.2f} x the forward pass")


if __name__ == "__main__":
    main(*sys.argv[1:])
