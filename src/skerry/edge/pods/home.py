"""What one pod has on the node's disk besides its containers: volumes, hosts file, last words, verdict, logs."""

from __future__ import annotations

from pathlib import Path

from skerry.base import json
from skerry.base.files import write_atomic
from skerry.base.values import Struct
from skerry.edge.pods.view import Verdict
from skerry.runtime import volumes
from skerry.runtime.trees import remove_tree


class PodHome(Struct, frozen=True):
    """The places.

    Args:
        directory: of this pod, named by its uid.
        logs: ``<container>/<attempt>.log`` lie below.
    """

    directory: Path
    logs: Path

    @property
    def volumes(self) -> Path:
        """One directory per volume."""
        return self.directory / "volumes"

    @property
    def hosts(self) -> Path:
        """The hosts file of its containers."""
        return self.directory / "etc-hosts"

    def last_words(self, container: str, attempt: int) -> Path:
        """What a container leaves at its ``terminationMessagePath``."""
        return self.directory / "last-words" / container / str(attempt)

    def make_last_words(self, container: str, attempt: int) -> Path:
        """An empty file that any user may write."""
        path = self.last_words(container, attempt)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.touch()
        path.chmod(0o666)
        return path

    def read_verdict(self) -> Verdict | None:
        """What ``write_verdict`` wrote, over restarts of the agent."""
        try:
            found = json.loads((self.directory / _VERDICT).read_bytes())
            return Verdict(str(found["reason"]), str(found["message"]), found["grace_s"])
        except (OSError, json.JsonError, KeyError, TypeError):
            return None

    def write_verdict(self, verdict: Verdict) -> None:
        """Keep it before it is acted upon."""
        self.directory.mkdir(parents=True, exist_ok=True)
        found = {"reason": verdict.reason, "message": verdict.message, "grace_s": verdict.grace_s}
        write_atomic(self.directory / _VERDICT, json.dumps(found), mode=0o600)

    def remove_volumes(self) -> None:
        """The volumes, with their mounts; the rest stays until the pod is deleted."""
        volumes.remove(self.volumes)

    def remove(self) -> None:
        """Everything, with its mounts."""
        volumes.remove(self.volumes)
        remove_tree(self.directory)
        remove_tree(self.logs)


_VERDICT = "verdict.json"
