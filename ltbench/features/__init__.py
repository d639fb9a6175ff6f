"""Features: images through a frozen backbone, once per dataset and backbone, cached by content.

Importing this package imports no torch, so that the cache can be listed, checked and shared without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltbench.features.extraction import Extraction, Features, extract, feature_key, key_parts
    from ltbench.features.manifest import Origin
    from ltbench.features.store import FeatureStore

_HOMES = {
    "Extraction": "extraction",
    "FeatureStore": "store",
    "Features": "extraction",
    "Origin": "manifest",
    "extract": "extraction",
    "feature_key": "extraction",
    "key_parts": "extraction",
}

__all__ = ["Extraction", "FeatureStore", "Features", "Origin", "extract", "feature_key", "key_parts"]


def __getattr__(name: str) -> Any:
    """Load a name that needs torch, on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ltbench.features' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"ltbench.features.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
