"""Scripts that run inside isolated Paddle environments, as files: never imported by the controller."""
