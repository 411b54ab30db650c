"""The running agents: the verbs that every door calls, and the tasks that carry agents out."""
