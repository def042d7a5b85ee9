"""A real headless Chromium, driven over its DevTools pipe: no driver, no port."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import Any

# A machine under load takes its time; a hung browser must not hang the tests.
PATIENCE = 60.0

FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--remote-debugging-pipe",
)


class Chromium:
    """One page of a browser.

    events: what it told since it was started, (method, params)
    """

    def __init__(self, to: int, from_: int) -> None:
        self._to, self._from = to, from_
        self._number, self._session = 0, ""
        self._answers: Queue[dict[str, Any]] = Queue()
        self.events: list[tuple[str, dict[str, Any]]] = []
        threading.Thread(target=self._listen, daemon=True).start()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A DevTools command's result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._answer(method)
            if answer["id"] == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, path: Path) -> None:
        """Load a file, to its end."""
        before = len(self.events)
        self.call("Page.navigate", url=path.as_uri())
        for _ in range(int(PATIENCE * 50)):
            if any(name == "Page.loadEventFired" for name, _ in self.events[before:]):
                return
            threading.Event().wait(0.02)
        raise AssertionError(f"{path} was not loaded in {PATIENCE} s")

    def screen(self, width: int, height: int, *, dark: bool = False, media: str = "") -> None:
        """A screen of this size in CSS pixels; media "print" is as it would be printed."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def screenshot(self, whole: bool = True) -> bytes:
        """PNG of the whole page."""
        reply = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        return base64.b64decode(reply["data"])

    def pdf(self) -> bytes:
        """As printed on A4."""
        reply = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(reply["data"])

    def press(self, key: str) -> None:
        """A key, by its name ("Tab", "Enter")."""
        codes = {"Tab": 9, "Enter": 13}
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def complaints(self) -> list[str]:
        """What went to the console: errors, warnings, refused loads."""
        names = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [json.dumps(params) for name, params in self.events if name in names]

    def loaded(self) -> list[str]:
        """Every address that was asked for."""
        return [
            params["request"]["url"]
            for name, params in self.events
            if name == "Network.requestWillBeSent"
        ]

    def _answer(self, method: str) -> dict[str, Any]:
        try:
            return self._answers.get(timeout=PATIENCE)
        except Empty:
            raise AssertionError(f"Chromium gave no answer to {method}") from None

    def _listen(self) -> None:
        rest = b""
        while data := os.read(self._from, 1 << 20):
            *whole, rest = (rest + data).split(b"\0")
            for message in map(json.loads, whole):
                if "id" in message:
                    self._answers.put(message)
                else:
                    self.events.append((message["method"], message["params"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """A browser with an empty profile, ended at the end."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # It reads from descriptor 3 and writes to 4. dash takes descriptors of one digit only.
    shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
    process = subprocess.Popen(
        ["bash", "-c", shell, "bash", "chromium", *FLAGS, f"--user-data-dir={profile}"],
        pass_fds=(theirs_in, theirs_out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Chromium(ours_out, ours_in)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(ours_out)
