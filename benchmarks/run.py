"""How fast the chain from features to Q is: ``python benchmarks/run.py [--quick] [--out FILE]``.

Everything is a ratio of two times measured in turn in one run, medians of five rounds; only the growth over N, which
takes minutes for each size, is measured once, each size in a process of its own. Nothing is downloaded: sizes beyond
the embedded images need the CIFAR-10 test set (``python -m modlib data cifar10``) and are passed over without it.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from methods import OTHERS, ours, straightforward

import modlib
from modlib.curves import curve_grid
from modlib.data import cache_folder
from modlib.results import measurement, read_result, write_result

FULL = dict(
    rounds=5, products=[(500, 16384), (2000, 8192), (5000, 2048), (5000, 8192), (10000, 4096)], others=(500, 8192),
    curve=("resnet56", 500), growth=["resnet56", "vgg16"], n=[500, 1000, 2500, 5000, 10000], sketches=[512, 1024, 2048, 4096],
    sketched=(5000, 16384), grid=("resnet20", [200, 500, 1000, 2000]), half=("resnet56", 2500, "512MiB"),
    cuda=[(10000, 8192)], cuda_curve=("resnet18", 10000),
)  # fmt: skip
QUICK = dict(
    rounds=1, products=[(100, 512), (200, 256)], others=(100, 256), curve=("resnet20", 60), growth=["resnet20"], n=[50, 100],
    sketches=[64, 128], sketched=(200, 1024), grid=("resnet20", [20, 50]), half=("resnet20", 50, "20MiB"),
    cuda=[(1000, 512)], cuda_curve=("resnet20", 500),
)  # fmt: skip
K = 3
REST = 0.3  # seconds before each measurement: another library's threads still spin for a while after their last product
MEMORY = "3.5GiB"  # of the features and the search: Python, torch and the activations of a batch come on top


def features(n: int, m: int, device="cpu") -> tuple[torch.Tensor, np.ndarray]:
    """Ten classes around their means in 32 dimensions, seen through a random layer with noise and ReLU."""
    random = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 10
    hidden = torch.randn(10, 32, generator=random)[y] + torch.randn(n, 32, generator=random)
    x = hidden @ torch.randn(32, m, generator=random) + torch.randn(n, m, generator=random)
    return x.relu_().to(device), y.numpy()


def seconds(*functions, rounds: int) -> list[float]:
    """Median time of each, measured in turn, after one call of each that does not count."""
    times = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, own in zip(functions, times, strict=True):
            time.sleep(REST)
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def images(n: int) -> modlib.Images | None:
    """The first n test images of CIFAR-10; embedded ones where they suffice, and none if there are not so many."""
    if n <= 2500:
        return modlib.load_images("cifar10", n=n)
    there = (cache_folder() / "cifar10-test.safetensors").exists()
    return modlib.load_images("cifar10", n=n, split="test") if there else None


def layers(scale: dict, say) -> None:
    """Graph and Q of one layer beside the bare product of its features, and beside other ways to it."""
    places = [("CPU", "cpu", scale["products"])]
    places += [("GPU", "cuda", scale["cuda"])] if torch.cuda.is_available() else []
    for place, device, sizes in places:
        for n, m in sizes:
            x, y = features(n, m, device)
            own, product = seconds(lambda: ours(x, y, K), lambda: x @ x.T, rounds=scale["rounds"])
            say(f"one layer / bare product, N = {n}, M = {m}, {place}", own, product)
    n, m = scale["others"]
    x, y = features(n, m)
    for name, method in OTHERS.items():
        try:
            assert abs(method(x, y, K) - ours(x, y, K)) < 1e-4, f"{name} gives another Q"
        except ImportError:
            print(f"{name}: not installed, passed over", file=sys.stderr)
            continue
        other, own = seconds(lambda: method(x, y, K), lambda: ours(x, y, K), rounds=scale["rounds"])
        say(f"{name} / one layer, N = {n}, M = {m}, CPU", other, own)


def curve(scale: dict, say) -> None:
    """All layers of a network, and all that comes after its forward pass, beside that pass."""
    cases = [("CPU", "cpu", *scale["curve"])] + [("GPU", "cuda", *scale["cuda_curve"])] * torch.cuda.is_available()
    for place, device, name, n in cases:
        model, sample = modlib.build_model(name).to(device), images(n)
        if sample is None:
            print(f"{name}, N = {n}: needs the CIFAR-10 test set, passed over", file=sys.stderr)
            continue
        pixels = (torch.from_numpy(sample.x).float() / 255).to(device)

        @torch.no_grad()
        def forward():
            for batch in pixels.split(250):
                model(batch)

        def whole():
            modlib.modularity_curve(model, sample.x, sample.y, K)

        def plain():
            for _, x in modlib.iter_features(model, sample.x):
                straightforward(x, sample.y, K)

        methods = [forward, whole, *([plain] if device == "cpu" else [])]
        passes, all_of_it, *others = seconds(*methods, rounds=scale["rounds"])
        say(f"after the forward pass / forward pass, {name}, N = {n}, {place}", all_of_it - passes, passes)
        say(f"whole curve / forward pass, {name}, N = {n}, {place}", all_of_it, passes)
        for other in others:
            say(f"straightforward / ours, after the forward pass, {name}, N = {n}, {place}", other - passes, all_of_it - passes)


def sketch(scale: dict, say) -> tuple[dict, dict]:
    """Time and error in Q of sketches beside the exact search; error of the exact one beside float64."""
    n, m = scale["sketched"]
    x, y = features(n, m)
    exact, errors = ours(x, y, K), []
    for size in scale["sketches"]:
        own, whole = seconds(lambda: ours(x, y, K, sketch=size), lambda: ours(x, y, K), rounds=scale["rounds"])
        say(f"sketch of {size} / exact, N = {n}, M = {m}, CPU", own, whole)
        errors.append(max(abs(ours(x, y, K, sketch=size, seed=seed) - exact) for seed in range(scale["rounds"])))
    rounding = []
    for n, m in scale["products"]:
        x, y = features(n, m)
        rounding.append(1e9 * abs(ours(x, y, K) - _direct(x, y)))  # records keep six decimals
    sizes = [f"N = {n}, M = {m}" for n, m in scale["products"]]
    values = {"sketch_error": (["sketch"], errors), "rounding_1e9": (["size"], rounding)}
    return values, {"sketch": scale["sketches"], "size": sizes}


def shared(scale: dict, say) -> None:
    """A grid over N and draws, whose pairs are compared once, beside the same draws one after another."""
    name, sizes = scale["grid"]
    model, pool = modlib.build_model(name), images(2500)

    def grid():
        curve_grid(model, pool, sizes, [K])

    def apart():
        for n in sizes:
            for draw in range(5):
                curve_grid(model, pool, [n], [K], draws=1, seed=draw)

    together, single = seconds(grid, apart, rounds=scale["rounds"])
    say(f"grid at once / draw by draw, {name}, N = {' '.join(map(str, sizes))}, CPU", together, single)


def half(scale: dict, say) -> dict:
    """A curve from features in float16 beside that in float32, where memory is short; the largest error in any Q."""
    name, n, memory = scale["half"]
    model, sample, found = modlib.load_model(name), images(n), {}

    def measure(storage):
        found[storage] = modlib.modularity_curve(model, sample.x, sample.y, K, memory=memory, storage=storage).q

    times = seconds(lambda: measure("float16"), lambda: measure("float32"), rounds=scale["rounds"])
    say(f"features in float16 / float32, whole curve in {memory}, {name}, N = {n}, CPU", *times)
    return {"half_error": ([], float(abs(found["float16"] - found["float32"]).max()))}


def _direct(x: torch.Tensor, y) -> float:
    """Q by the formula, in float64."""
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    similar = (unit @ unit.T).fill_diagonal_(-1)
    weights, index = similar.topk(K)
    return modlib.modularity(modlib.KnnGraph(index.numpy(), weights.clamp(0).numpy()), y)


def growth(scale: dict) -> tuple[dict, dict]:
    """Time and peak memory of whole curves over N, and the time of the bare products of the same features, which are
    measured on 2,000 rows and multiplied up."""
    sizes = [n for n in scale["n"] if images(n) is not None]
    for n in set(scale["n"]) - set(sizes):
        print(f"growth, N = {n}: needs the CIFAR-10 test set, passed over", file=sys.stderr)
    rows = [[_alone(name, n) for n in sizes] for name in scale["growth"]]
    dims = ["network", "n"]
    values = {key: (dims, [[each[key] for each in row] for row in rows]) for key in rows[0][0]}
    return values, {"network": scale["growth"], "n": sizes}


def _alone(name: str, n: int, parts=("curve", "product")) -> dict:
    """One size, each part in a process of its own: the peak of memory is the process's."""
    found = {}
    for part in parts:
        command = [sys.executable, __file__, "--part", part, name, str(n)]
        found |= json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    print(f"{name}, N = {n}: {found}", flush=True)
    return found


