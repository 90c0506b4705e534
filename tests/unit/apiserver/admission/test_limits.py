"""LimitRanges on pods and claims, in Kubernetes' words."""

# ruff: noqa: E501 - cases stand on one line

from __future__ import annotations

from typing import Any

import pytest

from skerry.apiserver.admission.limits import ANNOTATION, broken, fill_defaults


def limits(kind: str, **bounds: Any) -> dict[str, Any]:
    return {"spec": {"limits": [{"type": kind, **bounds}]}}


def pod(**resources: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}


def test_defaults_fill_what_is_missing_and_say_so() -> None:
    obj = pod(requests={"cpu": "300m"})
    obj["spec"]["initContainers"] = [{"name": "i", "image": "i"}]
    fill_defaults(obj, limits("Container", default={"cpu": "500m"}, defaultRequest={"cpu": "100m", "memory": "1Mi"}))
    first, init = obj["spec"]["containers"][0], obj["spec"]["initContainers"][0]
    assert first["resources"] == {"requests": {"cpu": "300m", "memory": "1Mi"}, "limits": {"cpu": "500m"}}
    assert init["resources"] == {"requests": {"cpu": "100m", "memory": "1Mi"}, "limits": {"cpu": "500m"}}
    assert obj["metadata"]["annotations"][ANNOTATION] == (
        "LimitRanger plugin set: memory request for container c; cpu limit for container c; "
        "cpu, memory request for init container i; cpu limit for init container i"
    )


@pytest.mark.parametrize(
    ("bounds", "resources", "text"),
    [
        ({"min": {"cpu": "1"}}, {}, "minimum cpu usage per Container is 1.  No request is specified"),
        (
            {"min": {"cpu": "1"}},
            {"requests": {"cpu": "500m"}},
            "minimum cpu usage per Container is 1, but request is 500m",
        ),
        ({"max": {"cpu": "1"}}, {"requests": {"cpu": "1"}}, "maximum cpu usage per Container is 1.  No limit is specified"),
        ({"max": {"cpu": "1"}}, {"limits": {"cpu": "2"}}, "maximum cpu usage per Container is 1, but limit is 2"),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"limits": {"cpu": "3"}},
            "cpu max limit to request ratio per Container is 2, but no request is specified or request is 0",
        ),
        ({"min": {"cpu": "1"}, "max": {"cpu": "2"}}, {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}, ""),
    ],
)  # fmt: skip
def test_bounds_of_containers(bounds: dict[str, Any], resources: dict[str, Any], text: str) -> None:
    assert list(broken(pod(**resources), limits("Container", **bounds))) == ([text] if text else [])


def test_bounds_of_pods_sum_their_containers() -> None:
    obj = pod(limits={"memory": "3Mi"}, requests={"memory": "3Mi"})
    obj["spec"]["containers"].append(dict(obj["spec"]["containers"][0], name="d"))
    found = list(broken(obj, limits("Pod", max={"memory": "5Mi"})))
    assert found == ["maximum memory usage per Pod is 5Mi, but limit is 6Mi"]


def test_bounds_of_claims() -> None:
    claim = {"metadata": {"name": "c"}, "spec": {"resources": {"requests": {"storage": "5Gi"}}}}
    bounds = limits("PersistentVolumeClaim", min={"storage": "10Gi"}, max={"storage": "1Gi"})
    assert list(broken(claim, bounds)) == [
        "minimum storage usage per PersistentVolumeClaim is 10Gi, but request is 5Gi",
        "maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 5Gi",
    ]
