"""Which settings a deploy would refuse, by the inventory alone."""

from pyinfra.api import State

from cluster.reports.feasible import judge_cases
from control import inventory, run, secrets


def print_feasible(state: State) -> None:
    """Print which of the `cases` the inventory `light` could be deployed with."""
    data = next(iter(state.inventory)).data
    hosts = inventory.all_hosts(inventory.load_inventory(str(data.get("light")), connect=False))
    declared = [inventory.declared_data(host) for host in hosts]
    run.print_document(
        judge_cases(declared, data.get("cases"), lambda file: bool(secrets.find_token(file)))
    )
