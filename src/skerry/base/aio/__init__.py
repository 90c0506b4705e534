"""Tasks, queues, clocks and delays for asyncio."""
