"""Seeing and checking what happens in training."""

from fastnn.insight import landscape
from fastnn.insight.compare import compare_optimizers
from fastnn.insight.curves import Mistakes, confusion_matrix, learning_curves, worst_mistakes
from fastnn.insight.diagnosis import Diagnosis, diagnose
from fastnn.insight.filters import FeatureMaps, Weights, class_weights, feature_maps, filters
from fastnn.insight.gradients import GradientError, gradcheck, gradgradcheck, numeric_gradient
from fastnn.insight.graph import Graph, GraphNode, graph
from fastnn.insight.hessian import Sharpness, sharpness
from fastnn.insight.residuals import Residuals, residuals
from fastnn.insight.signals import LayerSignal, SignalRecorder, SignalReport, signal_report

__all__ = [
    "Diagnosis",
    "FeatureMaps",
    "GradientError",
    "Graph",
    "GraphNode",
    "LayerSignal",
    "Mistakes",
    "Residuals",
    "Sharpness",
    "SignalRecorder",
    "SignalReport",
    "Weights",
    "class_weights",
    "compare_optimizers",
    "confusion_matrix",
    "diagnose",
    "feature_maps",
    "filters",
    "gradcheck",
    "gradgradcheck",
    "graph",
    "landscape",
    "learning_curves",
    "numeric_gradient",
    "residuals",
    "sharpness",
    "signal_report",
    "worst_mistakes",
]
