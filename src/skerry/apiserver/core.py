"""The server without HTTP: every part joined, and one method per verb that finds, authorizes and answers a call.

``http.py`` and ``local.py`` are the two doors to it.
"""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry.api import gvk
from skerry.api.crds import crd_manifests
from skerry.api.gvk import NAMESPACES, NODEMETRICS, Object, Resource
from skerry.api.kinds.access import GROUP as RBAC_GROUP
from skerry.api.meta import STORE_GENERATION
from skerry.api.status import MethodNotAllowed, NotFound
from skerry.apiserver import bootstrap, strategies
from skerry.apiserver.admission.chain import AdmissionChain
from skerry.apiserver.auth.access import Access
from skerry.apiserver.auth.authn import Authenticator, ServiceAccountTokens, TokenCheck, User
from skerry.apiserver.auth.bootstrap_policy import completed
from skerry.apiserver.auth.bootstrap_tokens import BootstrapTokens
from skerry.apiserver.auth.escalation import Escalation
from skerry.apiserver.auth.rbac import Attributes
from skerry.apiserver.builtin_kinds import builtin_kinds
from skerry.apiserver.calls import Answer, Call, ListAnswer
from skerry.apiserver.custom import CustomResources
from skerry.apiserver.expiry import EventExpiry
from skerry.apiserver.handlers import components
from skerry.apiserver.handlers.apply import Applies, refuse_force
from skerry.apiserver.handlers.bodies import DeleteOptions
from skerry.apiserver.handlers.crud import Objects
from skerry.apiserver.handlers.lists import ListOptions
from skerry.apiserver.handlers.reviews import Reviews
from skerry.apiserver.handlers.subresources import Subresources
from skerry.apiserver.handlers.usage import Usages
from skerry.apiserver.handlers.watch import OnStop, Watch, Watches
from skerry.apiserver.node_usage import NodeUsages
from skerry.apiserver.registry import Kind, Registry
from skerry.apiserver.request_info import RequestInfo, WriteOptions, parse
from skerry.apiserver.semantics import Semantics
from skerry.apiserver.service_ips import ServiceAddresses
from skerry.apiserver.store.log import Key
from skerry.apiserver.store.objects import ObjectStore
from skerry.apiserver.webhooks.checks import PolicyStatus, expression_errors
from skerry.apiserver.webhooks.client import WebhookClient
from skerry.apiserver.webhooks.conversion import Conversions
from skerry.apiserver.webhooks.dispatch import Webhooks
from skerry.apiserver.webhooks.matching import Matcher
from skerry.apiserver.webhooks.policies import Policies
from skerry.apiserver.webhooks.shapes import Shapes
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.aio.supervise import Supervisor
from skerry.base.certificates import Certifier
from skerry.base.certifier import ChildCertifier
from skerry.base.jwt import SigningKey
from skerry.base.values import replace
from skerry.kube.ports import NodeConnector

ISSUER = "https://kubernetes.default.svc.cluster.local"
_OBJECT_SUBRESOURCES = ("", *strategies.PARTS)


EVENT_TTL_S = 3600.0


