#!/usr/bin/env python3
"""compare.py SENT BACK: says in words how a file that came back differs from
the one that was sent, or nothing if it does not."""
import sys

sent, back = (open(name, "rb").read() for name in sys.argv[1:3])
if sent != back:
    right = 0
    while right < min(len(sent), len(back)) and sent[right] == back[right]:
        right += 1
    words = f"of {len(sent):,} bytes that were sent, {len(back):,} came back"
    if right < len(back):
        words += f"; byte {right + 1:,} is the first wrong one"
    elif right < len(sent):
        words += ", and then the end"
    print(f"evidence: {words}")