def again(path: Path, what: str) -> None:
    """Measure one comparison again, or the curve of one size of the growth, and put it into the record."""
    record = read_result(path)
    sizes = {f"{name} {n}": (i, j) for i, name in enumerate(record.coords["network"]) for j, n in enumerate(record.coords["n"])}
    if what in COMPARISONS:
        rows = []
        COMPARISONS[what](QUICK if record.settings["scale"] == "quick" else FULL, sayer(rows))
        found = {(record.coords["ratio"].index(row),): {"first": a, "second": b} for row, a, b in rows}
    elif what in sizes:
        i, j = sizes[what]
        found = {(i, j): _alone(record.coords["network"][i], record.coords["n"][j], ["curve"])}
    else:
        raise SystemExit(f"{path} has no part {what!r}; it has {', '.join([*COMPARISONS, *sizes])}")
    changed = {}
    for where, values in found.items():
        for key, value in values.items():
            data = changed.setdefault(key, record[key].astype(float))
            data[where] = value
    changed = {key: {**record.values[key], "data": data.round(6).tolist()} for key, data in changed.items()}
    write_result(replace(record, values=record.values | changed), path)


def part(what: str, name: str, n: int) -> dict:
    model, sample = modlib.build_model(name), images(n)
    start = time.perf_counter()
    if what == "curve":
        modlib.modularity_curve(model, sample.x, sample.y, K, memory=MEMORY)
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        return {"seconds": time.perf_counter() - start, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    total = 0.0
    for _, x in modlib.iter_features(model, sample.x, memory=MEMORY, spool=True):
        start = time.perf_counter()
        x[:2000] @ x.T
        total += (time.perf_counter() - start) * max(1, n / 2000)
    return {"product": total}


def sayer(rows: list):
    """What notes a comparison and prints it."""

    def say(what: str, a: float, b: float) -> None:
        rows.append((what, a, b))
        print(f"{a / b:8.3f}   {what}   ({a:.3f} s / {b:.3f} s)", flush=True)

    return say


COMPARISONS = {"layers": layers, "curve": curve, "shared": shared}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: to see that it runs")
    parser.add_argument(
        "--out", default="results/benchmarks.json", help="the record; for the book modlib/assets/results/benchmarks.json"
    )
    parser.add_argument(
        "--again",
        nargs="+",
        metavar="PART",
        help=f"measure one part again, if something disturbed it: {', '.join(COMPARISONS)}, or NETWORK N of the growth",
    )
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(part(given.part[0], given.part[1], int(given.part[2]))))
        return
    if given.again:
        again(Path(given.out), " ".join(given.again))
        return
    scale, rows = QUICK if given.quick else FULL, []
    say = sayer(rows)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, medians of {scale['rounds']}\n   ratio")
    layers(scale, say)
    curve(scale, say)
    errors, error_coords = sketch(scale, say)
    shared(scale, say)
    errors |= half(scale, say)
    grown, growth_coords = growth(scale)
    names, first, second = zip(*rows, strict=True)
    values = {"first": (["ratio"], first), "second": (["ratio"], second), **errors, **grown}
    coords = {"ratio": names, **error_coords, **growth_coords}
    settings = {"scale": "quick" if given.quick else "full", "k": K, "rounds": scale["rounds"], "memory": MEMORY}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    path = write_result(measurement("benchmarks", settings, coords, values, numpy=np.__version__, gpu=gpu), Path(given.out))
    print(path)


if __name__ == "__main__":
    main()
