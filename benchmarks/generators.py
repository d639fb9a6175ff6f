"""How fast rows are generated: beside imbalanced-learn and scikit-learn doing the same, and in how much memory.

Simulated features. ``python benchmarks/generators.py`` compares at CIFAR-100-LT's size (10,847 × 768 at imbalance ratio
100, topped up to the largest class), each pair in one process and in turns; then times the whole family, and measures the
peak memory of budgets of millions, drawn in parts, at ImageNet-LT's and iNaturalist 2018's sizes. Times are wall-clock
on an otherwise idle machine; quote the ratios. ``together`` fits 15 splits one by one and by ``fit_many``, at two sizes.
``--device cuda`` does that on a GPU, and times the family for those of CIFAR-100-LT.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ltbench
from ltbench.components import resolve
from ltbench.plugins import discover

WIDTH = 768
K = 4  # the rarest classes have five rows, and imbalanced-learn does not clamp
DIM = 32
ENOUGH = 20.0  # seconds, after which nothing is timed again
SEARCHING = ("smote", "borderline-smote", "adasyn")
SIZES = {"10 classes of up to 100 rows, 64 features": (10, 100, 64), "CIFAR-100-LT": (100, 500, WIDTH)}
COMPARED = ("random-over", "smote", "borderline-smote", "adasyn", "gaussian", "kde")
LARGE = {"imagenet-lt": (1000, 115_846, 1280, 5), "inaturalist-2018": (8142, 437_513, 1000, 2)}
"""Classes, rows, the largest class and the smallest of two data sets whose profile is none of the usual ones."""


def main() -> None:
    """Measure what is asked for, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--passes", type=int, default=3)
    parts = ["compare", "together", "family", "large"]
    parser.add_argument("--only", nargs="*", default=parts, choices=parts)
    parser.add_argument("--generators", nargs="*", default=COMPARED, help="which to compare")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_child(*options.child)))
        return
    date, hardware = dt.datetime.now(dt.UTC).date().isoformat(), _hardware(options.device)
    results: dict[str, Any] = {"date": date, "hardware": hardware}
    if options.device == "cpu" and "compare" in options.only:
        results |= {
            "floor": _floor(options.passes),
            "compared": [_compare(name, options.passes) for name in options.generators],
        }
    if "together" in options.only:
        results["together"] = [_together(name, size, options.device, options.passes) for size in SIZES for name in SEARCHING]
    if "family" in options.only:
        results["family"] = _family(options.device, options.passes)
    if options.device == "cpu" and "large" in options.only:
        results["large"] = [_memory(size, name) for size in LARGE for name in ("smote", "gaussian")]
    print(json.dumps(results, indent=1))
    if tuple(options.generators) == COMPARED:  # other parts that the machine measured that day stay
        place = Path(__file__).parent / "results" / f"generators-{hardware['device']}-{date}.json"
        before = json.loads(place.read_text()) if place.exists() else {}
        results = {**before, **results} if before.get("hardware") == hardware else results
        place.write_text(json.dumps(results, indent=1) + "\n")


def simulated(counts: list[int], seed: int = 0, device: str = "cpu", width: int = WIDTH) -> ltbench.Train:
    """Return rows of normal classes whose means lie apart as those of a backbone's features do, in random order."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    means = 0.35 * generator.standard_normal((len(counts), width), dtype=np.float32)
    x = generator.standard_normal((len(labels), width), dtype=np.float32)
    for start in range(0, len(x), 4096):
        x[start : start + 4096] += means[labels[start : start + 4096]]
    count = torch.tensor(counts, dtype=torch.float64, device=device)
    weights = torch.ones(len(x), dtype=torch.float64, device=device)
    targets, stream = torch.from_numpy(labels).to(device), ltbench.Stream.of(seed)
    rows = torch.from_numpy(x).to(device)
    text = torch.from_numpy(means).to(device)
    return ltbench.Train(rows, targets, weights, torch.arange(len(x), device=device), count, count, stream, text=text)


def cifar_counts(ratio: float = 100, classes: int = 100, most: int = 500) -> list[int]:
    """Return CIFAR-100-LT's class counts, or those of another size that fall alike."""
    return [int(most * ratio ** (-i / (classes - 1)) + 1e-9) for i in range(classes)]


def fifteen(size: str, device: str) -> list[ltbench.Train]:
    """Return splits of five seeds at three ratios."""
    classes, most, width = SIZES[size]
    return [simulated(cifar_counts(r, classes, most), seed, device, width) for seed in range(5) for r in (10, 50, 100)]


