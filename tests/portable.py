"""Run tests as on other kinds of CPU, on this one: ``python tests/portable.py [pytest arguments]``.

The libraries that compute are told to take another kind for this machine's: numba for its compiled
code, and BLAS and torch for their kernels. Each kind runs in a fresh process, and has kernels of
its own, which are kept in the environment's folder between runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

KINDS = {
    "AVX2 without AVX-512": {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",  # those of the name, and not this machine's
        "OPENBLAS_CORETYPE": "Haswell",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
    "generic": {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "OPENBLAS_CORETYPE": "Prescott",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "ATEN_CPU_CAPABILITY": "default",
    },
}


def main() -> int:
    """Run the tests on every kind; the first failure's exit code."""
    for kind, settings in KINDS.items():
        cache = os.path.join(sys.prefix, f"kernels-{settings['NUMBA_CPU_NAME']}")
        print(f"== CPU: {kind}", flush=True)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-n", "2", *sys.argv[1:]],
            env={**os.environ, **settings, "NUMBA_CACHE_DIR": cache, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        print(f"== CPU: {kind}: {time.perf_counter() - start:.0f} s", flush=True)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
