"""What starts functions besides HTTP and Durable: timers, queues, blobs."""
