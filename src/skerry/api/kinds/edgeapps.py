"""NodeGroup and EdgeApplication: their fields.

Source: kubeedge build/crds, staging/src/github.com/kubeedge/api/apis (v1.23).
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion

EDGEAPPLICATION = """
spec object!
  workloadScope object!
    targetNodeGroups []object
      name string!
      overriders @Overriders
    targetNodeLabels []object
      labelSelector @LabelSelector atomic
      overriders @Overriders
  workloadTemplate object
    manifests []object free-items
status object
  workloadStatus []object
    conditions string enum=Processing|Available
    identifier object!
      group string
      kind string
      name string
      namespace string
      ordinal int! min=0
      resource string
      version string
"""

NODEGROUP = """
spec object!
  matchLabels map[string]
  nodes []string
  topologyEnabled bool
status object
  nodeStatuses []object
    nodeName string!
    readyStatus string!
    selectionStatus string!
    selectionStatusReason string
"""

KINDS = (
    CustomKind(
        "apps.kubeedge.io",
        "EdgeApplication",
        "edgeapplications",
        (CustomVersion("v1alpha1", EDGEAPPLICATION, has_status_subresource=True),),
        short_names=("eapp",),
    ),
    CustomKind(
        "apps.kubeedge.io",
        "NodeGroup",
        "nodegroups",
        (CustomVersion("v1alpha1", NODEGROUP, has_status_subresource=True),),
        namespaced=False,
        short_names=("ng",),
    ),
)
