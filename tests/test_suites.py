"""Tests of suites: versions that stay, and protocols that cannot change under a name."""

from __future__ import annotations

import pytest

from ltbench.components import resolve
from ltbench.config import experiment, split_budget
from ltbench.errors import UsageError
from ltbench.hookspecs import KINDS
from ltbench.plugins import discover
from ltbench.suites import load_suite, suite_names

PROTOCOLS = {
    "cifar10-lt@1": "e84e707d",
    "cifar100-lt@1": "40912097",
    "glyphs100-lt@1": "13fec928",
    "imagenet-lt@1": "3ef08cea",
    "inat2018@1": "5aecbac6",
    "latent-linear@1": "89eb54d7",
    "places-lt@1": "6f68ab69",
    "quickstart@1": "167801c2",
    "quickstart@2": "06c44b95",
}
"""The protocol hash of every version of every suite ever released: a changed suite is a new version."""


def present(name: str) -> str:
    """Return a suite's name with its present version."""
    return f"{name}@{load_suite(name)['version']}"


def test_every_suite_in_its_present_version_is_listed_here() -> None:
    """A suite without its hash here could change unnoticed."""
    assert {present(name) for name in suite_names()} <= set(PROTOCOLS)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_version_of_a_suite_never_changes(name: str) -> None:
    """What makes its numbers comparable is what it was when its hash was written down."""
    found = experiment(load_suite(name))
    assert f"{found.name}@{found.version}" == name
    assert found.protocol_hash() == PROTOCOLS[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_component_of_a_suite_is_there(name: str) -> None:
    """Names and parameters are right, without data or weights being there."""
    wanted, registry = experiment(load_suite(name)), discover()
    for kind in KINDS:
        for spec in wanted.specs(kind):
            own = split_budget(spec)[0] if kind == "generator" else spec
            assert resolve(registry, kind, own).kind == kind


def test_a_name_alone_is_the_present_version() -> None:
    """``quickstart`` is ``quickstart@N`` for the N in its file."""
    for name in suite_names():
        assert load_suite(name) == load_suite(present(name))


def test_an_unknown_version_is_refused_with_those_there_are() -> None:
    """The present version is named, too."""
    with pytest.raises(UsageError, match=r"suite 'quickstart' has no version '99'; it has .*1"):
        load_suite("quickstart@99")
