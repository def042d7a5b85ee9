"""Docker's commands for a rank: nothing is run here, and nothing is quoted."""

from cluster.command import Argv, Command
from cluster.engine.argv import argv
from cluster.node.readings import Rank
from cluster.rank import api_key, compile_caches
from cluster.rank.spec import Spec

LABEL = "spark-serving.spec"
CDI_KIND = "nvidia.com/gpu"
# A container that is started again keeps the log of its earlier lives.
_LOGS = """
exec docker logs --since "$(docker inspect --format '{{.State.StartedAt}}' "$1")" --tail "$2" "$1"
""".strip()


def create(spec: Spec, *, cdi: bool = False, image_id: str = "") -> Command:
    """Create the container (`docker create …`); nothing runs yet.

    The restart policy stays off until the group is ready (`keep`): a rank that dies while the
    others wait for it must stay down, where the wait for readiness sees it.

    + cdi: GPUs come as CDI devices, for a Docker that knows no other way
    + image_id: the image's on this node, for the folder of what the rank compiles
    """
    command = (
        *("docker", "create", "--name", spec.name, "--label", f"{LABEL}={spec.dump()}"),
        *("--network", "host", "--ipc", spec.ipc),
        *(("--shm-size", spec.shm_size) if spec.shm_size else ()),
        *_gpus(spec.gpus, cdi),
        *("--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
        *(word for device in spec.devices for word in ("--device", device)),
        *(word for volume in spec.volumes for word in ("--volume", volume)),
        *(word for name, value in sorted(spec.env.items()) for word in ("-e", f"{name}={value}")),
        *compile_caches.create_argv(spec, image_id),
        spec.image,
        *api_key.launch_argv(argv(spec.launch, spec.sglang), spec.volumes),
    )
    return Command(command, 120)


def _gpus(gpus: str, cdi: bool) -> Argv:
    """Docker's options for these GPUs, () for none.

    Without the NVIDIA runtime's hook Docker 28 refuses `--gpus` even where it has CDI devices;
    these are called by index, UUID or "all", as `nvidia-ctk cdi generate` names them.
    """
    if not gpus:
        return ()
    if "/" in gpus:
        names = gpus.split(",")
    elif not cdi:
        # Docker reads it as CSV: several devices need quotes of their own to be one field.
        return ("--gpus", f'"{gpus}"' if "," in gpus else gpus)
    elif gpus.isdecimal():
        names = [f"{CDI_KIND}={index}" for index in range(int(gpus))]
    else:
        names = [f"{CDI_KIND}={name}" for name in gpus.removeprefix("device=").split(",")]
    return tuple(word for name in names for word in ("--device", name))


def start(spec: Spec) -> Command:
    return Command(("docker", "start", spec.name), 60)


def keep(name: str, policy: str) -> Command:
    """Set the restart policy of a container that exists."""
    return Command(("docker", "update", "--restart", policy, name), 30)


def release(name: str) -> Command:
    """Turn the restart policy off, so that a rank stays down once it is stopped."""
    return keep(name, "no")


def stop(rank: Rank, seconds: int) -> Command:
    """SIGTERM, and SIGKILL after `seconds`."""
    return Command(("docker", "stop", "-t", str(seconds), rank.called), seconds + 30)


def rename(name: str, new: str) -> Command:
    return Command(("docker", "rename", name, new), 30)


def remove(name: str) -> Command:
    return Command(("docker", "rm", "--force", name), 60)


def pull(image: str, seconds: int) -> Command:
    return Command(("docker", "pull", "--quiet", image), seconds)


def logs(name: str, lines: int, *, earlier: bool = False) -> Command:
    """The last lines since the container's last start; `earlier`: whichever start they are of."""
    if earlier:
        return Command(("docker", "logs", "--tail", str(lines), name), 20)
    return Command(("sh", "-c", _LOGS, "sh", name, str(lines)), 20)
