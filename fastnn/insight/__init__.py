"""Seeing and checking what happens in training."""

from fastnn.insight.gradients import GradientError, gradcheck, numeric_gradient
from fastnn.insight.graph import Graph, GraphNode, graph

__all__ = ["GradientError", "Graph", "GraphNode", "gradcheck", "graph", "numeric_gradient"]
