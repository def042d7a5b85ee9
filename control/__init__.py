"""What joins facts, decisions and operations: a library for each entry in `deploys/`."""

import sys

# pyinfra forbids it, for deploy files; our packages would be compiled anew in each run.
sys.dont_write_bytecode = False
