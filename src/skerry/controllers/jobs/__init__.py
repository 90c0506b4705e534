"""Jobs: ``plan`` counts and decides, ``policies`` reads failure and success policies, ``loop`` writes."""
