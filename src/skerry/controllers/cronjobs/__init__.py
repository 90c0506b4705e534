"""CronJobs: ``plan`` decides which Job is due, ``loop`` makes it and clears up."""
