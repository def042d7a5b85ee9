"""Run by the Python of sgl-eval's environment: `python harness_launcher.py`, a request on stdin.

{"describe": TASK, "published": FILE, "folder": FOLDER} prints what sgl-eval 0.1.3 has of a task, as
JSON; if a published file is named, its problems are made of that. {"run": ARGUMENTS, "api_key":
KEY} runs it. So the key is in no process's arguments. Nothing of spark-bench is imported here.
"""

import argparse
import contextlib
import hashlib
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


def describe_benchmark(task: str, published: str, folder: str) -> dict[str, Any]:
    """The harness's version, the task's prompt, and the file with its problems; "": it has none."""
    from sgl_eval import VENDORED_NS_ROOT, __version__
    from sgl_eval.evals._prompts import resolve_prompt
    from sgl_eval.evals._registry import _resolve_upstream_metadata

    _, prompt = _resolve_upstream_metadata(task)
    data, error = VENDORED_NS_ROOT / "dataset" / task / "test.txt", ""
    if published:
        try:
            # The scripts print on stdout.
            with contextlib.redirect_stdout(sys.stderr):
                data = prepare_problems(task, Path(published).absolute(), Path(folder))
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"[:400]
    return {
        "version": __version__,
        "prompt": resolve_prompt(prompt).read_text(encoding="utf-8"),
        "data": str(data) if data.is_file() else "",
        "error": error,
    }


def prepare_problems(task: str, published: Path, folder: Path) -> Path:
    """Make a task's problems of its published file by the script that sgl-eval has for it.

    The script fetches the file; here it is handed over instead. Returns the file of problems.
    """
    script: Any = importlib.import_module(f"sgl_eval._vendored.nemo_skills.dataset.{task}.prepare")
    script.__file__ = str(folder / "prepare.py")  # it writes beside itself
    if task == "mmlu":
        from sgl_eval.evals._registry import _MMLU_ARCHIVE_SHA256 as expected

        with published.open("rb") as file:
            digest = hashlib.sha256()
            while piece := file.read(1024 * 1024):
                digest.update(piece)
        if digest.hexdigest() != expected:
            raise ValueError(f"its SHA-256 is {digest.hexdigest()}, sgl-eval's is {expected}")
        script.URL = published.as_uri()
        script.save_data("test")
        return folder / "test.jsonl"
    rows = read_published_rows(published)
    if task == "gpqa":
        script.load_dataset = lambda *_: {"train": rows}
        script.save_data("diamond", random_seed=42)  # as its registry has it
        return folder / "diamond.jsonl"
    script.load_dataset = lambda *_: {"test": rows}
    script.main(argparse.Namespace(split="test"))
    return folder / "test.jsonl"


def read_published_rows(published: Path) -> list[dict[str, Any]]:
    """The rows of a CSV or Parquet file; what is missing in it is None."""
    import pandas

    if published.suffix == ".csv":
        frame = pandas.read_csv(published, dtype=str)
    else:
        frame = pandas.read_parquet(published)
    whole = frame.astype(object).where(frame.notna(), None)
    return [
        {
            str(key): value.tolist() if hasattr(value, "tolist") else value
            for key, value in row.items()
        }
        for row in whole.to_dict("records")
    ]


def end_with(parent: int) -> None:
    """End this process at once when the one that started it is gone."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def launch() -> int:
    threading.Thread(target=end_with, args=[os.getppid()], daemon=True).start()
    request = json.load(sys.stdin)
    if "describe" in request:
        words = request["describe"], request["published"], request["folder"]
        json.dump(describe_benchmark(*words), sys.stdout)
        return 0
    from sgl_eval.cli import main as run

    return int(run([*request["run"], "--api-key", request["api_key"]]))


if __name__ == "__main__":
    sys.exit(launch())
