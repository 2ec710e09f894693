"""A service whose models echo their inputs: the real callers and loop, in a process of its own.

    python echo_service.py ROOT SETTINGS.json [DESCRIPTORS]

A file "older" below ROOT has it announce no sequences.
`infer` of the model "slow" is answered after `delay_ms`, "never" not at all, "bye" ends the process, "cut" the connection,
"unwanted" is refused by its header; `big` answers with `bytes` bytes.
Each byte of the file "stopping" below ROOT has `infer` refused so once.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys

from litefleet_agent.errors import AgentError
from litefleet_agent.service.connections import ConnectionSet
from litefleet_agent.service.event_loop import EventLoop
from litefleet_agent.service.listener import listen
from litefleet_agent.service.messages import Rejection
from litefleet_agent.service.settings import settings_of


class Echo:
    def __init__(self, root, settings):
        self.root, self.loop = root, EventLoop()
        self.gone, self.served = 0, 0
        self.connections = ConnectionSet(
            self.loop, listen(settings, root, os.environ), settings, self.validate_request, self.request, self.left
        )

    def validate_request(self, connection, header, size):
        if header.get("model") == "unwanted":
            raise Rejection(f"nobody wants {size} bytes", "bad-input")

    def left(self, connection):
        self.gone += 1

    def request(self, connection, header, body, _):
        self.served += 1
        number, model = header["id"], header.get("model")
        if header.get("op") == "status":
            connection.reply({"re": number, "result": self.status(connection)})
        elif header.get("op") == "big":
            connection.reply({"re": number, "result": {}}, b"\0" * header["bytes"])
        elif header.get("op") == "metrics":
            connection.reply({"re": number, "result": {"text": "up 1\n"}})
        elif header.get("op") == "models":
            levels = {} if os.path.exists(os.path.join(self.root, "older")) else {"lod_levels": 4}
            connection.reply({"re": number, "result": {"models": [{"name": "echo"}], **levels}})
        elif header.get("op") == "health":
            connection.reply({"re": number, "result": {"health": "ok"}})
        elif model == "bye":
            os._exit(0)
        elif model == "cut":
            connection.close()
        elif model != "never":
            self.infer(connection, header, body)

    def infer(self, connection, header, body):
        flag = os.path.join(self.root, "stopping")
        if os.path.exists(flag) and os.path.getsize(flag):
            os.truncate(flag, os.path.getsize(flag) - 1)
            rejection = Rejection("the service is stopping", "stopping")
            connection.reply({"re": header["id"], "error": rejection.to_dict()})
            return
        result = {
            "model": header.get("model"),
            "release": "f" * 64,
            "outputs": header.get("inputs"),
            "ms": {"wait": 0.5, "run": 1.5},
            "batch": 1,
        }
        if header.get("model") == "slow":
            self.loop.later(
                header["delay_ms"] / 1e3, lambda: connection.reply({"re": header["id"], "result": result}, body)
            )
        else:
            connection.reply({"re": header["id"], "result": result}, body)

    def status(self, connection):
        return {
            "callers": len(self.connections),
            "gone": self.gone,
            "served": self.served,
            "peak_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "cpu_s": sum(os.times()[:2]),
            "you": [connection.pid, connection.uid, connection.gid],
        }


def main(root, settings, descriptors=""):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.pop("RUNTIME_DIRECTORY", None)
    try:
        echo = Echo(root, settings_of(json.loads(settings)))
    except AgentError as error:
        print(f"{error.code}: {error}", flush=True)
        return 1
    if descriptors:  # only so many are left
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(descriptors), int(descriptors)))
    print("ready", flush=True)
    echo.loop.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
