"""Addresses and node ports of Services: given out at create and update, unique by looking at all Services.

The caller holds one lock over choice and store, so two Services never get the same.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Iterable
from typing import Any

from skerry.api.field import invalid, invalid_object
from skerry.api.gvk import Object

NODE_PORTS = (30000, 32767)


class ServiceAddresses:
    """Chooses for one Service at a time.

    Args:
        network: range of cluster addresses; the first host address belongs to ``default/kubernetes``.
        rng: dynamic choices begin at a random place.
    """

    def __init__(self, *, network: str = "10.96.0.0/16", rng: random.Random | None = None) -> None:
        self.network = ipaddress.ip_network(network)
        self._rng = rng or random.Random()

    @property
    def first(self) -> str:
        """The address of ``default/kubernetes``."""
        return str(self.network[1])

    def assign(self, service: Object, old: Object | None, others: Iterable[Object]) -> None:
        """Fill ``clusterIP`` and node ports of ``service`` in place.

        Args:
            old: its present state.
            others: every other Service.

        Raises:
            Invalid: an asked address or port is taken or out of range.
        """
        spec = service["spec"]
        before = (old or {}).get("spec") or {}
        taken = [other.get("spec") or {} for other in others]
        if spec.get("type") == "ExternalName":
            for name in ("clusterIP", "clusterIPs"):
                spec.pop(name, None)
            return
        self._address(service, spec, before, {str(other.get("clusterIP")) for other in taken})
        self._ports(service, spec, before, taken)

    def _address(self, service: Object, spec: dict[str, Any], before: dict[str, Any], taken: set[str]) -> None:
        asked = spec.get("clusterIP") or (spec.get("clusterIPs") or [""])[0]
        asked = asked or before.get("clusterIP") or ""
        if not asked:
            asked = self._choose(taken)
        elif asked != "None" and asked != before.get("clusterIP"):
            self._check(service, asked, taken)
        spec["clusterIP"] = asked
        spec["clusterIPs"] = [asked]

    def _choose(self, taken: set[str]) -> str:
        size = self.network.num_addresses
        offset = min(max(16, size // 16), 256)
        upper, lower = range(offset, size - 1), range(2, offset)
        for band in (upper, lower):
            if band:
                start = self._rng.randrange(len(band))
                for step in range(len(band)):
                    address = str(self.network[band[(start + step) % len(band)]])
                    if address not in taken:
                        return address
        raise _refused({"metadata": {"name": ""}}, "spec.clusterIPs", "", "the range of cluster addresses is full")

    def _check(self, service: Object, asked: str, taken: set[str]) -> None:
        try:
            inside = ipaddress.ip_address(asked) in self.network
        except ValueError:
            raise _refused(service, "spec.clusterIPs[0]", asked, "must be a valid IP address") from None
        if not inside:
            why = f"failed to allocate IP {asked}: the provided IP is not in the valid range {self.network}"
            raise _refused(service, "spec.clusterIPs", [asked], why)
        if asked in taken:
            why = f"failed to allocate IP {asked}: provided IP is already allocated"
            raise _refused(service, "spec.clusterIPs", [asked], why)

    def _ports(
        self, service: Object, spec: dict[str, Any], before: dict[str, Any], taken: list[dict[str, Any]]
    ) -> None:
        if spec.get("type") not in ("NodePort", "LoadBalancer"):
            for port in spec.get("ports") or ():
                port.pop("nodePort", None)
            return
        used = {port["nodePort"] for other in taken for port in other.get("ports") or () if port.get("nodePort")}
        kept = {(p.get("port"), p.get("protocol", "TCP")): p.get("nodePort") for p in before.get("ports") or ()}
        for index, port in enumerate(spec.get("ports") or ()):
            wanted: int | None = port.get("nodePort") or kept.get((port.get("port"), port.get("protocol", "TCP")))
            if wanted:
                self._check_port(service, index, wanted, used)
            else:
                wanted = self._choose_port(used)
            port["nodePort"] = wanted
            used.add(wanted)

    @staticmethod
    def _check_port(service: Object, index: int, wanted: int, used: set[int]) -> None:
        low, high = NODE_PORTS
        if not low <= wanted <= high:
            why = f"provided port is not in the valid range. The range of valid ports is {low}-{high}"
            raise _refused(service, f"spec.ports[{index}].nodePort", wanted, why)
        if wanted in used:
            raise _refused(service, f"spec.ports[{index}].nodePort", wanted, "provided port is already allocated")

    def _choose_port(self, used: set[int]) -> int:
        low, high = NODE_PORTS
        offset = min(max(16, (high - low + 1) // 32), 128)
        band = [*range(low + offset, high + 1), *range(low, low + offset)]
        start = self._rng.randrange(len(band) - offset)
        for step in range(len(band)):
            port: int = band[(start + step) % len(band)]
            if port not in used:
                return port
        raise _refused({"metadata": {"name": ""}}, "spec.ports", "", "the range of node ports is full")


def _refused(service: Object, field: str, value: Any, why: str) -> Exception:
    return invalid_object("Service", "", service["metadata"].get("name", ""), [invalid(field, value, why)])
