"""As much of sgl-eval 0.1.3 as harness_launcher.py uses, for the tests of who starts it."""

import os
from pathlib import Path

__version__ = os.environ.get("FAKE_SGL_EVAL_VERSION", "0.1.3")
VENDORED_NS_ROOT = Path(__file__).parent
