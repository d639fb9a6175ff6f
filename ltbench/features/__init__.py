"""Features: images through a frozen backbone, once per dataset and backbone, cached by content."""

from ltbench.features.extract import Features, extract, feature_key
from ltbench.features.store import FeatureStore

__all__ = ["FeatureStore", "Features", "extract", "feature_key"]
