"""StatefulSets: ``plan`` decides, ``claims`` keeps volumes claims, ``loop`` writes."""
