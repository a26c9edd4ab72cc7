"""The program that dispycos_client5.py runs at servers: reads lines from standard input, and answers each after a while."""

import sys
import time

for number, line in enumerate(sys.stdin, 1):
    time.sleep(0.1)
    print(f"line {number} has {len(line.split())} words", flush=True)
