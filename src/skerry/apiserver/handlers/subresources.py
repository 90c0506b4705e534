"""Subresources that are more than a part of the object: scale, binding, eviction, token, finalize."""

from __future__ import annotations

import datetime
from typing import Any

from skerry.api.gvk import Object
from skerry.api.status import BadRequest, Forbidden, conflict, not_found
from skerry.apiserver.auth.authn import MAX_TOKEN_S, MIN_TOKEN_S, ServiceAccountTokens
from skerry.apiserver.auth.nodes import node_of
from skerry.apiserver.calls import Answer, Call
from skerry.apiserver.handlers.apply import Applies
from skerry.apiserver.handlers.crud import Objects
from skerry.apiserver.handlers.eviction import Eviction
from skerry.apiserver.request_info import invalid_options
from skerry.apiserver.store.entry import Entry
from skerry.apiserver.store.log import Key
from skerry.base.aio.clock import Clock
from skerry.base.values import replace

_SUCCESS: Object = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
_DEFAULT_TOKEN_S = 3600


class Subresources:
    """Answers them over the objects' core.

    Args:
        objects: the core.
        applies: the apply verb, for ``scale``.
        tokens: issues service account tokens.
        clock: time of conditions.
    """

    def __init__(self, *, objects: Objects, applies: Applies, tokens: ServiceAccountTokens, clock: Clock) -> None:
        self._objects = objects
        self._applies = applies
        self._tokens = tokens
        self._clock = clock
        self._eviction = Eviction(objects)

    async def get(self, call: Call) -> Answer:
        """GET of ``scale``."""
        return Answer(200, obj=scale_of(call, await self._objects.shown(call, self._objects.find(call))))

    async def update(self, call: Call, obj: Object) -> Answer:
        """PUT of ``scale`` or ``finalize``."""
        if call.info.subresource == "scale":
            return await self._set_scale(call, obj)
        return await self._finalize(call, obj)

    async def patch(self, call: Call, patch_type: str, patch: Any) -> Answer:
        """PATCH of ``scale``."""
        if patch_type == "apply":
            return await self._apply_scale(call, patch)
        current = scale_of(call, await self._objects.shown(call, self._objects.find(call)))
        changed = self._objects.semantics.patch(
            call.kind, "merge" if patch_type == "strategic" else patch_type, current, patch
        )
        return await self._set_scale(call, changed, was=current)

    async def create(self, call: Call, obj: Object) -> Answer:
        """POST of ``binding``, ``eviction`` or ``token``."""
        if call.info.subresource:
            obj = await self._objects.admit_part(call, obj)
        if call.info.subresource == "binding" or call.kind.resource.plural == "bindings":
            return await self._bind(call, obj)
        if call.info.subresource == "eviction":
            return await self._evict(call, obj)
        return self._token(call, obj)

    async def _set_scale(self, call: Call, scale: Object, *, was: Object | None = None) -> Answer:
        _replicas(scale)
        entry = self._objects.find(call)
        pinned = _part(scale, "metadata").get("resourceVersion")
        if pinned and pinned != str(entry.rv) and (was is None or pinned != was["metadata"]["resourceVersion"]):
            raise conflict(call.kind.resource.group_resource, call.name)
        before = scale_of(call, await self._objects.shown(call, entry))
        replicas = _replicas(await self._objects.admit_part(call, scale, old=before))
        path = _scale_paths(call)[0]
        changed = await self._objects.change(call, lambda obj: _put(obj, path, replicas))
        return Answer(200, obj=scale_of(call, changed))

    async def _apply_scale(self, call: Call, scale: Object) -> Answer:
        """Own the number of replicas, and nothing else."""
        _part(scale, "metadata")
        config: Object = {"metadata": {}}
        _put(config, _scale_paths(call)[0], _replicas(scale))
        applied = await self._applies.apply_accepted(call, config)
        assert applied.entry is not None
        return Answer(200, obj=scale_of(call, applied.entry))

    async def _finalize(self, call: Call, obj: Object) -> Answer:
        finalizers = (obj.get("spec") or {}).get("finalizers") or []

        def edit(stored: Object) -> None:
            spec = stored.setdefault("spec", {})
            spec["finalizers"] = list(finalizers)
            if not finalizers:
                del spec["finalizers"]

        return Answer(200, await self._objects.change(call, edit))

    async def _bind(self, call: Call, binding: Object) -> Answer:
        name = call.name or str((binding.get("metadata") or {}).get("name") or "")
        node = str((binding.get("target") or {}).get("name") or "")
        if not node:
            raise BadRequest('Binding "" is invalid: target.name: Required value')
        pod_call = _pod_call(call, self._objects, name)
        moment = self._objects.now_text()

        def edit(pod: Object) -> None:
            spec = pod["spec"]
            if spec.get("nodeName"):
                why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
                raise conflict("pods/binding", name, why)
            if pod["metadata"].get("deletionTimestamp"):
                raise conflict("pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host")
            spec["nodeName"] = node
            extra = (binding.get("metadata") or {}).get("annotations")
            if extra:
                pod["metadata"].setdefault("annotations", {}).update(extra)
            condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": moment}
            status = pod.setdefault("status", {})
            others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
            status["conditions"] = [*others, condition]

        await self._objects.change(pod_call, edit)
        return Answer(201, obj=dict(_SUCCESS))

    async def _evict(self, call: Call, eviction: Object) -> Answer:
        await self._eviction.run(call, eviction)
        return Answer(201, obj=dict(_SUCCESS))

    def _token(self, call: Call, request: Object) -> Answer:
        entry = self._objects.find(call)
        spec = request.get("spec") or {}
        self._check_node(call, spec.get("boundObjectRef"))
        expires_s = int(spec.get("expirationSeconds") or _DEFAULT_TOKEN_S)
        if not MIN_TOKEN_S <= expires_s <= MAX_TOKEN_S:
            raise invalid_options(
                "TokenRequest",
                "spec.expirationSeconds",
                f"Invalid value: {expires_s}: may not specify a duration less than 10 minutes",
            )
        audiences = [str(name) for name in spec.get("audiences") or ()] or [self._tokens.issuer]
        account = {"name": entry.key.name, "uid": entry.uid}
        bound = self._bound(call, spec.get("boundObjectRef"))
        token, expiry = self._tokens.issue(
            namespace=call.namespace, account=account, audiences=audiences, expires_s=expires_s, bound=bound
        )
        text = datetime.datetime.fromtimestamp(expiry, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": call.name, "namespace": call.namespace, "creationTimestamp": self._objects.now_text()},
            "spec": {
                "audiences": audiences,
                "expirationSeconds": expires_s,
                "boundObjectRef": spec.get("boundObjectRef"),
            },
            "status": {"token": token, "expirationTimestamp": text},
        }
        return Answer(201, obj=answer)

    def _check_node(self, call: Call, reference: dict[str, Any] | None) -> None:
        """A node asks for tokens of its own pods only, and bound to them."""
        node = node_of(call.user.name, call.user.groups)
        if not node:
            return
        text = ""
        if not reference or reference.get("kind") != "Pod" or not reference.get("uid"):
            text = f'node "{node}" may only request tokens bound to a pod, with its uid'
        else:
            pod = self._objects.store.get(Key("pods", call.namespace, str(reference.get("name", ""))))
            spec = pod.content().get("spec") or {} if pod is not None and pod.uid == reference["uid"] else {}
            if spec.get("nodeName") != node:
                text = f'node "{node}" requested a token bound to a pod scheduled on a different node'
        if text:
            details = {"name": call.name, "kind": "serviceaccounts"}
            raise Forbidden(f'serviceaccounts "{call.name}" is forbidden: {text}', details=details)

    def _bound(self, call: Call, reference: dict[str, Any] | None) -> dict[str, Any]:
        if not reference:
            return {}
        plural = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}.get(str(reference.get("kind")))
        if plural is None:
            raise BadRequest(f"boundObjectRef.kind {reference.get('kind')!r} is none of Pod, Secret, Node")
        name = str(reference.get("name", ""))
        entry = self._objects.store.get(Key(plural, "" if plural == "nodes" else call.namespace, name))
        if entry is None:
            raise not_found(plural, name)
        if reference.get("uid") and reference["uid"] != entry.uid:
            raise conflict(plural, name, "the UID in the bound object reference does not match the UID in record")
        bound: dict[str, Any] = {plural[:-1]: {"name": name, "uid": entry.uid}}
        if plural != "pods":
            return bound
        spec = entry.content().get("spec") or {}
        if spec.get("serviceAccountName") != call.name:
            raise BadRequest(
                f'cannot bind token for serviceaccount "{call.name}" to pod running with different serviceaccount name.'
            )
        if spec.get("nodeName"):
            node = self._objects.store.get(Key("nodes", "", spec["nodeName"]))
            uid = {"uid": node.uid} if node is not None else {}
            bound["node"] = {"name": spec["nodeName"], **uid}
        return bound


