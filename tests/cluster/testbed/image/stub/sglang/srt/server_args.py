"""Where SGLang's own parser stands, so that it can be replaced before launch_server takes it."""

from sglang import arguments


def prepare_server_args(argv):
    """The parsed arguments; a mistake ends the process."""
    return arguments.parse(argv)
