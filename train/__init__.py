"""The trainer: labelled images in, a calibrated Keras model and the record of its run out.

To change | open
a network, or to add one | `recipe` for its keys, `network` for its layers
the optimiser, the loss or early stopping | `learner`, `fit`
augmentation | `augmentation`
batches, mixup or the balance of the classes | `batches`
a metric, or to add one | `metrics`: one entry
the subgroups of the test images | `subgroups`, `measurement`
a layout of labelled images | `importers`
what a run's folder holds | `run`
the report | `report`, on the page of `html_page`
a classical method to compare with | `classical`
"""

import os

# TensorFlow's C++ start-up notes bury the one line that a user needs; its errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
