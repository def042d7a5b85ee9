"""`sgl-eval run` with the options and the files of 0.1.3: one request after the other."""

import argparse
import json
import re
import signal
import sys
import time
import urllib.request
from pathlib import Path


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("cmd", choices=["run"])
    parser.add_argument("name")
    for flag in ("base-url", "model", "api-key", "max-tokens", "temperature", "top-p"):
        parser.add_argument(f"--{flag}", required=True)
    for flag in ("n-repeats", "num-threads", "from-dataset", "out-dir"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--thinking", action=argparse.BooleanOptionalAction)
    parser.add_argument("--chat-template-kwarg", action="append", default=[])
    args = parser.parse_args(argv)
    assert args.api_key not in sys.argv
    folder = Path(args.out_dir) / f"sgl_eval_{args.name}_20261127-000000"
    folder.mkdir()
    # As 0.1.3 does, the first Ctrl-C ends the requests in flight.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with (folder / "output-rs0.jsonl").open("w") as file:
            for line in Path(args.from_dataset).read_text().splitlines():
                answer(args, json.loads(line), file)
    except KeyboardInterrupt:
        return 130
    return 0


def answer(args: argparse.Namespace, row: dict, file) -> None:
    kwargs = {}
    for word in args.chat_template_kwarg:
        name, _, value = word.partition("=")
        kwargs[name] = json.loads(value)
    if args.thinking is not None:
        kwargs["thinking"] = args.thinking
    body = {
        "model": args.model,
        "messages": [{"role": "user", "content": f"Solve this.\n\n{row['problem']}"}],
        "max_tokens": int(args.max_tokens),
        "temperature": float(args.temperature),
        **({"chat_template_kwargs": kwargs} if kwargs else {}),
    }
    request = urllib.request.Request(
        f"{args.base_url}/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": f"Bearer {args.api_key}"},
    )
    began = time.time()
    text, reason = "", "error"
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            choice = json.load(response)["choices"][0]
            text, reason = choice["message"]["content"], choice["finish_reason"]
    except OSError:
        pass
    boxed = re.findall(r"\\boxed\{(.*?)\}", text)
    read = boxed[-1] if boxed else None
    record = {
        "generation": text,
        "reasoning_content": None,
        "id": row["id"],
        "expected_answer": str(row["expected_answer"]),
        "num_generated_tokens": 5,
        "num_reasoning_tokens": 0,
        "num_answer_tokens": 5,
        "finish_reason": reason,
        "problem": row["problem"],
        "generation_start_time": began,
        "generation_end_time": time.time(),
        "predicted_answer": read,
        "symbolic_correct": read == str(row["expected_answer"]),
    }
    file.write(json.dumps(record) + "\n")
    file.flush()