def scale_of(call: Call, entry: Entry) -> Object:
    """The Scale of an object."""
    obj = entry.content()
    meta = obj["metadata"]
    spec_path, status_path, selector_path = _scale_paths(call)
    selector = _at(obj, selector_path) if selector_path else None
    scale: Object = {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: meta[name] for name in ("name", "namespace", "uid", "creationTimestamp") if name in meta}
        | {"resourceVersion": str(entry.rv)},
        "spec": {"replicas": _at(obj, spec_path) or 0},
        "status": {"replicas": _at(obj, status_path) or 0},
    }
    if selector:
        scale["status"]["selector"] = selector if isinstance(selector, str) else selector_text(selector)
    return scale


def selector_text(selector: dict[str, Any]) -> str:
    """A LabelSelector in the words of a query."""
    terms = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression["key"], ",".join(sorted(expression.get("values") or ()))
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append(words[expression["operator"]])
    return ",".join(terms)


def _scale_paths(call: Call) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    if call.kind.custom is None:
        return ("spec", "replicas"), ("status", "replicas"), ("spec", "selector")
    scale = call.kind.custom.scale or {}
    return (
        _split(scale.get("specReplicasPath", ".spec.replicas")),
        _split(scale.get("statusReplicasPath", ".status.replicas")),
        _split(scale.get("labelSelectorPath", "")),
    )


def _replicas(scale: Object) -> int:
    replicas = _part(scale, "spec").get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        raise invalid_options(
            "Scale", "spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0"
        )
    return replicas


def _part(scale: Object, name: str) -> Object:
    part = scale.get(name) or {}
    if not isinstance(part, dict):
        raise invalid_options("Scale", name, "Invalid value: must be an object")
    return part


def _split(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split(".") if part)


def _at(obj: Object, path: tuple[str, ...]) -> Any:
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _put(obj: Object, path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        obj = obj.setdefault(part, {})
    obj[path[-1]] = value


def _pod_call(call: Call, objects: Objects, name: str) -> Call:
    """The call on the pod that a binding names."""
    kind = call.kind
    if kind.storage != "pods":
        kind = replace(kind, storage="pods")
    return Call(call.user, replace(call.info, name=name, subresource="binding"), kind, call.options)