def long_counts(classes: int, rows: int, most: int, least: int) -> list[int]:
    """Return falling counts with this many rows in all: least + (most − least)·(1 − i/(C − 1))^p, p by bisection."""
    falling = 1 - np.arange(classes) / (classes - 1)
    low, high = 0.1, 100.0
    for _ in range(100):
        middle = (low + high) / 2
        counts = np.floor(least + (most - least) * falling**middle).astype(int)
        low, high = (middle, high) if counts.sum() > rows else (low, middle)
    counts[: rows - counts.sum()] += 1
    counts[0] = most
    return [int(n) for n in counts]


def _floor(passes: int) -> dict[str, float]:
    """Return the seconds that writing the output once takes, and reading a row for each as well."""
    size, rows = sum(500 - n for n in cifar_counts()), torch.randn(10_847, WIDTH)
    which = torch.randint(len(rows), (size,))
    written, copied = ([_seconds(f) for _ in range(passes)] for f in (lambda: torch.ones(size, WIDTH), lambda: rows[which]))
    return {"rows": size, "write_seconds": statistics.median(written), "copy_seconds": statistics.median(copied)}


def _compare(name: str, passes: int) -> dict[str, Any]:
    """Time a generator and its counterpart in turns, on two threads, and ours on one as cells run; peak memory of each."""
    train = simulated(cifar_counts())
    ours, theirs = _ours(name, train), _theirs(name, train)
    ours()
    taken: dict[str, list[float]] = {"ours": [], "theirs": [], "ours_one_thread": []}
    while len(taken["ours"]) < passes and sum(map(sum, taken.values())) < ENOUGH:
        taken["theirs"].append(_seconds(theirs))
        taken["ours"].append(_seconds(ours))
        torch.set_num_threads(1)
        taken["ours_one_thread"].append(_seconds(ours))
        torch.set_num_threads(os.cpu_count() or 1)
    medians = {key: round(statistics.median(values), 3) for key, values in taken.items()}
    memory = {f"{which}_peak_mib": _in_child(name, which)["mib"] for which in ("ours", "theirs")}
    speed = round(medians["theirs"] / medians["ours"], 2)
    print(name, medians, memory, f"{speed}x", file=sys.stderr, flush=True)
    return {"generator": name, "seconds": medians, "times_faster": speed, **memory, "passes": len(taken["ours"])}


def _ours(name: str, train: ltbench.Train) -> Callable[[], ltbench.Rows]:
    """Return what draws up to the largest class by ltbench."""
    generator, budget = _built(name), _to_the_largest(train)
    return lambda: generator.fit(train)(budget)


def _built(name: str) -> Any:
    """Return a generator with the parameters that all comparisons use."""
    params = {"smote": f"[k={K}]", "borderline-smote": f"[k={K}]", "adasyn": f"[k={K}]", "kde": f"[dim={DIM}]"}
    return resolve(discover(), "generator", name + params.get(name, "")).build()


def _to_the_largest(train: ltbench.Train) -> torch.Tensor:
    """Return the budget that brings every class to the size of the largest."""
    counts = train.real_class_counts.long()
    return counts.max() - counts


def _theirs(name: str, train: ltbench.Train) -> Callable[[], Any]:
    """Return what a user of imbalanced-learn or scikit-learn would write."""
    from imblearn import over_sampling as imblearn

    x, y = train.x.numpy(), train.targets.numpy()
    named = {
        "random-over": lambda: imblearn.RandomOverSampler(random_state=0),
        "smote": lambda: imblearn.SMOTE(k_neighbors=K, random_state=0),
        "borderline-smote": lambda: imblearn.BorderlineSMOTE(k_neighbors=K, random_state=0),
        "adasyn": lambda: imblearn.ADASYN(n_neighbors=K, random_state=0),
    }
    if name in named:
        return lambda: named[name]().fit_resample(x, y)
    return {"gaussian": lambda: _sklearn_gaussian(x, y), "kde": lambda: _sklearn_kde(x, y)}[name]


def _sklearn_gaussian(x: Any, y: Any) -> Any:
    """Fit Ledoit and Wolf's covariance to each class, and draw by its Cholesky root."""
    from sklearn.covariance import ledoit_wolf

    generator, made = np.random.default_rng(0), []
    largest = np.bincount(y).max()
    for c in np.unique(y):
        rows = x[y == c]
        if largest > len(rows):
            covariance, _ = ledoit_wolf(rows)
            drawn = generator.multivariate_normal(rows.mean(0), covariance, largest - len(rows), method="cholesky")
            made.append(drawn.astype(np.float32))
    return np.vstack(made)


def _sklearn_kde(x: Any, y: Any) -> Any:
    """Project on principal components, choose each class's of 24 bandwidths in five folds, draw, and project back."""
    from sklearn.decomposition import PCA
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KernelDensity

    pca = PCA(DIM, random_state=0).fit(x)
    z, made, largest = pca.transform(x), [], np.bincount(y).max()
    grid = {"bandwidth": np.geomspace(0.05, 2.0, 24) * z.std()}
    for c in np.unique(y):
        rows = z[y == c]
        if largest > len(rows):
            search = GridSearchCV(KernelDensity(), grid, cv=min(5, len(rows))).fit(rows)
            made.append(pca.inverse_transform(search.best_estimator_.sample(largest - len(rows), random_state=0)))
    return np.vstack(made).astype(np.float32)


