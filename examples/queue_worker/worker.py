"""A worker that takes jobs from a queue: one task for each job, named after it, and a failed job is tried again."""

from __future__ import annotations

import queue
from dataclasses import dataclass

import spanpost
from spanpost.agent import agent_task


@dataclass
class Job:
    """A job as the queue holds it."""

    id: str
    text: str
    requested_by: str
    attempt: int = 1


def work(job: Job) -> None:
    """Do one job. Its id and its attempt make the task's id, so a repeated delivery is the same task."""
    retried = {"retry_of": f"{job.id}-{job.attempt - 1}"} if job.attempt > 1 else {}
    with agent_task(
        job.text,
        agent="worker",
        task_id=f"{job.id}-{job.attempt}",
        topic="jobs",
        requested_by=job.requested_by,
        **retried,
    ):
        if "invoice" in job.text and job.attempt == 1:
            raise TimeoutError("the printer did not answer")


def run(jobs: queue.Queue[Job]) -> None:
    """Work until the queue is empty; try each job at most twice."""
    while not jobs.empty():
        job = jobs.get()
        try:
            work(job)
        except TimeoutError:
            if job.attempt < 2:
                jobs.put(Job(job.id, job.text, job.requested_by, job.attempt + 1))


if __name__ == "__main__":
    app = spanpost.attach()
    waiting: queue.Queue[Job] = queue.Queue()
    waiting.put(Job("job-1", "Print the invoice of order 4711", "mina@example.com"))
    waiting.put(Job("job-2", "Translate the manual", "joon@example.com"))
    run(waiting)
    app.shutdown(30)
