"""The KV-MMU: pages, page tables, and the check of every access (docs/kv_mmu.md)."""
