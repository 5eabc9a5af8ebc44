import devices  # noqa: F401  before OpenCV, which it silences
