"""Docker's command words for a rank. Lists of words: nothing is run and nothing is quoted here."""

from __future__ import annotations

from cluster import keyed
from cluster.engine.argv import argv
from cluster.node.readings import Rank
from cluster.spec import Spec
from cluster.words import Words, bounded

LABEL = "spark-serving.spec"
CDI_KIND = "nvidia.com/gpu"
# A container that is started again keeps the log of its earlier lives.
_LOGS = """
exec docker logs --since "$(docker inspect --format '{{.State.StartedAt}}' "$1")" --tail "$2" "$1"
""".strip()


def create(spec: Spec, *, cdi: bool = False) -> Words:
    """`docker create …`: the container exists, and nothing runs yet.

    The restart policy stays off until the group is ready (`keep`): a rank that dies while the
    others wait for it must not come back behind our back.

    + cdi: GPUs come as CDI devices, for a Docker that knows no other way
    """
    return bounded(
        120,
        *("docker", "create", "--name", spec.name, "--label", f"{LABEL}={spec.dump()}"),
        *("--network", "host", "--ipc", spec.ipc),
        *(("--shm-size", spec.shm_size) if spec.shm_size else ()),
        *_gpus(spec.gpus, cdi),
        *("--ulimit", "memlock=-1", "--ulimit", "stack=67108864"),
        *(word for device in spec.devices for word in ("--device", device)),
        *(word for volume in spec.volumes for word in ("--volume", volume)),
        *(word for name, value in sorted(spec.env.items()) for word in ("-e", f"{name}={value}")),
        spec.image,
        *keyed.words(argv(spec.launch, spec.sglang), spec.volumes),
    )


def _gpus(gpus: str, cdi: bool) -> Words:
    """The GPUs in Docker's words, () for none.

    Without the NVIDIA runtime's hook Docker 28 refuses `--gpus` even where it has CDI devices;
    these are called by index, UUID or "all", as `nvidia-ctk cdi generate` names them.
    """
    if not gpus:
        return ()
    if "/" in gpus:
        names = gpus.split(",")
    elif not cdi:
        # It is read as CSV: several devices are one field only in quotes of their own.
        return ("--gpus", f'"{gpus}"' if "," in gpus else gpus)
    elif gpus.isdecimal():
        names = [f"{CDI_KIND}={index}" for index in range(int(gpus))]
    else:
        names = [f"{CDI_KIND}={name}" for name in gpus.removeprefix("device=").split(",")]
    return tuple(word for name in names for word in ("--device", name))


def start(spec: Spec) -> Words:
    return bounded(60, "docker", "start", spec.name)


def keep(name: str, policy: str) -> Words:
    """Set the restart policy of a living container."""
    return bounded(30, "docker", "update", "--restart", policy, name)


def release(name: str) -> Words:
    """Take the restart policy away, so that a wanted end stays an end."""
    return keep(name, "no")


def stop(rank: Rank, seconds: int) -> Words:
    """SIGTERM, and SIGKILL after `seconds`."""
    return bounded(seconds + 30, "docker", "stop", "-t", str(seconds), rank.called)


def rename(name: str, new: str) -> Words:
    return bounded(30, "docker", "rename", name, new)


def remove(name: str) -> Words:
    return bounded(60, "docker", "rm", "--force", name)


def pull(image: str, seconds: int) -> Words:
    return bounded(seconds, "docker", "pull", "--quiet", image)


def logs(name: str, lines: int, *, earlier: bool = False) -> Words:
    """The last lines since the container's last start; `earlier`: whichever start they are of."""
    if earlier:
        return bounded(20, "docker", "logs", "--tail", str(lines), name)
    return bounded(20, "sh", "-c", _LOGS, "sh", name, str(lines))
