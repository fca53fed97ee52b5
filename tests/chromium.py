"""A browser without a window, driven as a person would: by the DevTools protocol over two pipes.

Messages are JSON, each ended by a zero byte; Chromium reads from file descriptor 3 and writes to 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SECONDS = 60
QUIET = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync --disable-dev-shm-usage --remote-debugging-pipe"
)
KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}


class Page:
    """One page of a running browser."""

    def __init__(self, to: int, back: int, downloads: Path) -> None:
        self.to, self.back, self.downloads = to, back, downloads
        self.number, self.left, self.session = 0, b"", ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        told = {"behavior": "allow", "downloadPath": str(downloads), "eventsEnabled": True}
        self.ask("Browser.setDownloadBehavior", **told)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer; what happens meanwhile is kept in `events`."""
        self.number += 1
        session = {"sessionId": self.session} if self.session and not method.startswith("Browser.") else {}
        message = {"id": self.number, "method": method, "params": parameters} | session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while (found := self.receive()).get("id") != self.number:
            self.events.append(found)
        assert "error" not in found, (method, found["error"])
        return dict(found["result"])

    def receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while b"\0" not in self.left:
            ready = select.select([self.back], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, "the browser fell silent"
            self.left += os.read(self.back, 1 << 20)
        message, _, self.left = self.left.partition(b"\0")
        return dict(json.loads(message))

    def await_event(self, method: str, **wanted: Any) -> None:
        """Wait until something has happened that was not awaited before."""
        while True:
            for place, event in enumerate(self.events):
                if event["method"] == method and event["params"].items() >= wanted.items():
                    del self.events[place]
                    return
            self.events.append(self.receive())

    def evaluate(self, script: str) -> Any:
        told = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not self.evaluate(script):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)
        self.await_event("Page.loadEventFired")
        # Before its first frame a page hears no mouse.
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        """Scroll a thing into sight and click its middle."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{found}.scrollIntoView({{block: 'center'}})")
        box = self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({found}.getBoundingClientRect())")
        self.click_at(*box)

    def click_at(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def write(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def download(self, selector: str, name: str) -> Path:
        """Click, and wait for the file that comes of it."""
        (self.downloads / name).unlink(missing_ok=True)
        self.click(selector)
        self.await_event("Browser.downloadProgress", state="completed")
        return self.downloads / name

    def give_file(self, selector: str, path: Path) -> None:
        """Choose a file, as a person does in the dialogue."""
        found = self.ask("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.ask("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def screenshot(self, path: Path, width: int = 1400, height: int = 1000, zoom: float = 1) -> None:
        sizes = {"width": int(width / zoom), "height": int(height / zoom), "deviceScaleFactor": zoom, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **sizes)
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[dict[str, Any]]:
        """What the page threw, or wrote to its console."""
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event["params"] for event in self.events if event["method"] in kinds]


@contextmanager
def browser(folder: Path, *flags: str) -> Iterator[Page]:
    """A page of a fresh browser that keeps its profile and its downloads below `folder`."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium on this machine: the page was not opened in a browser")
    (folder / "downloads").mkdir(parents=True, exist_ok=True)
    # Both ends go above 9, so that neither is 3 or 4 when those are put in place in the child.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (*os.pipe(), *os.pipe())]

    def place() -> None:
        os.dup2(ends[0], 3)
        os.dup2(ends[3], 4)

    command = [found, *QUIET.split(), f"--user-data-dir={folder / 'profile'}", *flags]
    with subprocess.Popen(command, preexec_fn=place, close_fds=False, stderr=subprocess.DEVNULL) as process:
        try:
            yield Page(ends[1], ends[2], folder / "downloads")
        finally:
            process.terminate()
            for end in ends:
                os.close(end)
