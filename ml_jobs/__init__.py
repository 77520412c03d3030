"""Training and scoring jobs; each runs on one thread so that the same input gives the same bytes everywhere.

The variables must be set before NumPy loads its BLAS, hence here, in the first module of every entry point.
Parallelism comes from one job per segment, not from threads that fight for the same two cores.
"""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