def _together(name: str, size: str, device: str, passes: int) -> dict[str, Any]:
    """Time fifteen splits that are fitted one by one, and together, in turns; all rows are drawn."""
    splits, taken = fifteen(size, device), {"one_by_one": [0.0], "together": [0.0]}
    generator, budgets = _built(name), [_to_the_largest(each) for each in splits]
    ways = {
        "one_by_one": lambda: [generator.fit(each)(budget) for each, budget in zip(splits, budgets, strict=True)],
        "together": lambda: [each(budget) for each, budget in zip(generator.fit_many(splits), budgets, strict=True)],
    }
    ways["together"]()
    while len(taken["together"]) <= passes and sum(map(sum, taken.values())) < ENOUGH:
        for way, run in ways.items():
            taken[way].append(_seconds(run))
    medians = {way: round(statistics.median(seconds[1:]), 3) for way, seconds in taken.items()}
    found = {"generator": name, "size": size, "seconds_of_15_splits": medians, "passes": len(taken["together"]) - 1}
    print(found, file=sys.stderr, flush=True)
    return found


def _family(device: str, passes: int) -> list[dict[str, Any]]:
    """Time every generator for one split; on CUDA also for fifteen, five seeds at three ratios."""
    splits = fifteen("CIFAR-100-LT", device)
    found = []
    for name in discover().names("generator"):
        if name in ("none", "random-under", "image-views") or resolve_family(name):  # image-views reads what a backbone made
            continue
        one = _ours(name, splits[2])
        taken = [_seconds(one)]  # the first warms up, and does not count unless it takes long
        while len(taken) <= passes and sum(taken) < ENOUGH / 2:
            taken.append(_seconds(one))
        entry = {"generator": name, "seconds": round(statistics.median(taken[1:] or taken), 3)}
        if device != "cpu":
            entry["seconds_of_15_splits"] = round(_seconds(lambda: [_ours(name, each)() for each in splits]), 3)  # noqa: B023
        print(entry, file=sys.stderr, flush=True)
        found.append(entry)
    return found


def resolve_family(name: str) -> bool:
    """Whether a generator is a family, which has no one member to time."""
    return any(each.component.family for each in discover().index["generator", name])


def _memory(size: str, name: str) -> dict[str, Any]:
    """Return the peak of a process that draws a data set to its largest class in parts, beyond features and imports."""
    found = _in_child(name, size)
    print(found, file=sys.stderr, flush=True)
    return found


def _in_child(name: str, what: str) -> dict[str, Any]:
    """Measure in a process of its own, so that peaks do not add up."""
    done = subprocess.run([sys.executable, __file__, "--child", name, what], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _child(name: str, what: str) -> dict[str, Any]:
    """Run one thing, and return the rise of peak memory over what the features took."""
    if what in LARGE:
        train = simulated(long_counts(*LARGE[what]))
        generator = resolve(discover(), "generator", name).build()
        budget = _to_the_largest(train)
        before, started = _resident(), time.perf_counter()
        rows = sum(len(part.x) for part in generator.fit(train).parts(budget))
        seconds = round(time.perf_counter() - started, 1)
        whole = round(rows * WIDTH * 4 / 2**20)
        return {
            "size": what,
            "generator": name,
            "rows": rows,
            "seconds": seconds,
            "mib": _peak() - before,
            "mib_of_all_rows": whole,
        }
    train = simulated(cifar_counts())
    warnings.simplefilter("ignore")
    run = (_ours if what == "ours" else _theirs)(name, train)
    before = _resident()
    run()
    return {"mib": _peak() - before}


def _resident() -> int:
    """Return this process's resident memory in MiB, and let its peak be counted from here (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    """Return the peak since then in MiB."""
    return _status("VmHWM")


def _status(name: str) -> int:
    """Read a size from what Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) // 1024


def _seconds(run: Callable[[], Any]) -> float:
    """Return the seconds that a call takes, GPU work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _hardware(device: str) -> dict[str, Any]:
    """Name the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())
    return {
        "device": "cpu" if device == "cpu" else "cuda",
        "cpu": model,
        "cores": os.cpu_count(),
        **({"gpu": torch.cuda.get_device_name(device)} if device != "cpu" else {}),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        **{
            name: __import__(module).__version__
            for name, module in (("scikit-learn", "sklearn"), ("imbalanced-learn", "imblearn"))
        },
    }


if __name__ == "__main__":
    main()
