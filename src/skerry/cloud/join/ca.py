"""The authority of node certificates, kept in the cluster in upstream's form.

Secrets in namespace ``kubeedge``, values DER: ``casecret{cadata,cakeydata}``,
``cloudcoresecret{cloudcoredata,cloudcorekeydata}``. A Go cloudcore can go on with what we wrote, and we with its.

A rollover makes a new authority and keeps the certificate of the older one in ``skerry-older-authorities``
(``<fingerprint>.crt``), with a certificate of the newer key by the older one (``<fingerprint>.link``). Servers send
the links after their own certificate, so a node that knows only the older authority can still verify them, whenever
it comes back; and certificates of older authorities stay good until theirs is retired.

Source: kubeedge cloud/pkg/cloudhub/servers/httpserver/pre_server.go (v1.23).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Iterable
from pathlib import Path

from skerry.api.gvk import NAMESPACES, SECRETS, Object
from skerry.api.status import AlreadyExists, NotFound
from skerry.base.aio.clock import Clock, SystemClock
from skerry.base.certificates import Certifier, Credential, X509Error, fingerprint, from_pem, save, to_pem
from skerry.base.errors import ConfigError
from skerry.base.files import make_private_dir, write_atomic
from skerry.base.obs.log import get_log
from skerry.base.values import Struct
from skerry.kube.ports import KubeApi
from skerry.wire.kubeedge import constants as c

log = get_log(__name__)

SECRET_OLDER = "skerry-older-authorities"
_RENEW_BEFORE_S = 30 * 86_400


class TlsFiles(Struct, frozen=True):
    """Where a listener finds its certificate, key, and the CA of its clients."""

    cert_file: Path
    key_file: Path
    ca_file: Path


class OlderAuthority(Struct, frozen=True):
    """An authority before a rollover: its certificate, and that of the next newer one's key by it. Both DER."""

    cert_der: bytes
    link_der: bytes


class Authority(Struct, frozen=True):
    """The CA that signs node certificates, the server certificate of hub, join and tunnel, and what was before."""

    ca: Credential
    server: Credential
    older: tuple[OlderAuthority, ...] = ()

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """Certificates (DER) of every authority whose certificates are good; the present one first."""
        return tuple(dict.fromkeys((self.ca.cert_der, *(older.cert_der for older in self.older))))

    @property
    def bundle_pem(self) -> bytes:
        """``trusted`` as PEM."""
        return b"".join(to_pem("CERTIFICATE", der) for der in self.trusted)

    def write_files(self, directory: Path) -> TlsFiles:
        """Put what listeners need on the disk (the CA's key is not needed there)."""
        make_private_dir(directory)
        files = TlsFiles(directory / "server.crt", directory / "server.key", directory / "ca.crt")
        save(self.server, files.cert_file, files.key_file)
        links = [older.link_der for older in self.older if older.cert_der != self.ca.cert_der]
        chain = [self.server.cert_pem, *(to_pem("CERTIFICATE", der) for der in links)]
        write_atomic(files.cert_file, b"".join(chain))
        write_atomic(files.ca_file, self.bundle_pem)
        return files


