"""The trainer: labelled images in, a calibrated Keras model and the record of its run out."""

import os

# TensorFlow's C++ start-up notes bury the one line that a user needs; its errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
