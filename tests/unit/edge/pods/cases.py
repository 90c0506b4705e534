"""Pods and observations for the tables."""

from typing import Any

from skerry.edge.pods.view import BACKOFF_ANNOTATION, Stimulus
from skerry.runtime.ports import ContainerState, ObservedContainer, ObservedPod, ObservedSandbox

NOW_S = 1_750_000_000.0
SANDBOX = "sandbox-0"


def pod(*, inits: tuple[str, ...] = (), policy: str = "Always", deleting: bool = False, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "web", "namespace": "default", "uid": "u1"}
    if deleting:
        metadata |= {"deletionTimestamp": "2025-06-15T15:06:50Z", "deletionGracePeriodSeconds": 30}
    containers = [{"name": "app", "image": "img"}]
    found: dict[str, Any] = {"containers": containers, "restartPolicy": policy, "nodeName": "n1"}
    if inits:
        found["initContainers"] = [{"name": name, "image": "img"} for name in inits]
    return {"metadata": metadata, "spec": found | spec}


def container(
    name: str = "app",
    state: ContainerState = ContainerState.RUNNING,
    *,
    attempt: int = 0,
    code: int = 0,
    ran_s: float = 1.0,
    ended_ago_s: float = 0.0,
    backoff_s: float = 0.0,
    sandbox: str = SANDBOX,
    **more: Any,
) -> ObservedContainer:
    finished_s = NOW_S - ended_ago_s if state is ContainerState.EXITED else 0.0
    started_s = finished_s - ran_s if finished_s else NOW_S - 5
    return ObservedContainer(
        id=f"{name}-{attempt}",
        sandbox_id=sandbox,
        name=name,
        attempt=attempt,
        state=state,
        image="img",
        image_ref="img@1",
        created_at_s=started_s + attempt,
        started_at_s=started_s if state is not ContainerState.CREATED else 0.0,
        finished_at_s=finished_s,
        exit_code=code,
        annotations={BACKOFF_ANNOTATION: str(backoff_s)},
        **more,
    )


def exited(name: str = "app", *, code: int = 0, **more: Any) -> ObservedContainer:
    return container(name, ContainerState.EXITED, code=code, **more)


def seen(*containers: ObservedContainer, ready: bool = True) -> ObservedPod:
    sandbox = ObservedSandbox(SANDBOX, "default", "web", "u1", 0, ready, NOW_S - 10, ips=("10.0.0.5",))
    return ObservedPod("u1", "default", "web", [sandbox], list(containers))


def now(**more: Any) -> Stimulus:
    return Stimulus(now_s=NOW_S, **more)
