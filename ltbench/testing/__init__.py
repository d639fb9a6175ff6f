"""The conformance kit: what every component must keep to, as checks for plugin authors' tests and ``ltbench check``."""

from ltbench.testing.catalogue import Check, Finding, checks_for, name_of, run_checks
from ltbench.testing.exercise import CheckFailed
from ltbench.testing.lookup import find
from ltbench.testing.parametrize import parametrize_with_checks

__all__ = ["Check", "CheckFailed", "Finding", "checks_for", "find", "name_of", "parametrize_with_checks", "run_checks"]
