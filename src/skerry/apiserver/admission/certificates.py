"""Certificate requests: who may approve and sign for which signer, and subjects that nobody gets by asking.

Source: kubernetes plugin/pkg/admission/certificates/{approval,signing,subjectrestriction}/admission.go (v1.36).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from skerry.api import gvk
from skerry.api.gvk import Object
from skerry.apiserver.admission.request import AdmissionRequest
from skerry.apiserver.auth.authn import MASTERS
from skerry.apiserver.auth.rbac import Attributes
from skerry.base.certificates import Certifier, X509Error, from_pem

_GROUP = "certificates.k8s.io"
_CLIENT = "kubernetes.io/kube-apiserver-client"


class CertificateSigners:
    """Checks writes of certificate requests.

    Args:
        allows: what users may do.
    """

    def __init__(self, allows: Callable[[Attributes], bool]) -> None:
        self._allows = allows

    def __call__(self, request: AdmissionRequest) -> None:
        """Refuse what the user may not do.

        Raises:
            Forbidden: no such permission on the signer.
        """
        if request.kind.storage != gvk.CSRS.group_resource:
            return
        if request.operation == "update" and request.old is not None:
            signer = str((request.old.get("spec") or {}).get("signerName") or "")
            if request.subresource == "approval" and _differs(request.obj, request.old, "conditions"):
                self._require(request, "approve", signer)
            elif request.subresource == "status" and _differs(request.obj, request.old, "certificate"):
                self._require(request, "sign", signer)

    def _require(self, request: AdmissionRequest, verb: str, signer: str) -> None:
        domain = f"{signer.partition('/')[0]}/*"
        if not any(
            self._allows(Attributes(request.user, verb, _GROUP, "signers", name=name)) for name in (signer, domain)
        ):
            what = "approve" if verb == "approve" else "sign"
            raise request.forbidden(f'user not permitted to {what} requests with signerName "{signer}"')


class CertificateSubjects:
    """Looks at whose certificate a new request asks for.

    Args:
        certs: reads the request.
    """

    def __init__(self, certs: Certifier) -> None:
        self._certs = certs

    async def check(self, request: AdmissionRequest) -> None:
        """Refuse subjects that nobody gets by asking.

        Raises:
            Forbidden: one of them, or the request cannot be read.
        """
        is_new = request.operation == "create" and not request.subresource
        if request.kind.storage != gvk.CSRS.group_resource or not is_new:
            return
        spec = request.obj.get("spec") or {}
        if spec.get("signerName") != _CLIENT:
            return
        try:
            found = await self._certs.read_csr(from_pem(base64.b64decode(str(spec.get("request") or ""))))
        except (X509Error, binascii.Error, ValueError) as exc:
            raise request.forbidden(f"spec.request cannot be read: {exc}") from exc
        if MASTERS in found.organizations:
            raise request.forbidden(f"use of {_CLIENT} signer with {MASTERS} group is not allowed")


def _differs(obj: Object, old: Object, name: str) -> bool:
    return (obj.get("status") or {}).get(name) != (old.get("status") or {}).get(name)
