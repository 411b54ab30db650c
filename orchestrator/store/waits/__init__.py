"""What turns wait for: the queue, inputs, leases, questions, suspensions, durable waits."""
