"""Enrolment: which certificate a node holds, and whether it is revoked. Our own kind; one object per node, of its name.

``spec.revoked`` is for people and programs to set: while it is true, none of the node's certificates is good. The
status is the join server's, in the same document, so that a new certificate and the end of the old one are one write.
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion, PrinterColumn

ENROLMENT = """
spec object
  revoked bool
  reason string
status object
  fingerprint string
  issuer string
  notAfter string
  token string
  hasConnected bool
  replaced string
  revoked []string list=atomic
  address string
"""

KINDS = (
    CustomKind(
        "skerry.dev",
        "Enrolment",
        "enrolments",
        (
            CustomVersion(
                "v1alpha1",
                ENROLMENT,
                columns=(
                    PrinterColumn("Revoked", "boolean", ".spec.revoked"),
                    PrinterColumn("Not After", "string", ".status.notAfter"),
                    PrinterColumn("Address", "string", ".status.address"),
                    PrinterColumn("Reason", "string", ".spec.reason"),
                    PrinterColumn("Age", "date", ".metadata.creationTimestamp"),
                ),
            ),
        ),
        namespaced=False,
    ),
)
