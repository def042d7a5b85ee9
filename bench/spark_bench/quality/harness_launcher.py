"""Run by the Python of sgl-eval's environment: `python harness_launcher.py`, a request on stdin.

{"describe": TASK} prints what sgl-eval 0.1.3 has of a task, as JSON; {"run": ARGUMENTS, "api_key":
KEY} runs it. So the key is in no process's arguments. Nothing of spark-bench is imported here.
"""

import json
import os
import sys
import threading
import time
from typing import Any


def describe(task: str) -> dict[str, Any]:
    """The harness's version, the task's prompt, and the file with its problems; "": it has none."""
    from sgl_eval import VENDORED_NS_ROOT, __version__
    from sgl_eval.evals._prompts import resolve_prompt
    from sgl_eval.evals._registry import _resolve_upstream_metadata

    _, prompt = _resolve_upstream_metadata(task)
    data = VENDORED_NS_ROOT / "dataset" / task / "test.txt"
    return {
        "version": __version__,
        "prompt": resolve_prompt(prompt).read_text(encoding="utf-8"),
        "data": str(data) if data.is_file() else "",
    }


def end_with(parent: int) -> None:
    """End this process at once when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> int:
    threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
    request = json.load(sys.stdin)
    if "describe" in request:
        json.dump(describe(request["describe"]), sys.stdout)
        return 0
    from sgl_eval.cli import main as run

    return int(run([*request["run"], "--api-key", request["api_key"]]))


if __name__ == "__main__":
    sys.exit(main())
