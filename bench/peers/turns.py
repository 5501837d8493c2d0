"""Turns: the arguments that all scripts of this folder take, and what they print.

A script prepares its work, does it once to warm up, and then takes turns, with a line of JSON for each. By hand there
are `--turns` of them; with `--led` each waits for a line on standard input, so that bench/peers.ts can let several
processes work one after the other.
"""

import argparse
import json
import os
import random
import resource
import sys
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch

# What libraries print goes to standard error.
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="the folder of a model")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=8, help="rows, pairs or rollouts of a turn")
    parser.add_argument("--length", type=int, default=64, help="tokens of a prompt or of a row")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--led", action="store_true")
    return parser.parse_args()


def dtype(args):
    return torch.bfloat16 if args.precision == "bf16" else torch.float32


def rows(count, length, vocabulary, seed=1):
    """Random token ids: what they are is no matter to the speed."""
    source = random.Random(seed)
    return [[source.randrange(100, vocabulary) for _ in range(length)] for _ in range(count)]


def say(line):
    print(json.dumps(line), file=out, flush=True)


def await_turn(args, done):
    """Whether there is another turn, once it is there."""
    if done == 0:
        say({"ready": True})
    return sys.stdin.readline() != "" if args.led else done < args.turns


class Stopwatch:
    """Time of a turn and of the processor in it."""

    def __enter__(self):
        self.started, self.cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self.started
        self.cpu = time.process_time() - self.cpu


def report(args, watch, units):
    say(
        {
            "precision": args.precision,
            "units": units,
            "seconds": round(watch.seconds, 4),
            "cpu": round(watch.cpu, 4),
            "rate": round(units / watch.seconds, 3),
            "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
        }
    )


def take(args, warm_up, turn):
    """Turns of a function that gives the units of work it did."""
    warm_up()
    done = 0
    while await_turn(args, done):
        with Stopwatch() as watch:
            units = turn()
        report(args, watch, units)
        done += 1
