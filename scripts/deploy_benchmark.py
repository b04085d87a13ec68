"""Measure deployment: python scripts/deploy_numbers.py filter|handover|loop|monitor [--policy NAME] [--task arm-pick]."""

import argparse
import json

import deploy_numbers as numbers
import torch

from dfplan.policies import Imitation, ImitationConfig
from dfplan.tools.hardware import hardware


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("filter", "handover", "loop", "monitor"))
    parser.add_argument("--policy", default="arm-pick")
    parser.add_argument("--task", default="arm-pick", choices=("arm-pick", "arm-reach"))
    parser.add_argument("--chunk", type=int, default=4, help="env steps executed for each decision")
    parser.add_argument("--memory", type=int, default=1, help="steps of history shown")
    parser.add_argument("--temperature", type=float, default=0.0, help="of decisions")
    parser.add_argument("--seed", type=int, default=0, help="of the first start (handover)")
    parser.add_argument("--count", type=int, default=1_000_000, help="hostile actions (filter)")
    parser.add_argument("--episodes", type=int, default=30, help="of each kind")
    parser.add_argument(
        "--calm", type=int, default=300, help="undisturbed episodes to calibrate on, and to test (monitor)"
    )
    parser.add_argument("--seconds", type=float, default=600.0, help="of the loop in real time")
    parser.add_argument("--worker", default="thread", choices=("thread", "process"))
    parser.add_argument("--show", default="clean", choices=("clean", "noised"))
    parser.add_argument(
        "--demonstrations",
        help="held-out demonstrations to calibrate on (monitor); else the policy's own episodes",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "filter":
        out = numbers.adversarial(args.count)
    else:
        policy = (
            args.policy
            if args.what == "loop" and args.worker == "process"
            else Imitation.load(
                args.policy,
                ImitationConfig(memory=args.memory, chunk=args.chunk, temperature=args.temperature),
            )
        )
        if args.what == "handover":
            out = numbers.handovers(
                policy, args.task, range(args.seed, args.seed + args.episodes), show=args.show
            )
        elif args.what == "loop":
            out = numbers.realtime(policy, args.task, args.seconds, args.worker)
        else:
            from dfplan.data import load

            held_out = load(args.demonstrations) if args.demonstrations else None
            out = numbers.watch(policy, args.task, held_out, args.episodes, args.calm)
    print(json.dumps({"hardware": hardware(), args.what: out}, indent=1))


if __name__ == "__main__":
    main()