class AuthorityStore:
    """Loads the authority, or makes it on the first start.

    Args:
        api: the cluster.
        hosts: names and addresses under which nodes reach us, with or without ports.
        certs: makes and reads certificates.
        clock: time source for validity.
    """

    def __init__(self, api: KubeApi, hosts: Iterable[str], *, certs: Certifier, clock: Clock | None = None) -> None:
        self._api = api
        self._certs = certs
        self._hosts = tuple(dict.fromkeys(map(host_of, hosts)))
        self._clock = clock or SystemClock()

    def set_hosts(self, hosts: Iterable[str]) -> None:
        """Other names and addresses, from the next ``load`` on; those in the certificate stay in it."""
        self._hosts = tuple(dict.fromkeys(map(host_of, hosts)))

    async def load(self, *, may_create: bool = True) -> Authority:
        """The authority. The server certificate is made anew when a host is missing in it or it expires soon.

        Raises:
            ConfigError: a secret is there but cannot be used; it is never overwritten. Or it is missing, and
                ``may_create`` is False.
            ApiError: the cluster refused.
        """
        await ensure_namespace(self._api)
        ca = await self._load(c.SECRET_CA, c.SECRET_CA_CERT, c.SECRET_CA_KEY)
        if ca is None and not may_create:
            raise _unusable(c.SECRET_CA, "it has been deleted")
        if ca is None:
            ca = await self._certs.new_ca(c.CA_NAME, serial=1024, now_s=self._clock.now_s())
            ca = await self._create(c.SECRET_CA, c.SECRET_CA_CERT, c.SECRET_CA_KEY, ca)
            log.info("ca.created", fingerprint=fingerprint(ca.cert_der))
        return Authority(ca, await self._server(ca), await self._older())

    async def rotate(self) -> Authority:
        """Make a new authority; the present one becomes an older one. Running clouds see it and go on with it.

        Raises:
            ConfigError, ApiError: as ``load``.
        """
        return await self.succeed(await self._certs.new_ca(c.CA_NAME, now_s=self._clock.now_s()))

    async def succeed(self, new: Credential, older: Iterable[OlderAuthority] = ()) -> Authority:
        """Go on with this authority; the present one becomes an older one.

        Args:
            older: those before it, which stay trusted, too.

        Raises:
            ConfigError, ApiError: as ``load``.
        """
        present, older = (await self.load(may_create=False)).ca, list(older)
        if all(one.cert_der != present.cert_der for one in older):
            # One line of authorities: with two links of one key clients of OpenSSL may try the wrong one only.
            first = await self._oldest(new.cert_der, older)
            link = await self._certs.cross_sign(present, first, now_s=self._clock.now_s())
            older.append(OlderAuthority(present.cert_der, link))
        await self._add_older(older)
        data = {c.SECRET_CA_CERT: _encoded(new.cert_der), c.SECRET_CA_KEY: _encoded(new.key_der)}
        await self._api.patch(SECRETS, c.SECRET_CA, {"data": data}, namespace=c.NAMESPACE)
        log.info("ca.rotated", fingerprint=fingerprint(new.cert_der), older=fingerprint(present.cert_der))
        return await self.load(may_create=False)

    async def _oldest(self, new: bytes, older: Iterable[OlderAuthority]) -> bytes:
        """Where the line of authorities that leads to this one begins: the certificate that no link is of."""
        first, left = new, list(older)
        while (before := await self._before(first, left)) is not None:
            left.remove(before)
            first = before.cert_der
        return first

    async def _before(self, cert_der: bytes, older: Iterable[OlderAuthority]) -> OlderAuthority | None:
        for one in older:
            if await self._certs.is_of_same_key(one.link_der, cert_der):
                return one
        return None

    async def look(self) -> tuple[Credential, tuple[OlderAuthority, ...]] | None:
        """The authority and those before it, without making anything; None when there is none.

        Raises:
            ConfigError: a secret is there but cannot be used.
        """
        ca = await self._load(c.SECRET_CA, c.SECRET_CA_CERT, c.SECRET_CA_KEY)
        return None if ca is None else (ca, await self._older())

    async def give(self, ca: Credential, older: Iterable[OlderAuthority]) -> None:
        """Put an authority in place of whatever is there. The server certificate of another one goes: the cloud that
        starts next makes its own, for its own addresses."""
        await ensure_namespace(self._api)
        await self._add_older(older)
        if await self._create(c.SECRET_CA, c.SECRET_CA_CERT, c.SECRET_CA_KEY, ca) != ca:
            data = {c.SECRET_CA_CERT: _encoded(ca.cert_der), c.SECRET_CA_KEY: _encoded(ca.key_der)}
            await self._api.patch(SECRETS, c.SECRET_CA, {"data": data}, namespace=c.NAMESPACE)
        server = await self._load(c.SECRET_SERVER, c.SECRET_SERVER_CERT, c.SECRET_SERVER_KEY)
        if server is not None and not await self._certs.is_issued_by(server.cert_der, ca.cert_der):
            await self._api.delete(SECRETS, c.SECRET_SERVER, namespace=c.NAMESPACE)

    async def retire(self, which: str) -> bool:
        """Trust the older authority of this fingerprint no more; False when there is none."""
        found = [a for a in await self._older() if fingerprint(a.cert_der) == which]
        if not found:
            return False
        name = which[:32]
        patch = {"data": {f"{name}.crt": None, f"{name}.link": None}}
        await self._api.patch(SECRETS, SECRET_OLDER, patch, namespace=c.NAMESPACE)
        log.info("ca.retired", fingerprint=which)
        return True

    async def _older(self) -> tuple[OlderAuthority, ...]:
        try:
            secret = await self._api.get(SECRETS, SECRET_OLDER, namespace=c.NAMESPACE)
        except NotFound:
            return ()
        names = sorted(key.removesuffix(".crt") for key in secret.get("data") or {} if key.endswith(".crt"))
        try:
            return tuple(
                OlderAuthority(value_of(secret, f"{name}.crt"), value_of(secret, f"{name}.link")) for name in names
            )
        except (KeyError, binascii.Error) as exc:
            raise _unusable(SECRET_OLDER, str(exc)) from exc

    async def _add_older(self, older: Iterable[OlderAuthority]) -> None:
        data: dict[str, bytes] = {}
        for one in older:
            name = fingerprint(one.cert_der)[:32]
            data |= {f"{name}.crt": one.cert_der, f"{name}.link": one.link_der}
        if not data:
            return
        try:
            await self._api.create(SECRETS, secret_object(SECRET_OLDER, data), namespace=c.NAMESPACE)
        except AlreadyExists:
            patch = {"data": {key: _encoded(value) for key, value in data.items()}}
            await self._api.patch(SECRETS, SECRET_OLDER, patch, namespace=c.NAMESPACE)

    async def _server(self, ca: Credential) -> Credential:
        names = (c.SECRET_SERVER, c.SECRET_SERVER_CERT, c.SECRET_SERVER_KEY)
        server = await self._load(*names)
        if server is not None and await self._is_good(server, ca):
            return server
        former = () if server is None else (await self._certs.read_certificate(server.cert_der)).hosts
        hosts = (*self._hosts, *former)
        made = await self._certs.issue_server(ca, [h for h in hosts if h], now_s=self._clock.now_s())
        log.info("ca.server_certificate_issued", hosts=list(dict.fromkeys(hosts)))
        if server is None:
            return await self._create(*names, made)
        data = {"data": {names[1]: _encoded(made.cert_der), names[2]: _encoded(made.key_der)}}
        await self._api.patch(SECRETS, c.SECRET_SERVER, data, namespace=c.NAMESPACE)
        return made

    async def _is_good(self, server: Credential, ca: Credential) -> bool:
        info = await self._certs.read_certificate(server.cert_der)
        return (
            set(self._hosts) <= set(info.hosts)
            and info.not_after_s > self._clock.now_s() + _RENEW_BEFORE_S
            and await self._certs.is_issued_by(server.cert_der, ca.cert_der)
        )

    async def _load(self, name: str, cert_key: str, key_key: str) -> Credential | None:
        try:
            secret = await self._api.get(SECRETS, name, namespace=c.NAMESPACE)
        except NotFound:
            return None
        try:
            return await self._certs.pair(value_of(secret, cert_key), value_of(secret, key_key))
        except (X509Error, KeyError, binascii.Error) as exc:
            raise _unusable(name, str(exc)) from exc

    async def _create(self, name: str, cert_key: str, key_key: str, credential: Credential) -> Credential:
        try:
            data = {cert_key: credential.cert_der, key_key: credential.key_der}
            await self._api.create(SECRETS, secret_object(name, data), namespace=c.NAMESPACE)
        except AlreadyExists:  # another replica was faster: its one counts
            return await self._load(name, cert_key, key_key) or credential
        return credential


