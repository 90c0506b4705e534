"""Admission: what is put into objects, and what is refused, around defaulting and validation.

Two explicit lists of steps, run in order: ``mutating`` before the object is validated, ``validating`` after it, right
before it is stored. A step may change ``request.obj`` in place (mutating only), add warnings, or raise ``ApiError``.
Steps read other objects from the store's memory and never write, so a dry run needs no exception here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from skerry.apiserver.admission.certificates import CertificateSigners, CertificateSubjects
from skerry.apiserver.admission.events import EventRate
from skerry.apiserver.admission.limits import LimitRanges
from skerry.apiserver.admission.namespaces import NamespaceLifecycle
from skerry.apiserver.admission.nodes import NodeRestriction, taint_new_nodes
from skerry.apiserver.admission.pod_levels import PodLevels
from skerry.apiserver.admission.pods import (
    Priorities,
    RuntimeOverhead,
    ServiceAccounts,
    default_tolerations,
    edge_toleration,
)
from skerry.apiserver.admission.quotas import ResourceQuotas
from skerry.apiserver.admission.request import AdmissionRequest, Collect, Find
from skerry.apiserver.admission.storage import ClaimGrowth, IngressDefaults, StorageDefaults
from skerry.apiserver.admission.warnings import warn
from skerry.apiserver.auth.rbac import Attributes
from skerry.base.certificates import Certifier

Step = Callable[[AdmissionRequest], None]


class Interceptor(Protocol):
    """What users put into the chain: policies and webhooks."""

    async def mutate(self, request: AdmissionRequest) -> bool:
        """Change ``request.obj``; whether it was changed."""

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse by raising ``ApiError``."""


class AdmissionChain:
    """The steps of this server.

    Args:
        find: looks up one object.
        collection: the objects of a storage resource.
        letters: makes the random end of names, given a length.
        monotonic_s: a clock that never goes back.
        allows: what users may do.
        certs: reads certificate requests.
        interceptors: run after the steps, in this order.
    """

    def __init__(
        self,
        *,
        find: Find,
        collection: Collect,
        letters: Callable[[int], str],
        monotonic_s: Callable[[], float],
        allows: Callable[[Attributes], bool],
        certs: Certifier,
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        limits = LimitRanges(collection)
        self._quotas = ResourceQuotas(collection)
        self._subjects = CertificateSubjects(certs)
        self._interceptors = tuple(interceptors)
        self.mutating: Sequence[Step] = (
            NamespaceLifecycle(find),
            NodeRestriction(find),
            EventRate(monotonic_s),
            limits.mutate,
            ServiceAccounts(find, letters=letters),
            taint_new_nodes,
            Priorities(find, collection),
            default_tolerations,
            edge_toleration,
            RuntimeOverhead(find),
            StorageDefaults(collection),
            IngressDefaults(collection),
        )
        self.validating: Sequence[Step] = (
            limits.validate,
            PodLevels(find, collection),
            ClaimGrowth(find),
            CertificateSigners(allows),
            warn,
        )

    async def mutate(self, request: AdmissionRequest) -> None:
        """Every mutating step, in order; ``request.obj`` is the result.

        Raises:
            ApiError: a step refuses.
        """
        for step in self.mutating:
            step(request)
        is_changed = False
        for interceptor in self._interceptors:
            is_changed = await interceptor.mutate(request) or is_changed
        if is_changed:  # what was put in gets its defaults too: a mounted token, a priority
            for step in self.mutating:
                step(request)

    async def connect(self, request: AdmissionRequest) -> None:
        """What users put into the chain, for a connection into a pod; ``request.obj`` are its options.

        Raises:
            ApiError: a policy or a webhook refuses.
        """
        for interceptor in self._interceptors:
            await interceptor.mutate(request)
        for interceptor in self._interceptors:
            await interceptor.validate(request)

    @asynccontextmanager
    async def admitted(self, request: AdmissionRequest) -> AsyncIterator[None]:
        """Every validating step; the block then stores the object while quotas are held for it.

        Raises:
            ApiError: a step refuses.
        """
        for step in self.validating:
            step(request)
        await self._subjects.check(request)
        for interceptor in self._interceptors:
            await interceptor.validate(request)
        async with self._quotas.held(request):
            yield
