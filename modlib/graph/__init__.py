"""Graphs of feature vectors: of one layer (:mod:`modlib.graph.knn`), of all layers of a network (:mod:`modlib.graph.dynamic`)."""

from modlib.graph.dynamic import DynamicGraph, dynamic_graph, iter_graphs
from modlib.graph.knn import KnnGraph, knn_graph, knn_graphs

__all__ = ["DynamicGraph", "KnnGraph", "dynamic_graph", "iter_graphs", "knn_graph", "knn_graphs"]
