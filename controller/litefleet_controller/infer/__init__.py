"""The command `infer`: reads and checks inputs, runs them on devices, checks and compares the outputs."""
