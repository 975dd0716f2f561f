"""A metric of what a classifier says."""

import numpy as np

from medvq.metrics.metric import Metric


def mean_specificity(columns, classes):
    """Mean over classes of the share of other classes' images that are not predicted as this class."""
    label, predicted = columns["label"], columns["predicted"]
    return np.mean([(predicted[label != k] != k).mean() for k in range(len(classes))])


specificity = Metric(name="specificity", better="max", function=mean_specificity)
