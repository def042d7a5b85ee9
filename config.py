"""pyinfra's own settings; it reads this file before the inventory."""

import click
from pyinfra import config, logger
from pyinfra.api.output import set_echo

from cluster.printable import colored, printable_record
from control.run import check_command_line
from transport import read_any_bytes

config.REQUIRE_PYINFRA_VERSION = "~=3.10"
# A group is the unit: the first failed node ends the run for all.
config.FAIL_PERCENT = 0
read_any_bytes()

# Every line, ours and pyinfra's own, may quote a node, a server or a log.
logger.addFilter(printable_record)
# With -v, pyinfra prints nodes' answers directly, not through its logger.
set_echo(lambda text="", **how: click.echo(colored(str(text)), **how))
check_command_line()
