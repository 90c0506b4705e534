"""Rule and RuleEndpoint of the message router: their fields. Rule has a status without a subresource.

Source: kubeedge build/crds, staging/src/github.com/kubeedge/api/apis (v1.23).
"""

from __future__ import annotations

from skerry.api.kinds.fields import CustomKind, CustomVersion

RULE = """
spec object
  source string!
  sourceResource map[string]!
  target string!
  targetResource map[string]!
status object
  successMessages int
  failMessages int
  errors []string
"""

RULEENDPOINT = """
spec object
  ruleEndpointType string! enum=rest|eventbus|servicebus
  properties map[string]
"""

KINDS = (
    CustomKind(
        "rules.kubeedge.io",
        "Rule",
        "rules",
        (CustomVersion("v1", RULE),),
    ),
    CustomKind(
        "rules.kubeedge.io",
        "RuleEndpoint",
        "ruleendpoints",
        (CustomVersion("v1", RULEENDPOINT),),
        short_names=("re",),
    ),
)
