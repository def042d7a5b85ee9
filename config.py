"""pyinfra's own settings; it reads this file before the inventory."""

from pyinfra import config

from transport import read_any_bytes

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
# A group is the unit: the first failed node ends the run for all.
config.FAIL_PERCENT = 0
read_any_bytes()
