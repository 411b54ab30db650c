"""The fleet itself: the verbs that every door calls, and the tasks that run its agents."""
