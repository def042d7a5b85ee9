"""Set up the nodes' systems, each part only if its setting says so.

pyinfra -y inventories/spark.py deploys/host.py

linger=true: what the login runs survives its SSH session. earlyoom=true: a process is ended before
memory runs out. Needs a login that can become root without a password.
"""

from pyinfra import host
from pyinfra.operations import apt, files, systemd

from cluster.node.host import EARLYOOM
from control.host import host_run
from operations import machine

run = host_run(host)
setup = run.setup(host)

if run.settings.linger:
    machine.lingering(
        name=f"{setup.login} lingers", login=setup.login, needed=run.needs_linger(host)
    )

if run.settings.earlyoom:
    if setup.apt:
        apt.packages(name="earlyoom", packages=["earlyoom"], update=not setup.earlyoom, _sudo=True)
    arguments = files.template(
        name=EARLYOOM,
        src="templates/earlyoom.j2",
        dest=EARLYOOM,
        user="root",
        group="root",
        mode="644",
        create_remote_dir=False,
        _sudo=True,
    )
    systemd.service(name="earlyoom runs", service="earlyoom", enabled=True, _sudo=True)
    systemd.service(
        name="earlyoom with these arguments",
        service="earlyoom",
        restarted=True,
        _if=arguments.did_change,
        _sudo=True,
    )
