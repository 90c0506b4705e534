"""Node jobs: NodeUpgradeJob, ImagePrePullJob, ConfigUpdateJob: their fields.

Source: kubeedge build/crds, staging/src/github.com/kubeedge/api/apis (v1.23).
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion

NODEUPGRADEJOB = """
spec object
  checkItems []string
  concurrency int32
  failureTolerate string
  image string
  imageDigestGatter object
    amd64 string
    arm64 string
    registryAPI object
      host string!
      token string!
  labelSelector @LabelSelector atomic
  nodeNames []string
  requireConfirmation bool
  timeoutSeconds int32
  version string
status object
  action string
  currentVersion string
  event string
  historicVersion string
  nodeStatus []object
    actionFlow []object
      action string
      reason string
      status string
      time string
    currentVersion string
    event string
    historicVersion string
    nodeName string
    phase string
    reason string
    state string
  phase string!
  reason string
  state string
  time string
"""

NODEUPGRADEJOB_V1ALPHA1 = """
spec object
  checkItems []string
  concurrency int32
  failureTolerate string
  image string
  imageDigestGatter object
    registryAPI object
      host string!
      token string!
    value string
  labelSelector @LabelSelector atomic
  nodeNames []string
  requireConfirmation bool
  timeoutSeconds int32
  version string
status object
  action string
  currentVersion string
  event string
  historicVersion string
  nodeStatus []object
    action string
    event string
    nodeName string
    reason string
    state string
    time string
  reason string
  state string
  time string
"""

IMAGEPREPULLJOB = """
spec object!
  imagePrePullTemplate object
    checkItems []string
    concurrency int32
    failureTolerate string
    imageSecrets string
    images []string
    labelSelector @LabelSelector atomic
    nodeNames []string
    retryTimes int32
    timeoutSeconds int32
status object
  action string
  event string
  nodeStatus []object
    actionFlow []object
      action string
      reason string
      status string
      time string
    imageStatus []object
      image string
      reason string
      status string
    nodeName string
    phase string
    reason string
  phase string!
  reason string
  state string
  status []object
    imageStatus []object
      image string
      reason string
      state string
    nodeStatus object
      action string
      event string
      nodeName string
      reason string
      state string
      time string
  time string
"""

IMAGEPREPULLJOB_V1ALPHA1 = """
spec object!
  imagePrePullTemplate object
    checkItems []string
    concurrency int32
    failureTolerate string
    imageSecrets string
    images []string
    labelSelector @LabelSelector atomic
    nodeNames []string
    retryTimes int32
    timeoutSeconds int32
status object
  action string
  event string
  reason string
  state string
  status []object
    imageStatus []object
      image string
      reason string
      state string
    nodeStatus object
      action string
      event string
      nodeName string
      reason string
      state string
      time string
  time string
"""

CONFIGUPDATEJOB = """
spec object
  concurrency int32
  failureTolerate string
  labelSelector @LabelSelector atomic
  nodeNames []string
  timeoutSeconds int32
  updateFields map[string]!
status object
  nodeStatus []object
    actionFlow []object
      action string
      reason string
      status string
      time string
    nodeName string
    phase string
    reason string
  phase string!
  reason string
"""

KINDS = (
    CustomKind(
        "operations.kubeedge.io",
        "NodeUpgradeJob",
        "nodeupgradejobs",
        (
            CustomVersion("v1alpha2", NODEUPGRADEJOB, has_status_subresource=True),
            CustomVersion("v1alpha1", NODEUPGRADEJOB_V1ALPHA1, has_status_subresource=True),
        ),
        namespaced=False,
    ),
    CustomKind(
        "operations.kubeedge.io",
        "ImagePrePullJob",
        "imageprepulljobs",
        (
            CustomVersion("v1alpha2", IMAGEPREPULLJOB, has_status_subresource=True),
            CustomVersion("v1alpha1", IMAGEPREPULLJOB_V1ALPHA1, has_status_subresource=True),
        ),
        namespaced=False,
    ),
    CustomKind(
        "operations.kubeedge.io",
        "ConfigUpdateJob",
        "configupdatejobs",
        (CustomVersion("v1alpha2", CONFIGUPDATEJOB, has_status_subresource=True),),
        namespaced=False,
    ),
)
