"""ServiceAccountAccess: its fields.

Source: kubeedge build/crds, staging/src/github.com/kubeedge/api/apis (v1.23).
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion

SERVICEACCOUNTACCESS = """
spec object!
  accessClusterRoleBinding []object
    clusterRoleBinding object
      apiVersion string
      kind string
      metadata @EmbeddedMeta
      roleRef @RoleRef! atomic
      subjects []@Subject list=atomic atomic-items
    rules []@PolicyRule
  accessRoleBinding []object
    roleBinding object
      apiVersion string
      kind string
      metadata @EmbeddedMeta
      roleRef @RoleRef! atomic
      subjects []@Subject list=atomic atomic-items
    rules []@PolicyRule
  serviceAccount object
    apiVersion string
    automountServiceAccountToken bool
    imagePullSecrets []@LocalReference list=atomic atomic-items
    kind string
    metadata @EmbeddedMeta
    secrets []@ObjectReference list=map:name atomic-items
  serviceAccountUid string
status object
  nodeList []string
"""

KINDS = (
    CustomKind(
        "policy.kubeedge.io",
        "ServiceAccountAccess",
        "serviceaccountaccesses",
        (CustomVersion("v1alpha1", SERVICEACCOUNTACCESS, has_status_subresource=True),),
        short_names=("saaccess",),
    ),
)
