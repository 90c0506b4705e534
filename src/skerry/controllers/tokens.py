"""What every namespace gets: the ServiceAccount ``default`` and the ConfigMap ``kube-root-ca.crt``.

Source: kubernetes pkg/controller/serviceaccount/serviceaccounts_controller.go and
pkg/controller/certificates/rootcacertpublisher/publisher.go (v1.36).
"""

from __future__ import annotations

from skerry.api.gvk import CONFIGMAPS, NAMESPACES, SERVICEACCOUNTS, Object
from skerry.api.meta import is_deleting
from skerry.api.status import AlreadyExists, ApiError
from skerry.controllers.loop import Loop
from skerry.kube.informer import InformerSet, Key
from skerry.kube.ports import KubeApi

ROOT_CA = "kube-root-ca.crt"
_NOTE = {"kubernetes.io/description": "Certificates that verify this cluster's API server; kept up to date by it."}


class NamespaceBasics:
    """Creates both objects and puts them back when they vanish or change.

    Args:
        api: the cluster.
        informers: shared caches.
        root_ca_pem: certificate authority of the API server.
    """

    def __init__(self, api: KubeApi, *, informers: InformerSet, root_ca_pem: str) -> None:
        self._api = api
        self._data = {"ca.crt": root_ca_pem}
        self._namespaces = informers.of(NAMESPACES)
        self._accounts = informers.of(SERVICEACCOUNTS)
        self._maps = informers.of(CONFIGMAPS, field_selector=f"metadata.name={ROOT_CA}")
        self._loop: Loop[Key] = Loop("tokens", self._sync, informers=(self._namespaces, self._accounts, self._maps))
        self._loop.follow(self._namespaces)
        self._accounts.on_event(self._content_changed)
        self._maps.on_event(self._content_changed)

    async def run(self) -> None:
        """Work; never ends."""
        await self._loop.run()

    def _content_changed(self, kind: str, old: Object | None, new: Object | None) -> None:
        obj = new or old
        if obj is not None and obj["metadata"]["name"] in (ROOT_CA, "default") and kind != "ADDED":
            self._loop.add(("", obj["metadata"]["namespace"]))

    async def _sync(self, key: Key) -> float | None:
        name = key[1]
        namespace = self._namespaces.get(name)
        if namespace is None or is_deleting(namespace):
            return None
        if self._accounts.get("default", name) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}}
            try:
                await self._api.create(SERVICEACCOUNTS, account, namespace=name)
            except AlreadyExists:
                pass
        await self._keep_root_ca(name)
        return None

    async def _keep_root_ca(self, namespace: str) -> None:
        found = self._maps.get(ROOT_CA, namespace)
        if found is not None and found.get("data") == self._data:
            return
        wanted: Object = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ROOT_CA, "namespace": namespace, "annotations": _NOTE},
            "data": self._data,
        }
        try:
            if found is None:
                await self._api.create(CONFIGMAPS, wanted, namespace=namespace)
                return
        except AlreadyExists:
            pass
        except ApiError as exc:
            if exc.code == 403:  # the namespace is going away
                return
            raise
        await self._api.patch(CONFIGMAPS, ROOT_CA, {"data": self._data}, namespace=namespace)
