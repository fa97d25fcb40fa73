"""scikit-learn's estimators, trained by fastnn: for pipelines, searches over parameters, cross-validation.

    from fastnn.sklearn import CNNClassifier, MLPClassifier, MLPRegressor

`import fastnn` does not load them. The arguments are scikit-learn's own; docs/howto/sklearn.md says where one means
something else.
"""

from fastnn.errors import needs

with needs("scikit-learn", "sklearn"):
    import sklearn as _sklearn  # noqa: F401

from .cnn import CNNClassifier
from .mlp import MLPClassifier, MLPRegressor

__all__ = ["CNNClassifier", "MLPClassifier", "MLPRegressor"]
