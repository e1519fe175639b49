"""ControlClient: a command's way to the running cluster, found through its data directory."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import quote

from cluster.data_directory import DataDirectory
from cluster.refusal import Refused

# The longest command waits for an actor to start, which takes its minute at the worst.
TIMEOUT_S = 120.0


class ControlClient:
    """Asks the control listener of the cluster that serves a data directory."""

    def __init__(self, data: DataDirectory) -> None:
        run = data.read_run()
        if run is None or "control" not in run:
            raise Refused(f"no cluster runs on {data.path} (start one with `helio up`)")
        self.pid = int(run["pid"])
        self._data = data
        self._address = str(run["control"])
        self._token = str(run["token"])

    def ask(self, method: str, *path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer. Raises Refused with what the cluster says, or that none is there."""
        connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT_S)
        target = "/" + "/".join(quote(part, safe="") for part in path)
        headers = {"Authorization": f"Bearer {self._token}"}
        octets = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, octets, headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except ConnectionRefusedError:
            raise Refused(f"no cluster runs on {self._data.path} (it was killed)") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Refused(f"the cluster does not answer: {error!r}") from None
        finally:
            connection.close()
        if response.status >= 400:
            raise Refused(str(answer.get("error", f"the cluster answered {response.status}")))
        assert isinstance(answer, dict)
        return answer
