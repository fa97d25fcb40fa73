"""Seeing and checking what happens in training."""

from fastnn.insight.gradients import GradientError, gradcheck, numeric_gradient
from fastnn.insight.graph import Graph, GraphNode, graph
from fastnn.insight.signals import LayerSignal, SignalRecorder, SignalReport, signal_report

__all__ = [
    "GradientError",
    "Graph",
    "GraphNode",
    "LayerSignal",
    "SignalRecorder",
    "SignalReport",
    "gradcheck",
    "graph",
    "numeric_gradient",
    "signal_report",
]
