"""What a turn waits for: the queue, inputs, leases, questions, pauses, durable waits."""