async def ca_certificate(api: KubeApi) -> bytes:
    """The CA certificate (DER) of a cluster, for printing tokens.

    Raises:
        ConfigError: the cloud has never run on this cluster.
    """
    try:
        secret = await api.get(SECRETS, c.SECRET_CA, namespace=c.NAMESPACE)
    except NotFound as exc:
        raise ConfigError(
            f"secret {c.NAMESPACE}/{c.SECRET_CA} is missing", hint="start the cloud once: skerry cloud run"
        ) from exc
    return from_pem(value_of(secret, c.SECRET_CA_CERT))


async def ensure_namespace(api: KubeApi) -> None:
    """Make the namespace of our secrets when it is missing."""
    try:
        await api.get(NAMESPACES, c.NAMESPACE)
    except NotFound:
        try:
            await api.create(NAMESPACES, {"metadata": {"name": c.NAMESPACE}})
        except AlreadyExists:
            return


def host_of(text: str) -> str:
    """The host of ``host``, ``host:port``, ``[v6]:port`` or a bare IPv6 address."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def secret_object(name: str, data: dict[str, bytes], *, labels: dict[str, str] | None = None) -> Object:
    """An Opaque secret in our namespace."""
    meta: Object = {"name": name, "namespace": c.NAMESPACE}
    if labels:
        meta["labels"] = labels
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": meta,
        "type": "Opaque",
        "data": {key: _encoded(value) for key, value in data.items()},
    }


def value_of(secret: Object, key: str) -> bytes:
    """One decoded value. Raises KeyError when it is missing, binascii.Error when it is broken."""
    return base64.b64decode((secret.get("data") or {})[key], validate=True)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _unusable(name: str, why: str) -> ConfigError:
    return ConfigError(
        f"secret {c.NAMESPACE}/{name} cannot be used: {why}",
        hint="restore it from a backup; or delete it: a new authority is made and every node must join again",
    )
