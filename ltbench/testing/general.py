"""Checks that every kind of component has to pass."""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib.metadata
import os
import pickle
import random
import subprocess
import sys
from typing import Any

import numpy as np
import torch

from ltbench.components import Resolved
from ltbench.errors import SkipCell
from ltbench.hookspecs import ENTRY_POINT_GROUP
from ltbench.testing.exercise import CheckFailed, difference, exercise, exercise_instance, load_dataset, must
from ltbench.testing.problem import long_tailed

HEAVY = ("torch", "numpy", "pandas", "pydantic", "scipy", "sklearn")
"""What ``ltbench list`` must not have to import for a plugin."""


PLACEHOLDER = "put a DOI, an arXiv number or BibTeX here"
"""What 'ltbench new' writes for a reference."""


def check_parameters_stored(resolved: Resolved) -> None:
    """Require that the instance's fields are the parameters given, before it is used and afterwards."""
    given = copy.deepcopy(dict(resolved.params))
    instance = resolved.build()
    _require_stored(instance, given, "when built with")
    exercise_instance(resolved.kind, instance, long_tailed())
    _require_stored(instance, given, "after use, built with")


def check_deterministic(resolved: Resolved) -> None:
    """Require the same bits for the same rows and stream: from an instance built anew, and from one that worked before."""
    problem, used = long_tailed(), resolved.build()
    exercise_instance(resolved.kind, used, long_tailed(seed=1))
    first = exercise(resolved, problem)
    for instance, how in ((resolved.build(), "built anew"), (used, "used before on other rows"), (used, "used again")):
        found = difference(first, exercise_instance(resolved.kind, instance, problem))
        if found:
            raise CheckFailed(
                f"must give the same bits for the same input and stream; {how}, {found}. Draw from train.stream alone, "
                "and keep nothing between fits"
            )


def check_random_state_untouched(resolved: Resolved) -> None:
    """Require that the global generators of Python, NumPy and torch are where they were."""
    before = _random_states()
    try:
        _seed_all()
        unusual = _random_states()
        exercise(resolved, long_tailed())
        moved = [name for name, state in _random_states().items() if state != unusual[name]]
    finally:
        _restore(before)
    if moved:
        raise CheckFailed(f"must leave the global random state alone, but moved that of {', '.join(moved)}")


def check_pickles(resolved: Resolved) -> None:
    """Require what a worker process needs: the component by pickle, its class by reference; a dataset as it was loaded."""
    with must("survive pickling to a worker process"):
        copied = pickle.loads(pickle.dumps(resolved))  # noqa: S301 - our own bytes
        same = _fields(copied.build()) == _fields(resolved.build())
    if not same:
        raise CheckFailed(f"must be built alike in a worker process: {copied.build()!r} is not {resolved.build()!r}")
    if resolved.kind == "dataset":
        dataset = load_dataset(resolved.build())
        with must("give a Dataset that survives pickling to a worker process"):
            pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes


def check_lazy_import(resolved: Resolved) -> None:
    """Require that the modules which the entry points name import nothing that takes long to load."""
    found = _imports(_entry_modules(resolved.registered.distribution), tuple(sys.path))
    if found:
        raise CheckFailed(f"the module of the hooks must import light: {found}; move the class to a module of its own")


def check_reference(resolved: Resolved) -> None:
    """Require that the component says where its method, model or data come from."""
    if PLACEHOLDER in resolved.registered.component.reference:
        raise SkipCell(f"the reference is still the template's {PLACEHOLDER!r}")
    if not resolved.registered.component.reference.strip():
        raise CheckFailed(
            "Component reference must not be empty: give a DOI, an arXiv number or BibTeX, or what there is to say "
            "instead (reference='folklore: real rows again')"
        )


def _require_stored(instance: Any, given: dict[str, Any], when: str) -> None:
    """Compare an instance's fields with its parameters."""
    for name, value in given.items():
        stored = getattr(instance, name)
        if not (stored is value or (type(stored) is type(value) and stored == value)):
            raise CheckFailed(f"parameters must be stored unchanged: {name} is {stored!r} {when} {name}={value!r}")


def _fields(instance: Any) -> dict[str, Any]:
    """Return the values of an instance's fields."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _random_states() -> dict[str, Any]:
    """Return the global random states, in forms that compare."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {"random": random.getstate(), "numpy": (kind, tuple(keys), *rest), "torch": bytes(torch.get_rng_state().numpy())}


def _seed_all() -> None:
    """Put the global generators where no component would by chance."""
    random.seed(982_451_653)
    np.random.seed(982_451_653)
    torch.manual_seed(982_451_653)


def _restore(states: dict[str, Any]) -> None:
    """Set the global random states, so that a check leaves no trace either."""
    random.setstate(states["random"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(torch.frombuffer(bytearray(states["torch"]), dtype=torch.uint8))


def _entry_modules(distribution: str) -> tuple[str, ...]:
    """Return the modules a distribution's entry points name; none where it is not installed."""
    try:
        found = importlib.metadata.distribution(distribution).entry_points
    except importlib.metadata.PackageNotFoundError:
        return ()
    return tuple(sorted({entry.module for entry in found if entry.group == ENTRY_POINT_GROUP}))


# Imports modules in a fresh interpreter; stops at the first heavy one, and prints it and the line that asks for it.
_PROBE = """
import importlib, os, sys, traceback
heavy = sys.argv[1].split(",")
class Stop:
    def find_spec(self, name, path=None, target=None):
        if name in heavy:
            asking = [f for f in traceback.extract_stack() if not f.filename.startswith("<")][-1]
            print(f"{asking.filename}:{asking.lineno} imports {name}", flush=True)
            os._exit(0)
sys.meta_path.insert(0, Stop())
for module in sys.argv[2:]:
    importlib.import_module(module)
"""


@functools.cache
def _imports(modules: tuple[str, ...], path: tuple[str, ...]) -> str:
    """Say which heavy library the modules import, and where; empty if none. One process for each set of modules."""
    if not modules:
        return ""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-c", _PROBE, ",".join(HEAVY), *modules]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)  # noqa: S603 - our own interpreter
    if done.returncode:
        return f"in a fresh interpreter it raises {(done.stderr.strip().splitlines() or ['nothing'])[-1]}"
    return done.stdout.strip()
