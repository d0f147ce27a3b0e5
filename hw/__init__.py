"""The hardware generator: configuration, record formats, cores, memory system and tools."""
