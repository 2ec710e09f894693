"""The lab: ARM devices on one x86 machine, for tests that want the real thing."""
