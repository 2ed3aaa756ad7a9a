"""A headless Chromium driven over a pipe (Chrome DevTools Protocol): no driver program, no port, no package."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")


def find_chromium() -> str | None:
    """Returns the path of a Chromium program, None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One tab with the network off. `problems` holds console errors and exceptions, `requests` what it asked for."""

    def __init__(self, width: int = 1280, height: int = 820, *, phone: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="xtalgen-browser-"))
        read_commands, self._commands = os.pipe()
        self._answers, write_answers = os.pipe()
        flags = ["--headless", "--no-sandbox", "--no-first-run", "--disable-extensions", *SOFTWARE_GL]
        flags += ["--remote-debugging-pipe", f"--user-data-dir={self.folder / 'profile'}", "about:blank"]
        # Chromium reads commands from descriptor 3 and writes answers to 4.
        wiring = f'exec "$@" 3<&{read_commands} 4>&{write_answers}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", wiring, "bash", str(find_chromium()), *flags],
            pass_fds=(read_commands, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        self._rest, self._count, self._session = b"", 0, None
        self.problems: list[str] = []
        self.requests: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
        self.resize(width, height, phone=phone)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Returns the answer to a command of the protocol; raises RuntimeError when it is an error."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def run(self, script: str) -> Any:
        """Returns the value of an expression, awaited when it is a promise; raises RuntimeError when it throws."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"])[:1000])
        return result["result"].get("value")

    def wait(self, condition: str, seconds: float = 90.0) -> None:
        """Waits until an expression is true; raises TimeoutError, with what the console said."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} did not come true; {self.problems}")
            time.sleep(0.05)

    def open(self, page: Path, fragment: str = "") -> None:
        """Opens a page from disk and waits until the explorer in it stands."""
        self.send("Page.navigate", url="about:blank")
        self.problems.clear()
        self.requests.clear()
        self.send("Page.navigate", url=page.as_uri() + fragment)
        self.wait(
            "document.readyState === 'complete' && (window.explorer || document.getElementById('message').textContent)"
        )
        self.settle()

    def settle(self) -> None:
        """Waits until two frames are drawn."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Moves, presses or releases the mouse: kind "Moved", "Pressed" or "Released"."""
        pressed = {} if kind == "Moved" else {"button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **(pressed | more))

    def key(self, key: str) -> None:
        """Presses a key."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    def resize(self, width: int, height: int, *, phone: bool = False) -> None:
        """Sets the size of the page in CSS pixels."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )

    def screenshot(self, clip: dict[str, float] | None = None) -> bytes:
        """Returns a PNG of the page, or of a part: x, y, width, height."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        return base64.b64decode(self.send("Page.captureScreenshot", **more)["data"])

    def close(self) -> None:
        """Ends the browser and removes its folder."""
        self._session = None
        try:
            self.send("Browser.close")
            self._process.wait(20)
        except (OSError, RuntimeError, subprocess.TimeoutExpired):
            self._process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._answers, 1 << 20)
            if not chunk:
                raise RuntimeError("Chromium ended")
            self._rest += chunk
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(params["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(params["entry"]["text"])
        elif event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.problems.append(str(params["args"])[:500])
        elif event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
