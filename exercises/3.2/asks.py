#!/usr/bin/env python3
"""Asks a server for an action: asks.py PORT ACTION EXPRESSION STEP...; for the
steps see checks.bats. Says what is not as expected."""
import json
import pathlib
import socket
import sys

sys.dont_write_bytecode = True
HELPERS = pathlib.Path(__file__).resolve().parents[2] / "tests/helpers"
sys.path.insert(0, str(HELPERS))
import protocol  # noqa: E402


def short(value):
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 160 else f"{text[:100]} … {text[-30:]}"


class Peer:
    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), timeout=5)
        self.input = b""

    def receive(self):
        """The next response, as a value, or what came instead, as words."""
        while (message := protocol.decode(self.input)) is None:
            try:
                more = self.stream.recv(65536)
            except TimeoutError:
                return "no answer within 5 s"
            except OSError as error:
                return f"the end of the connection: {error.strerror}"
            if not more:
                return "the end of the connection"
            self.input += more
        _, content, taken = message
        self.input = self.input[taken:]
        return json.loads(content)

    def ask(self, request, wanted):
        self.stream.sendall(protocol.encode(
            "text/json", "utf-8", request.encode()))
        if (came := self.receive()) != wanted:
            came = came if isinstance(came, str) else short(came)
            request = short(json.loads(request))
            sys.exit(f"asked {request}\ngot {came}\nnot {short(wanted)}")


def main(port, action, result, *steps):
    peer, steps = Peer(int(port)), list(steps)

    def value(text):
        request = {"action": action, "value": text}
        peer.ask(json.dumps(request, ensure_ascii=False),
                 {"result": eval(result, {"value": text})})

    while steps:
        match steps.pop(0):
            case "value":
                value(json.loads(f'"{steps.pop(0)}"'))
            case "times":
                count, text = int(steps.pop(0)), eval(steps.pop(0))
                for _ in range(count):
                    value(text)
            case "json":
                request = steps.pop(0)
                text = json.loads(request)["value"]
                peer.ask(request, {"result": eval(result, {"value": text})})
            case "gets":
                request, wanted = steps.pop(0), json.loads(steps.pop(0))
                peer.ask(request, wanted)
            case "end":
                if (came := peer.receive()) != "the end of the connection":
                    sys.exit(f"after an error, {short(came)} came, not the end")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except protocol.Wrong as error:
        sys.exit(f"the response breaks a rule: {error}")
