"""Running a claimed turn: the worker, one attempt, its checks, its suspensions, its recovery."""
