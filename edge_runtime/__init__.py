"""The runtime: frames and a bundle in, decisions out; what a device needs and nothing more."""

import logging
import os

# OpenBLAS reads this when NumPy is first imported. The only matrix here is a model's scope, a few
# hundred numbers a side: threads for it would spin on the other cores from one frame to the next.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Log records go nowhere unless the application configures `logging`.
logging.getLogger(__name__).addHandler(logging.NullHandler())
