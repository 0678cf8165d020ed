# SHIM: remove after the sweep
"""Old name of `align.kmeans`."""

from .kmeans import Clusters, kmeans, kmeans_runs

__all__ = ["Clusters", "kmeans", "kmeans_runs"]
