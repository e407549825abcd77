"""Real machines under qemu, this repository's playbooks on them, and what must then be true."""
