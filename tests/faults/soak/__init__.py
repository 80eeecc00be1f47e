"""One harness for faults: real processes, a seed that plans the faults, and a checker of what was acknowledged.

``python -m tests.faults.soak --seed 7 --seconds 120`` starts PostgreSQL, a fake Slack, gateways and agents, sends
telemetry, deals the faults of the seed's plan, and compares the end with the spans that were acknowledged.

- `world`: the processes. `network`: the TCP proxy before PostgreSQL. `sent`: what was sent and acknowledged.
- `senders`, `people`, `agents`, `clicking`, `tenants`, `annotations`, `slack_away`, `retained`: the actors. Another one
  is an `Actor` in `actors.ACTORS`. What it adds to the gateways' settings is in `world.PREPARED`.
- `dealt`, `of_processes`, `of_the_database`, `of_tables`, `of_versions`, `of_slack`, `standby`: the faults. Another one
  is a `Fault` under `@dealt`.
- `kept`: the runs that once found a defect.
- `plan`: which fault when, from the seed alone. `checker`: the findings. `__main__`: one run and its report.
"""
