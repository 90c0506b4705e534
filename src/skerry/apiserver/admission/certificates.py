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
from skerry.base import x509

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
            Forbidden: no such permission on the signer, or a forbidden subject.
        """
        if request.kind.storage != gvk.CSRS.group_resource:
            return
        if request.operation == "create" and not request.subresource:
            self._subject(request)
        elif request.operation == "update" and request.old is not None:
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

    @staticmethod
    def _subject(request: AdmissionRequest) -> None:
        spec = request.obj.get("spec") or {}
        if spec.get("signerName") != _CLIENT:
            return
        try:
            found = x509.read_csr(x509.from_pem(base64.b64decode(str(spec.get("request") or ""))))
        except (x509.X509Error, binascii.Error, ValueError) as exc:
            raise request.forbidden(f"spec.request cannot be read: {exc}") from exc
        if MASTERS in found.organizations:
            raise request.forbidden(f"use of {_CLIENT} signer with {MASTERS} group is not allowed")


def _differs(obj: Object, old: Object, name: str) -> bool:
    return (obj.get("status") or {}).get(name) != (old.get("status") or {}).get(name)
