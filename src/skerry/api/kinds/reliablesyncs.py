"""ObjectSync and ClusterObjectSync: their fields, which are the same.

Source: kubeedge build/crds, staging/src/github.com/kubeedge/api/apis (v1.23).
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion

OBJECTSYNC = """
spec object
  objectAPIVersion string
  objectKind string
  objectName string
status object
  objectResourceVersion string
"""

KINDS = (
    CustomKind(
        "reliablesyncs.kubeedge.io",
        "ObjectSync",
        "objectsyncs",
        (CustomVersion("v1alpha1", OBJECTSYNC, has_status_subresource=True),),
    ),
    CustomKind(
        "reliablesyncs.kubeedge.io",
        "ClusterObjectSync",
        "clusterobjectsyncs",
        (CustomVersion("v1alpha1", OBJECTSYNC, has_status_subresource=True),),
        namespaced=False,
    ),
)
