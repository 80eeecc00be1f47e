"""One harness for faults: real processes, a seed that plans the faults, and a checker of what was acknowledged.

``python -m tests.faults.soak --seed 7 --seconds 120`` starts PostgreSQL, a fake Slack, gateways and agents, sends
telemetry, deals the faults of the seed's plan, and compares the end with the spans that were acknowledged.

- `world`: the processes. `network`: the TCP proxy before PostgreSQL. `sent`: what was sent and acknowledged.
- `senders`, `people`, `agents`: the actors. Another one is an `Actor` in `actors.ACTORS`.
- `dealt`, `of_processes`, `of_the_database`, `of_slack`: the faults. Another one is a `Fault` under `@dealt`.
- `plan`: which fault when, from the seed alone. `checker`: the findings. `__main__`: one run and its report.
"""
