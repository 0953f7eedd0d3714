"""Everything that only a GPU can show, in one command of less than eight minutes.

    python -m bench.benchmarks.gpu_check --data IMAGES --out DIR
    python -m bench.benchmarks.gpu_check --data IMAGES --out DIR --part protocols    # three minutes more, if wanted

Its parts run one after the other, each in a process of its own that is killed at the end of its budget: one that
crashes, hangs or runs out of memory stops no other. What a part finds is printed line by line, and kept in
`DIR/gpu_check.json` even where the part was ended; what it and its libraries print besides is in `DIR/gpu_check.log`.
"""