class ApiCore:
    """One cluster's objects and rules.

    Args:
        database: the SQLite file.
        token_key: file of the key that signs service account tokens; made when missing.
        clock: time of everything that is written.
        issuer: of service account tokens.
        service_network: range of Service addresses.
        crds: CustomResourceDefinitions that every cluster has; None for those of KubeEdge's kinds.
        synchronous: FULL (survives a power cut) or NORMAL.
        token_checks: further ways to tell who holds a bearer token.
        nodes: reaches nodes to ask what they use; None and ``metrics.k8s.io`` knows of nothing.
        event_ttl_s: how long Events are kept after they were last seen; 0 keeps all.
        certs: reads certificate requests; None for a process of its own, started when there is one to read.
    """

    def __init__(
        self,
        *,
        database: Path,
        token_key: Path,
        clock: Clock | None = None,
        issuer: str = ISSUER,
        service_network: str = "10.96.0.0/16",
        synchronous: str = "FULL",
        crds: Sequence[Object] | None = None,
        rng: random.Random | None = None,
        token_checks: Sequence[TokenCheck] = (),
        nodes: NodeConnector | None = None,
        event_ttl_s: float = EVENT_TTL_S,
        certs: Certifier | None = None,
    ) -> None:
        own = ChildCertifier()
        self._end_certs, certs = own.aclose, certs or own
        self._crds = crd_manifests() if crds is None else crds
        self.clock = clock or SystemClock()
        self.registry = Registry(builtin_kinds())
        self.semantics = Semantics(expression_errors=expression_errors)
        self.store = ObjectStore(database, clock=self.clock, synchronous=synchronous)
        self.tokens = ServiceAccountTokens(
            key=SigningKey.load_or_make(token_key), issuer=issuer, clock=self.clock, find=self.store.get
        )
        self.token_checks: Sequence[TokenCheck] = (
            self.tokens,
            BootstrapTokens(find=self.store.get, clock=self.clock),
            *token_checks,
        )
        self.access = Access(self.store)
        self.addresses = ServiceAddresses(network=service_network, rng=rng)
        matcher = Matcher(find=self.store.get, registry=self.registry)
        self.hooks = WebhookClient(find=self.store.get, collection=self.store.collection)
        conversions = Conversions(self.hooks)
        shapes = Shapes(self.semantics, conversions)
        webhooks = Webhooks(
            client=self.hooks,
            matcher=matcher,
            collection=self.store.collection,
            access=self.access,
            show=shapes.show,
            accept=shapes.accept,
        )
        policies = Policies(
            find=self.store.get,
            collection=self.store.collection,
            registry=self.registry,
            matcher=matcher,
            shapes=shapes,
            access=self.access,
            semantics=self.semantics,
        )
        admission = self.admission = AdmissionChain(
            find=self.store.get,
            collection=self.store.collection,
            letters=lambda count: self.objects.letters(count),
            monotonic_s=self.clock.monotonic_s,
            allows=self.access.allows,
            certs=certs,
            interceptors=(policies, webhooks),
        )
        self.objects = Objects(
            store=self.store,
            semantics=self.semantics,
            admission=admission,
            conversions=conversions,
            clock=self.clock,
            rng=rng,
        )
        self.objects.before_store["services"] = self._assign_addresses
        escalation = Escalation(self.access)
        for row in (gvk.ROLES, gvk.CLUSTERROLES, gvk.ROLEBINDINGS, gvk.CLUSTERROLEBINDINGS):
            self.objects.before_store[row.group_resource] = escalation.check
        self._policy_status = PolicyStatus(registry=self.registry, semantics=self.semantics)
        self.objects.before_store[gvk.VALIDATINGPOLICIES.group_resource] = self._check_policy
        self.applies = Applies(self.objects, require_create=self._require_create)
        self.objects.before_store[gvk.CSRS.group_resource] = _note_requester
        self.watches = Watches(self.objects, rng=rng)
        self.subresources = Subresources(
            objects=self.objects, applies=self.applies, tokens=self.tokens, clock=self.clock
        )
        self.reviews = Reviews(
            access=self.access, tokens=self.tokens, authenticator=Authenticator(checks=self.token_checks)
        )
        self.custom = CustomResources(objects=self.objects, registry=self.registry)
        self.usages = Usages(
            NodeUsages(nodes, clock=self.clock),
            semantics=self.semantics,
            collection=self.store.collection,
            rv=lambda: self.store.rv,
        )
        self._service_lock = asyncio.Lock()
        self._expiry = EventExpiry(self.store, clock=self.clock, ttl_s=event_ttl_s)
        self._supervisor = Supervisor("apiserver", clock=self.clock)

    async def start(self) -> None:
        """Create what every cluster has, serve the stored CRDs, start the store's upkeep."""
        initial = bootstrap.initial_objects(self.addresses.first, str(self.addresses.network), self._crds)
        for are_namespaces in (True, False):  # together, so that they share commits
            part = [each for each in initial if (each[0] == NAMESPACES) is are_namespaces]
            await asyncio.gather(*(self._ensure(*each) for each in part))
        await self._publish_generation()
        await self.custom.start()
        self.store.start()
        self._supervisor.keep("event-expiry", self._expiry.run)

    async def publish(self, address: str, port: int, *, client_ca_pem: str) -> None:
        """Tell the cluster where this server is, and which authority signs its clients' certificates.

        Args:
            address: behind the Service ``kubernetes``.
        """
        today = datetime.datetime.fromtimestamp(self.clock.now_s(), datetime.UTC).date().isoformat()
        found = [*bootstrap.address_objects(address, port), bootstrap.client_authority(client_ca_pem)]
        await self._ensure(*bootstrap.token_tracking(today))
        for resource, obj in found:
            if not await self._ensure(resource, obj):
                meta = obj["metadata"]
                info = parse("PUT", resource.path(meta["namespace"], meta["name"]))
                await self.update(self.call(bootstrap.SYSTEM_USER, info), obj)

    async def aclose(self) -> None:
        """Finish writes and close the store."""
        await self._supervisor.aclose()
        await self.custom.aclose()
        await self.hooks.aclose()
        await self._end_certs()
        await self.store.aclose()

    def call(self, user: User, info: RequestInfo, options: WriteOptions | None = None) -> Call:
        """Find the row of a request and check that the user may and the verb fits.

        Raises:
            NotFound: nothing is served there.
            Forbidden: not allowed.
            MethodNotAllowed: the resource has no such verb.
        """
        self.access.require(attributes(user, info))
        kind = self.registry.find(info.group, info.version, info.resource)
        if kind is None or not _fits_scope(kind, info):
            raise NotFound("the server could not find the requested resource", details={})
        if not _has_verb(kind, info):
            if info.subresource and kind.subresource(info.subresource) is None:
                raise NotFound("the server could not find the requested resource", details={})
            raise MethodNotAllowed("the server does not allow this method on the requested resource", details={})
        call = Call(user, info, kind, options or WriteOptions())
        if kind.custom is not None and kind.custom.deprecation:
            call.warnings.append(kind.custom.deprecation)
        return call

    async def get(self, call: Call) -> Answer:
        """One object, or its scale."""
        if call.kind.resource.group == NODEMETRICS.group:
            return await self.usages.get(call)
        if not call.kind.is_stored:
            return components.get(call)
        if call.info.subresource in _OBJECT_SUBRESOURCES:
            return await self.objects.get(call)
        return await self.subresources.get(call)

    async def list(self, call: Call, options: ListOptions) -> ListAnswer:
        """A page."""
        if call.kind.resource.group == NODEMETRICS.group:
            return await self.usages.page(call, options)
        if not call.kind.is_stored:
            return components.page(self.store.rv)
        return await self.objects.list(call, options)

    def watch(self, call: Call, options: ListOptions, *, on_stop: OnStop | None = None) -> Watch:
        """Changes."""
        return self.watches.run(call, options, on_stop=on_stop)

    async def create(self, call: Call, obj: Object) -> Answer:
        """Create, review, or POST to a subresource."""
        if call.info.subresource or call.kind.resource.plural == "bindings":
            return await self.subresources.create(call, obj)
        if not call.kind.is_stored:
            return await self.reviews.create(call, obj)
        if call.kind.storage == "services":
            async with self._service_lock:
                return await self.objects.create(call, obj)
        return await self.objects.create(call, obj)

    async def update(self, call: Call, obj: Object) -> Answer:
        """Replace the object, its status, or its scale."""
        if call.info.subresource not in _OBJECT_SUBRESOURCES:
            return await self.subresources.update(call, obj)
        if call.kind.storage == "services":
            async with self._service_lock:
                return await self.objects.update(call, obj)
        return await self.objects.update(call, obj)

    async def patch(self, call: Call, patch_type: str, patch: Any) -> Answer:
        """Patch the object, its status, or its scale; ``apply`` takes a configuration."""
        refuse_force(call, patch_type)
        if call.info.subresource not in _OBJECT_SUBRESOURCES:
            return await self.subresources.patch(call, patch_type, patch)
        if call.kind.storage == "services":
            async with self._service_lock:
                return await self._patch(call, patch_type, patch)
        return await self._patch(call, patch_type, patch)

    async def delete(self, call: Call, options: DeleteOptions) -> Answer:
        """Delete one object."""
        return await self.objects.delete(call, options)

    async def delete_collection(self, call: Call, listing: ListOptions, options: DeleteOptions) -> ListAnswer:
        """Delete all that a list shows."""
        return await self.objects.delete_collection(call, listing, options)

    async def _patch(self, call: Call, patch_type: str, patch: Any) -> Answer:
        if patch_type == "apply":
            return await self.applies.apply(call, patch)
        return await self.objects.patch(call, patch_type, patch)

    def _require_create(self, call: Call) -> None:
        self.access.require(attributes(call.user, replace(call.info, verb="create")))

    async def _ensure(self, resource: Resource, obj: Object) -> bool:
        """Create an object unless it is there; whether it was created."""
        meta = obj["metadata"]
        entry = self.store.get(Key(resource.group_resource, meta.get("namespace", ""), meta["name"]))
        if entry is not None:
            await self._complete(resource, entry.content(), obj)
            return False
        await self.create(self.call(bootstrap.SYSTEM_USER, parse("POST", resource.path(meta.get("namespace")))), obj)
        return True

    async def _complete(self, resource: Resource, stored: Object, wanted: Object) -> None:
        """Add what this release grants to a role or binding of an older one."""
        more = completed(stored, wanted) if resource.group == RBAC_GROUP else None
        if more is not None:
            meta = more["metadata"]
            info = parse("PUT", resource.path(meta.get("namespace"), meta["name"]))
            await self.update(self.call(bootstrap.SYSTEM_USER, info), more)

    async def _publish_generation(self) -> None:
        """Tell hub and agents which history of the store this is."""
        info = parse("PATCH", NAMESPACES.path(None, "kube-system"))
        patch = {"metadata": {"annotations": {STORE_GENERATION: self.store.generation}}}
        await self.patch(self.call(bootstrap.SYSTEM_USER, info), "merge", patch)

    async def _assign_addresses(self, call: Call, service: Object, old: Object | None) -> None:
        own = (service["metadata"].get("namespace"), service["metadata"]["name"])
        others = (
            entry.content()
            for entry in self.store.collection("services").entries()
            if (entry.key.ns, entry.key.name) != own
        )
        self.addresses.assign(service, old, others)

    async def _check_policy(self, call: Call, obj: Object, old: Object | None) -> None:
        self._policy_status.settle(obj)


async def _note_requester(call: Call, request: Object, old: Object | None) -> None:
    """A certificate request says who made it; nobody says that of himself."""
    if old is not None:
        return
    spec, user = request["spec"], call.user
    for name in ("username", "uid", "groups", "extra"):
        spec.pop(name, None)
    spec |= user.info()


def attributes(user: User, info: RequestInfo) -> Attributes:
    """A request as authorization sees it."""
    if not info.is_resource:
        return Attributes(user, info.verb, path=info.path)
    return Attributes(
        user, info.verb, info.group, info.resource, info.subresource, info.namespace, info.name, info.path,
        info.query.get("fieldSelector", ""),
    )  # fmt: skip


def _has_verb(kind: Kind, info: RequestInfo) -> bool:
    if not info.subresource:
        return info.verb in kind.verbs
    sub = kind.subresource(info.subresource)
    return sub is not None and info.verb in sub.verbs


def _fits_scope(kind: Kind, info: RequestInfo) -> bool:
    """Cluster objects have no namespace in their path; named and new namespaced ones must have one."""
    if info.resource == "namespaces":
        return True
    if not kind.resource.namespaced:
        return not info.namespace
    return bool(info.namespace) or info.verb in ("list", "watch", "deletecollection")
