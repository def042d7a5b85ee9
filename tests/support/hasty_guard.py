"""pyinfra's CLI, with a guard of the network that acts after $GUARD seconds."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.getcwd())

from pyinfra_cli.main import main

from operations import network

network.GUARD_SECONDS = int(os.environ["GUARD"])
sys.exit(main())
