"""What a rank compiles, kept on its node: kernels that the next container need not compile again.

Below `cache_dir` each rank has a folder of its own for each image, since a new image compiles
anew, and ranks that share a folder race in it:

compile/IMAGE/GROUP-RANK/kernels       mounted into the container
compile/IMAGE/GROUP-RANK/served/KEY    a model (and variant) that has served with these kernels
images/ID                              an image that a deploy has brought, and its names
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from cluster.command import Argv, Command, load_script
from cluster.printable import short_image_id
from cluster.rank.spec import Spec

MOUNTED = "/var/cache/spark-serving"
# Variable → its value's end below MOUNTED, and where the image keeps that by default ("" where no
# source says). From launch scripts of owners of Sparks, and NVIDIA's CUDA C++ Programming Guide for
# CUDA_CACHE_PATH. FlashInfer's names the parent of .cache/flashinfer. SGLANG_CACHE_DIR is left out:
# below it lies Flash-Next's table of 48 GB, which must not be there at a start.
VARIABLES = {
    "CUDA_CACHE_PATH": ("/cuda", "/root/.nv/ComputeCache"),
    "CUTE_DSL_CACHE_DIR": ("/cute-dsl", ""),
    "FLASHINFER_WORKSPACE_BASE": ("", "/root/.cache/flashinfer"),
    "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR": ("/flash-attention", ""),
    "TORCHINDUCTOR_CACHE_DIR": ("/inductor", ""),
    "TRITON_CACHE_DIR": ("/triton", "/root/.triton/cache"),
    "TVM_FFI_CACHE_DIR": ("/tvm-ffi", "/root/.cache/tvm-ffi"),
}
_IMAGE = re.compile(r"sha256:[0-9a-f]{64}")
_SERVED = re.compile(r"[0-9a-f]{12}/[a-zA-Z0-9][a-zA-Z0-9_.-]*-[0-9]+/served/[0-9a-f]{16}")
_CREATE = load_script(__file__, "create_cache.sh")


def folder(root: str, image_id: str, group: str, rank: int) -> str:
    """A rank's own folder; "" where nothing is kept, or the image's id is none.

    + root: the node's `cache_dir`; "" keeps nothing
    """
    if not root or not _IMAGE.fullmatch(image_id):
        return ""
    return f"{root}/compile/{short_image_id(image_id)}/{group}-{rank}"


def create_argv(spec: Spec, image_id: str) -> Argv:
    """Docker's options that mount a rank's kernels, and lead the compilers there.

    What the spec sets itself stays: a variable, and a volume at or above a default place.
    """
    at = folder(spec.compile_caches, image_id, spec.group, spec.rank)
    if not at:
        return ()
    targets = [volume.split(":")[1] for volume in spec.volumes]
    variables = {
        name: f"{MOUNTED}{end}"
        for name, (end, usual) in VARIABLES.items()
        if name not in spec.env
        and not any(usual and PurePosixPath(usual).is_relative_to(target) for target in targets)
    }
    return (
        *("--volume", f"{at}/kernels:{MOUNTED}"),
        *(word for name, value in variables.items() for word in ("-e", f"{name}={value}")),
    )


def create_folder(spec: Spec, image_id: str) -> Command | None:
    """Create the rank's folder as the login: Docker would create it, as root. None: it has none."""
    at = folder(spec.compile_caches, image_id, spec.group, spec.rank)
    return Command(("sh", "-c", _CREATE, "sh", at), 30) if at else None


def served_mark(spec: Spec, image_id: str) -> str:
    """The file, below `compile`, that is there once the spec's model has served with this image;
    "" where nothing is kept."""
    at = folder(spec.compile_caches, image_id, spec.group, spec.rank)
    key = hashlib.sha256(f"{spec.model}\n{spec.variant}".encode()).hexdigest()[:16]
    return f"{at.removeprefix(f'{spec.compile_caches}/compile/')}/served/{key}" if at else ""


def note_served(spec: Spec, image_id: str) -> Command | None:
    """Note that the model has served: its next start compiles little. None: nothing is kept."""
    mark = served_mark(spec, image_id)
    return Command(("touch", f"{spec.compile_caches}/compile/{mark}"), 30) if mark else None


def parse_marks(lines: Iterable[str]) -> tuple[str, ...]:
    """Those lines that can be such files, as a node lists them."""
    return tuple(sorted({line for line in lines if _SERVED.fullmatch(line)}))
