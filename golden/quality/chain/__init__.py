"""The trained model on the bit-exact twin of the decode core, in every layer and KV head.

The quality lab runs methods in float. Here the attention of every decode step is that of the
hardware: `golden.twin.sequence_cache.SequenceCache` imports the prompt, appends each token, attends
in integers, adds up what the score tap gives, and closes windows. Beside it run FP16, the float
reference and the lab's own `KVO`, on the same sequences.
"""
